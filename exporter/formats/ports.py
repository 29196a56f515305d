"""What goes in and out of every exported file: the two input variants and the logits.

| variant | name | type and shape | values |
|---|---|---|---|
| `float32` | `input` | float32 (batch, 3, 32, 32) | RGB, normalized |
| `uint8` | `image` | uint8 (batch, 32, 32, 3) | RGB, 0..255 |

Output: `logits`, float32 (batch, classes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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

    @property
    def signature(self) -> tuple[str, int, tuple[int | str, ...]]:
        """Name, ONNX element type and shape as an ONNX file states them."""
        return self.name, self.onnx_type, (BATCH, *self.shape)


_PORTS = {
    # 1 and 2 are TensorProto.FLOAT and TensorProto.UINT8
    "float32": Port("input", torch.float32, (3, IMAGE_SIZE, IMAGE_SIZE), 1),
    "uint8": Port("image", torch.uint8, (IMAGE_SIZE, IMAGE_SIZE, 3), 2),
}


def input_port(variant: InputVariant) -> Port:
    """The input of that variant."""
    return _PORTS[variant]


def described_ports(variant: InputVariant, classes: int) -> dict[str, Any]:
    """What goes in and out, for JSON: `inputs` and `outputs` with name, dtype and shape."""
    port = input_port(variant)
    return {
        "inputs": [{"name": port.name, "dtype": variant, "shape": [BATCH, *port.shape]}],
        "outputs": [{"name": OUTPUT, "dtype": "float32", "shape": [BATCH, classes]}],
    }


def example(variant: InputVariant) -> Tensor:
    """A batch of two zero images to trace with: two, because exporters specialise on a batch of one."""
    port = input_port(variant)
    return torch.zeros((2, *port.shape), dtype=port.dtype)
