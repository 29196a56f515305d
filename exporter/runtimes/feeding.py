"""Batches as an ONNX file wants them: of its one size, channels last, in float16, where its input says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GateFailed, InvalidInput
from ..networks.preprocess import Images
from ..system.outside import MAX_MODEL_BYTES, read_regular
from . import PlacesNodes, Runtime

LARGEST_BATCH = 4096  # of a file with a fixed one: 48 MiB of float32 images


@dataclass(frozen=True)
class Wanted:
    """How a file takes its images: in batches of `batch` alone (None: any), channels last; `halves`: float16 ports."""

    batch: int | None = None
    channels_last: bool = False
    halves: bool = False


def wanted_by(path: Path) -> Wanted:
    """How the ONNX file at `path` takes its images. Raises `InvalidInput` for a batch that is too large to be fed.

    A file that cannot be read is left to its runtime.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model_from_string(read_regular(path, MAX_MODEL_BYTES)).graph
    except DecodeError:
        return Wanted()
    weights = {tensor.name for tensor in graph.initializer}
    ports = [value.type.tensor_type for value in graph.input if value.name not in weights]
    if len(ports) != 1 or len(ports[0].shape.dim) != 4:
        return Wanted()
    batch = ports[0].shape.dim[0].dim_value or None
    if batch is not None and not 0 < batch <= LARGEST_BATCH:
        raise InvalidInput(
            f"{path} takes batches of {batch:,} images; at most {LARGEST_BATCH:,} are fed. Export it with fewer."
        )
    halves = any(
        port.elem_type == onnx.TensorProto.FLOAT16 for port in (*ports, *(v.type.tensor_type for v in graph.output))
    )
    is_float = ports[0].elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    return Wanted(batch, is_float and ports[0].shape.dim[3].dim_value == 3, halves)


class Fed(Runtime):
    """A runtime whose file takes images in a way of its own; it is given float32 or uint8 batches of any size, NCHW."""

    def __init__(self, runtime: Runtime, wanted: Wanted) -> None:
        self.name, self.provider = runtime.name, runtime.provider
        self._runtime, self._wanted = runtime, wanted

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`. What is missing to a full batch are black images, whose logits are dropped."""
        fed: Any = images
        if self._wanted.channels_last:
            fed = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        if self._wanted.halves and fed.dtype == np.float32:
            fed = fed.astype(np.float16)
        return self._in_batches(fed).astype(np.float32, copy=False)

    def _in_batches(self, images: Images) -> NDArray[np.float32]:
        size = self._wanted.batch
        if size is None:
            return self._runtime.logits(images)
        parts = []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            full = part
            if len(part) < size:
                full = np.zeros((size, *images.shape[1:]), images.dtype)
                full[: len(part)] = part
            logits = self._runtime.logits(full)
            if len(logits) != size:
                raise GateFailed(f"{self.name} returns {len(logits)} rows of logits for {size} images.")
            parts.append(logits[: len(part)])
        return np.concatenate(parts)

    def misplaced(self) -> tuple[str, ...]:
        """See `PlacesNodes`."""
        return self._runtime.misplaced() if isinstance(self._runtime, PlacesNodes) else ()

    def close(self) -> None:
        """See `Runtime`."""
        self._runtime.close()


def fed(runtime: Runtime, path: Path) -> Runtime:
    """`runtime`, which has opened the ONNX file at `path`, as one that takes batches of any size, NCHW or pixels."""
    try:
        wanted = wanted_by(path)
    except BaseException:
        runtime.close()
        raise
    return as_wanted(runtime, wanted)


def as_wanted(runtime: Runtime, wanted: Wanted) -> Runtime:
    """`runtime`, whose file takes images as `wanted`, as one that takes float32 or uint8 batches of any size, NCHW."""
    return Fed(runtime, wanted) if wanted != Wanted() else runtime
