"""Inputs and outputs of a model as files in ONNX's test-data convention: test_data_set_0/input_0.pb, output_0.pb.

https://github.com/onnx/onnx/blob/main/docs/OnnxBackendTest.md: each file is one serialized TensorProto.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from onnx import numpy_helper

from ..system.files import staged_together

FOLDER = "test_data_set_0"


def write_data_set(
    folder: Path,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    beside: Mapping[str, bytes] | None = None,
) -> tuple[Path, ...]:
    """Write what `data_set` says; the files appear together or not at all. Returns their paths.

    Raises `InvalidInput` or `Unavailable` for what the file system refuses.
    """
    return write_files(data_set(folder, inputs, outputs, beside))


def data_set(
    folder: Path,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    beside: Mapping[str, bytes] | None = None,
) -> dict[Path, bytes]:
    """The named tensors as files in `folder`/test_data_set_0, and the files `beside` it (name: content), by path.

    Their bytes depend on names and values only.
    """
    contents = {folder / name: data for name, data in (beside or {}).items()}
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for position, (name, values) in enumerate(tensors.items()):
            tensor = numpy_helper.from_array(values, name)
            contents[folder / FOLDER / f"{kind}_{position}.pb"] = tensor.SerializeToString(deterministic=True)
    return contents


def write_files(contents: Mapping[Path, bytes]) -> tuple[Path, ...]:
    """Write these files, together or not at all. Returns their paths. Raises as `write_data_set` does."""
    with staged_together(*contents) as temporaries:
        for temporary, data in zip(temporaries, contents.values(), strict=True):
            temporary.write_bytes(data)
    return tuple(contents)
