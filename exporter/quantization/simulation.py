"""What an int8 file computes, in float64: every sum of integers exact, every rounding half to even.

This is the reference of int8 files. Sums of uint8 x int8 products stay far below 2^53, so that float64 holds them
exactly; a runtime that multiplies by a float32 factor instead can differ by one step where a value lies at a tie.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..networks.resnet import ResNet
from .grids import LEVELS, Grid, Grids, Layer, layers
from .walk import walk


class Int8ResNet(nn.Module):
    """`network` on `grids`: normalized images, float64 (batch, 3, 32, 32), to logits, float64 (batch, classes).

    In eval mode, on the CPU. `network` and `grids` are what the ONNX file is written from.
    """

    def __init__(self, network: ResNet, grids: Grids) -> None:
        super().__init__()
        self.network, self.grids = network, grids
        self.layers = layers(network, grids)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Logits of normalized images."""
        return walk(self.network, Simulated(self.grids, self.layers), image.double())


class Simulated:
    """The arithmetic of one int8 network: values between its layers are float64 numbers that stand on their grids."""

    def __init__(self, grids: Grids, whole: dict[str, Layer]) -> None:
        self._grids, self._layers = grids.values, whole

    def layer(self, name: str, part: nn.Module, value: Tensor) -> Tensor:
        """A convolution of whole numbers, times the scales."""
        return exact(self._layers[name], part, value)

    def relu(self, value: Tensor) -> Tensor:
        """Negative numbers become 0."""
        return value.clamp(min=0.0)

    def add(self, value: Tensor, other: Tensor) -> Tensor:
        """The sum, before it is rounded."""
        return value + other

    def pool(self, value: Tensor) -> Tensor:
        """The mean of each channel."""
        return value.mean(dim=(2, 3))

    def settle(self, name: str, value: Tensor) -> Tensor:
        """The nearest number of the grid, half to even, within its ends."""
        return on_grid(value, self._grids[name])


def on_grid(value: Tensor, grid: Grid) -> Tensor:
    """The numbers of `grid` that are nearest to `value`, float64 of the same shape."""
    steps = torch.round(value / grid.scale) + grid.zero
    return (steps.clamp(0, LEVELS) - grid.zero) * grid.scale


def exact(layer: Layer, part: nn.Module, value: Tensor) -> Tensor:
    """`layer` of `value`, which stands on the grid of its input, before it is rounded; exact in float64.

    `part` is the layer's module, which knows stride and padding.
    """
    steps = torch.round(value / layer.input.scale)  # as the integers that they are: then sums are exact
    weight, bias, scale = (torch.from_numpy(part).to(value.dtype) for part in (layer.weight, layer.bias, layer.scale))
    scale = scale * layer.input.scale
    if isinstance(part, nn.Conv2d):
        total = functional.conv2d(steps, weight, bias, part.stride, part.padding)
        return total * scale.view(1, -1, 1, 1)
    return functional.linear(steps, weight, bias) * scale
