"""A stranger's ONNX file whose layout its user states: as a copy that takes images as documented.

Graphs that leave height, width or channels open, and those that take pixels channels first, do not tell by themselves
what they are to be fed, or not in one of our ways.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from ..errors import InvalidInput
from ..networks.zoo import IMAGE_SIZE
from ..system.outside import MAX_MODEL_BYTES, read_regular
from .onnx_choices import Layout

_SHAPES: dict[Layout, tuple[int, int, int]] = {
    "nchw": (3, IMAGE_SIZE, IMAGE_SIZE),
    "nhwc": (IMAGE_SIZE, IMAGE_SIZE, 3),
}
_PIXELS_LAST = "pixels_channels_last"  # the name of an input that no graph of others has


@contextlib.contextmanager
def laid_out(path: Path, layout: Layout) -> Iterator[Path]:
    """Yield the ONNX file at `path`, or a copy of its name whose one input states `layout`; pixels come channels last.

    The copy lives as long as the block. Raises `InvalidInput` where the graph states another layout or takes no images.
    """
    try:
        model = onnx.load_model_from_string(read_regular(path, MAX_MODEL_BYTES))
    except DecodeError as error:
        raise InvalidInput(f"{path}: not an ONNX file, or a damaged one.") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise InvalidInput(f"{path}: it does not take images alone, so --layout {layout} says nothing of it.")
    tensor = inputs[0].type.tensor_type
    stated = [dim.dim_value or None for dim in tensor.shape.dim][1:]
    for size, wanted in zip(stated, _SHAPES[layout], strict=True):
        if size not in (None, wanted):
            shape = ", ".join(str(one or "?") for one in stated)
            raise InvalidInput(f"{path}: it takes images of ({shape}), which is not {layout} of 32×32. Leave --layout.")
    for dim, wanted in zip(list(tensor.shape.dim)[1:], _SHAPES[layout], strict=True):
        dim.dim_value = wanted
    pixels_first = tensor.elem_type == TensorProto.UINT8 and layout == "nchw"
    if None not in stated and not pixels_first:
        yield path  # it says so itself
        return
    if pixels_first:
        _take_pixels_last(model.graph, inputs[0])
    with tempfile.TemporaryDirectory(prefix="cifar-export-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(model.SerializeToString())
        yield copy


def _take_pixels_last(graph: onnx.GraphProto, value: onnx.ValueInfoProto) -> None:
    """Let `graph` take uint8 images channels last, and turn them."""
    first = value.name
    value.name = _PIXELS_LAST
    dims = value.type.tensor_type.shape.dim
    for dim, size in zip(list(dims)[1:], _SHAPES["nhwc"], strict=True):
        dim.dim_value = size
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([helper.make_node("Transpose", [_PIXELS_LAST], [first], perm=[0, 3, 1, 2]), *nodes])
