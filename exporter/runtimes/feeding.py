"""Batches as an ONNX file wants them: of its one size, and channels last, where its input says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GateFailed, InvalidInput
from ..networks.preprocess import Images
from ..system.outside import MAX_MODEL_BYTES, read_regular
from . import PlacesNodes, Runtime

LARGEST_BATCH = 4096  # of a file with a fixed one: 48 MiB of float32 images


def fixed_batch_and_layout(path: Path) -> tuple[int | None, bool]:
    """The only batch size that the ONNX file at `path` takes (None: any), and whether its float images are NHWC.

    Raises `InvalidInput` for a batch that is too large to be fed. A file that cannot be read is left to its runtime.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model_from_string(read_regular(path, MAX_MODEL_BYTES)).graph
    except DecodeError:
        return None, False
    weights = {tensor.name for tensor in graph.initializer}
    ports = [value.type.tensor_type for value in graph.input if value.name not in weights]
    if len(ports) != 1 or len(ports[0].shape.dim) != 4:
        return None, False
    batch = ports[0].shape.dim[0].dim_value or None
    if batch is not None and not 0 < batch <= LARGEST_BATCH:
        raise InvalidInput(
            f"{path} takes batches of {batch:,} images; at most {LARGEST_BATCH:,} are fed. Export it with fewer."
        )
    is_float = ports[0].elem_type == onnx.TensorProto.FLOAT
    return batch, is_float and ports[0].shape.dim[3].dim_value == 3


class Fed(Runtime):
    """A runtime whose file takes one batch size, channels last, or both; it is given batches of any size, NCHW."""

    def __init__(self, runtime: Runtime, batch: int | None, channels_last: bool) -> None:
        self.name, self.provider = runtime.name, runtime.provider
        self._runtime, self._batch, self._channels_last = runtime, batch, channels_last

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`. What is missing to a full batch are black images, whose logits are dropped."""
        if self._channels_last:
            last: Any = images.transpose(0, 2, 3, 1)
            images = np.ascontiguousarray(last)
        if self._batch is None:
            return self._runtime.logits(images)
        size = self._batch
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
        batch, channels_last = fixed_batch_and_layout(path)
    except BaseException:
        runtime.close()
        raise
    return Fed(runtime, batch, channels_last) if batch or channels_last else runtime
