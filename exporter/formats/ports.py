"""What goes in and out of every exported file: the input variants and the logits.

| variant | name | type and shape | values |
|---|---|---|---|
| `float32` | `input` | float32 (batch, 3, 32, 32) | RGB, normalized |
| `uint8` | `image` | uint8 (batch, 32, 32, 3) | RGB, 0..255 |
| `unit` | `scaled_image` | float32 (batch, 3, 32, 32) | RGB, 0..1 |

Output: `logits`, float32 (batch, classes). An ONNX file may have a fixed batch, and its float input channels last; one
in float16 may take normalized images and give logits in float16, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..networks.preprocess import Images
from ..networks.zoo import IMAGE_SIZE, InputVariant

BATCH = "batch"
OUTPUT = "logits"


@dataclass(frozen=True)
class Port:
    """An input: its name, torch type and shape without the batch, and ONNX's number for the type."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    onnx_type: int

    def signature(
        self, batch: int | None = None, layout: str = "nchw", io: str = "float32"
    ) -> tuple[str, int, tuple[int | str, ...]]:
        """Name, ONNX element type and shape as an ONNX file states them, with that batch (None: any) and layout."""
        shape = _CHANNELS_LAST if layout == "nhwc" else self.shape
        return self.name, self.onnx_type_of(io), (batch or BATCH, *shape)

    def onnx_type_of(self, io: str) -> int:
        """ONNX's number for the type, where floats are of the type `io`."""
        return ONNX_FLOATS[io] if self.onnx_type == ONNX_FLOATS["float32"] else self.onnx_type


_CHANNELS_LAST = (IMAGE_SIZE, IMAGE_SIZE, 3)
ONNX_FLOATS = {"float32": 1, "float16": 10}
"""ONNX's numbers of the types that images and logits have: TensorProto.FLOAT and FLOAT16."""
_PORTS = {
    # 1 and 2 are TensorProto.FLOAT and TensorProto.UINT8
    "float32": Port("input", torch.float32, (3, IMAGE_SIZE, IMAGE_SIZE), 1),
    "uint8": Port("image", torch.uint8, _CHANNELS_LAST, 2),
    "unit": Port("scaled_image", torch.float32, (3, IMAGE_SIZE, IMAGE_SIZE), 1),
}


def input_port(variant: InputVariant) -> Port:
    """The input of that variant."""
    return _PORTS[variant]


def described_ports(
    variant: InputVariant, classes: int, batch: int | None = None, layout: str = "nchw", io: str = "float32"
) -> dict[str, Any]:
    """What goes in and out, for JSON: `inputs` and `outputs` with name, dtype and shape."""
    port = input_port(variant)
    name, _, shape = port.signature(batch, layout)
    return {
        "inputs": [{"name": name, "dtype": "uint8" if variant == "uint8" else io, "shape": list(shape)}],
        "outputs": [{"name": OUTPUT, "dtype": io, "shape": [batch or BATCH, classes]}],
    }


def as_fed(images: Images, batch: int | None, layout: str, io: str = "float32") -> Any:
    """`images`, of an input variant, as a file takes them: repeated to a fixed batch, channels last, floats in `io`."""
    if images.dtype == np.float32:
        images = images.astype(io)
    if batch is not None:
        images = images[np.arange(batch) % len(images)]
    if layout == "nchw":
        return images
    last: Any = images.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(last)


def example(variant: InputVariant) -> Tensor:
    """A batch of two zero images to trace with: two, because exporters specialise on a batch of one."""
    port = input_port(variant)
    return torch.zeros((2, *port.shape), dtype=port.dtype)
