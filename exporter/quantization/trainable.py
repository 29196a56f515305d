"""An int8 network that can be trained: rounded in each forward pass, and in the backward pass as if it were not.

The gradient passes a rounding as it is, and stops where a value lies beyond the ends of its grid (Jacob et al. 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", section 3).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..networks.folding import folded
from ..networks.resnet import ResNet
from .grids import LEVELS, Grids, highest, inputs_of, integers, layers
from .walk import walk

_WHOLE = 1.0  # the step of weights that are counted in steps


class TrainableInt8(nn.Module):
    """`network` on the `grids` of a calibration: normalized images, float32 (batch, 3, 32, 32), to logits.

    What is trained is each layer's weights, in steps of their scales, and its biases, in units of a step of its input
    times the largest weight: then one learning rate suits them all. The grids of the values and the scales stay.
    """

    def __init__(self, network: ResNet, grids: Grids) -> None:
        super().__init__()
        self._network, self._grids = [network], grids  # in a list: it is no part of this module, and is not trained
        self._place = {name: place for place, name in enumerate(inputs_of(network))}
        whole, weights = layers(network, grids), folded(network)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for number, (name, layer) in enumerate(whole.items()):
            scale, step = _tensor(layer.scale), layer.input.scale
            exact = weights[f"{name}.weight"] / layer.scale.astype(np.float64).reshape(_channels(layer.weight))
            self.weights.append(nn.Parameter(_tensor(exact)))
            self.biases.append(nn.Parameter(_tensor(layer.bias / highest(grids.weight_bits))))
            self.register_buffer(f"scale{number}", scale.reshape(_channels(layer.weight)), persistent=False)
            self.register_buffer(f"unit{number}", scale * step * highest(grids.weight_bits), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalized images."""
        return walk(self._network[0], self, images)

    def layer(self, name: str, part: nn.Module, value: Tensor) -> Tensor:
        """The layer with its weights as whole steps."""
        place, top = self._place[name], highest(self._grids.weight_bits)
        whole = torch.fake_quantize_per_tensor_affine(self.weights[place], _WHOLE, 0, -top, top)
        weight, bias = whole * self.get_buffer(f"scale{place}"), self.biases[place] * self.get_buffer(f"unit{place}")
        if isinstance(part, nn.Conv2d):
            return functional.conv2d(value, weight, bias, part.stride, part.padding)
        return functional.linear(value, weight, bias)

    def relu(self, value: Tensor) -> Tensor:
        """Negative numbers become 0."""
        return value.relu()

    def add(self, value: Tensor, other: Tensor) -> Tensor:
        """The sum, before it is rounded."""
        return value + other

    def pool(self, value: Tensor) -> Tensor:
        """The mean of each channel."""
        return value.mean(dim=(2, 3))

    def settle(self, name: str, value: Tensor) -> Tensor:
        """The nearest number of the grid, half to even, within its ends."""
        grid = self._grids.values[name]
        return torch.fake_quantize_per_tensor_affine(value, grid.scale, grid.zero, 0, LEVELS)

    def found(self, finetuning: str) -> Grids:
        """The grids with steps and biases as they are trained now; `finetuning` says in words how."""
        bits, weights = self._grids.weight_bits, folded(self._network[0])
        top, limits = highest(bits), np.iinfo(np.int32)
        moved, biases = {}, {}
        for name, place in self._place.items():
            steps = np.clip(np.rint(_array(self.weights[place])), -top, top)
            rounded = integers(weights[f"{name}.weight"], self._grids.scales[name], bits)
            moved[name] = (steps - rounded).astype(np.int8).reshape(-1)
            biases[name] = np.clip(np.rint(_array(self.biases[place]) * top), limits.min, limits.max).astype(np.int32)
        return replace(self._grids, biases=biases, moved=moved, finetuning=finetuning)


def _channels(weight: NDArray[np.int8]) -> tuple[int, ...]:
    """The shape of one number for each output channel, beside the layer's weights."""
    return (-1,) + (1,) * (weight.ndim - 1)


def _tensor(numbers: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(numbers.astype(np.float32))


def _array(numbers: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = numbers.detach().double().numpy()
    return found
