"""What a float16 file computes, in float64: the weights are float16 numbers, and so is the result of every operator.

Sums inside of an operator are exact here. Runtimes add them up in float32, or compute all of it wider (a processor
without float16 arithmetic): what they may differ by is a multiple of what float16 itself costs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..networks.folding import folded
from ..networks.resnet import ResNet
from .walk import walk


class Float16ResNet(nn.Module):
    """`network` with its weights in float16: normalized images, float (batch, 3, 32, 32), to logits, float64.

    With `rounded` every operator rounds its result to float16 (half to even), without it only the weights are rounded.
    """

    def __init__(self, network: ResNet, *, rounded: bool = True) -> None:
        super().__init__()
        self.network, self._rounded = network, rounded
        self._weights = {
            name: torch.from_numpy(numbers.astype(np.float16).astype(np.float64))
            for name, numbers in folded(network).items()
        }
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
        return value.half().to(value.dtype) if self._rounded else value
