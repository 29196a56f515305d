"""ExecuTorch: a `.pte` program for phones and embedded devices, whose float32 arithmetic is XNNPACK's.

It takes batches of 1 to 64. The example that it is lowered with has 64: XNNPACK plans its memory by the example, and a
program lowered with two images fails on sixteen, whatever its dimension says.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..errors import InvalidInput
from ..runtimes import require_runtime
from ..system.outside import MAX_MODEL_BYTES, read_regular
from ..system.torch_state import tracing
from . import FileFacts, Request
from .metadata import MAX_METADATA_BYTES, dumps, variant_of
from .ports import BATCH, input_port

RUNTIME = "executorch"
LARGEST = 64
"""The most images of a batch: the largest that parity runs."""
_METHOD = "metadata"  # of the program; it returns our document
_ENTRY = re.compile(rb"cifar-export (\{[^\0]*)\0")
_IDENTIFIER = b"ET"  # the bytes 4 and 5 of every program; its version follows


def serialize(request: Request) -> bytes:
    """The whole program; its method `metadata` returns our document. Raises `Unavailable` without ExecuTorch."""
    require_runtime(RUNTIME)
    port = input_port(request.variant)
    batch = torch.export.Dim(BATCH, min=1, max=LARGEST)
    with _quiet(), tracing():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        images = torch.zeros((LARGEST, *port.shape), dtype=port.dtype)
        program = torch.export.export(request.module, (images,), dynamic_shapes=({0: batch},))
        constants = {_METHOD: f"cifar-export {dumps(request.metadata)}"}
        lowered = to_edge_transform_and_lower(
            program, partitioner=[XnnpackPartitioner()], constant_methods=constants
        ).to_executorch()
    return bytes(lowered.buffer)


def inspect(path: Path) -> FileFacts:
    """What the file says of itself, read without loading it.

    Raises `InvalidInput` for a file that is no program, and for damaged metadata.
    """
    data = read_regular(path, MAX_MODEL_BYTES)
    if data[4:6] != _IDENTIFIER:
        raise InvalidInput(f"{path}: not an ExecuTorch program, or a damaged one. Export it again.")
    found = _ENTRY.findall(data)
    if not found:
        return FileFacts("executorch", None, None)
    try:
        if len(found) > 1 or len(found[0]) > MAX_METADATA_BYTES:
            raise ValueError("more than one document, or too long a one")
        metadata: dict[str, Any] = json.loads(found[0])
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: its metadata is damaged. Export it again.") from error
    return FileFacts("executorch", variant_of(metadata), metadata)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what ExecuTorch and the libraries that it imports warn of: deprecations in their own code."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
