"""What a float16 or bfloat16 file computes, in float64: weights are such numbers, and so is what each operator gives.

Sums inside of an operator are exact here. Runtimes add them up in float32, or compute all of it wider (a processor
without float16 arithmetic): what they may differ by is a multiple of what the precision itself costs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..networks.folding import folded
from ..networks.resnet import ResNet
from .walk import walk

HALVES: dict[str, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def half_weights(network: ResNet, precision: str) -> dict[str, Tensor]:
    """The weights of `network`, folded in float64 and rounded once, by name."""
    rounded = {}
    for name, numbers in folded(network).items():
        # NumPy, for torch rounds to float32 in between
        known = torch.from_numpy(numbers.astype(np.float16) if precision == "float16" else numbers)
        rounded[name] = known.to(HALVES[precision])
    return rounded


class HalfResNet(nn.Module):
    """`network` in a `precision` of 16 bits: normalized images, float (batch, 3, 32, 32), to logits, float64.

    With `rounded` every operator rounds its result (half to even), without it only the weights are rounded.
    """

    def __init__(self, network: ResNet, precision: str = "float16", *, rounded: bool = True) -> None:
        super().__init__()
        self.network, self._rounded, self._dtype = network, rounded, HALVES[precision]
        self._weights = {name: numbers.double() for name, numbers in half_weights(network, precision).items()}
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Logits of normalized images."""
        return walk(self.network, self, image.double())

    def layer(self, name: str, part: nn.Module, value: Tensor) -> Tensor:
        """A convolution or the classifier, rounded at its end."""
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        if isinstance(part, nn.Conv2d):
            return self._half(functional.conv2d(value, weight, bias, part.stride, part.padding))
        return self._half(functional.linear(value, weight, bias))

    def relu(self, value: Tensor) -> Tensor:
        """Negative numbers become 0."""
        return value.clamp(min=0.0)

    def add(self, value: Tensor, other: Tensor) -> Tensor:
        """The sum, rounded."""
        return self._half(value + other)

    def pool(self, value: Tensor) -> Tensor:
        """The mean of each channel, rounded."""
        return self._half(value.mean(dim=(2, 3)))

    def settle(self, name: str, value: Tensor) -> Tensor:
        """The input is rounded; what operators give is already."""
        return self._half(value) if name == "input" else value

    def _half(self, value: Tensor) -> Tensor:
        return value.to(self._dtype).to(value.dtype) if self._rounded else value
