"""From a float32 network and some training pictures to the grids of its int8 twin.

The network is computed layer by layer, in float32 and on the grids found so far, side by side. Each bias is moved by
the mean difference of the two in its channel (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization
and Bias Correction", section 4.2), so that errors of the mean do not add up along the depth. The range of a value is
all of it, or the one with the least squared error over its histogram: each is better for some networks, so both are
tried, and the one whose logits are nearer to float32's, on the same pictures, is kept.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..networks.folding import folded
from ..networks.resnet import ResNet
from ..system.torch_state import plain
from .grids import LEVELS, WEIGHT_BITS, Grid, Grids, Layer, Scheme, as_scale, inputs_of, integers, weight_scales
from .simulation import exact, on_grid
from .walk import walk

BINS = 4096
Ranges = Literal["whole", "least-square"]
RANGES: tuple[Ranges, ...] = get_args(Ranges)
# Steps of a bias, at most: what is left of 32 bits for the sum, and of float32's 24 for the runtime's factor. A channel
# whose weights are next to nothing would have a scale so small that its bias takes more.
BIAS_STEPS = 2**22
SHRINKS = np.linspace(1.0, 0.4, 61)  # of a range: what lies beyond is cut off


_TINY = float(np.finfo(np.float32).tiny)


class _Pair(NamedTuple):
    """A value of the float network and its int8 twin's, float32 of the same shape: these are measured, not proved."""

    float: Tensor
    rounded: Tensor


@plain()
@torch.no_grad()
def calibrate(
    network: ResNet,
    images: Tensor,
    calibration: str,
    *,
    weight_bits: int = WEIGHT_BITS[0],
    scheme: Scheme = "per-channel",
) -> Grids:
    """The grids of `network`, in eval mode, measured on `images`, normalized float (N, 3, 32, 32).

    `calibration` says in words what `images` are; which ranges were kept is added to it.
    """
    tries: list[tuple[float, Grids]] = []
    for ranges in RANGES:
        arithmetic, pixels = _Calibrating(network, weight_bits, scheme, ranges), images.float()
        logits = walk(network, arithmetic, _Pair(pixels, pixels))
        said = f"{calibration}, {ranges} ranges"
        grids = Grids(arithmetic.values, arithmetic.scales, arithmetic.biases, weight_bits, scheme, said)
        tries.append((float((logits.float - logits.rounded).square().mean()), grids))
    return min(tries, key=lambda one: one[0])[1]


class _Calibrating:
    def __init__(self, network: ResNet, weight_bits: int, scheme: Scheme, ranges: Ranges) -> None:
        self._weights, self._reads = folded(network), inputs_of(network)
        self._bits, self._scheme, self._ranges = weight_bits, scheme, ranges
        self.values: dict[str, Grid] = {}
        self.scales: dict[str, NDArray[np.float32]] = {}
        self.biases: dict[str, NDArray[np.int32]] = {}

    def layer(self, name: str, part: nn.Module, value: _Pair) -> _Pair:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        grid = self.values[self._reads[name]]
        least = as_scale(np.maximum(np.abs(bias), _TINY) / (grid.scale * BIAS_STEPS), self._scheme)
        scales = np.maximum(weight_scales(weight, self._bits, self._scheme), least)
        if self._scheme == "per-tensor":
            scales = np.full_like(scales, scales.max())
        whole = integers(weight, scales, self._bits)
        step = scales.astype(np.float64) * grid.scale
        float_value = _layer(part, value.float, weight, bias)
        steps = np.rint(bias / step).astype(np.int64)
        rounded = exact(Layer(whole, scales, _int32(steps), grid), part, value.rounded)
        wrong = (float_value - rounded).transpose(0, 1).flatten(1).mean(dim=1).numpy()
        moved = np.rint((bias + wrong) / step)
        self.scales[name], self.biases[name] = scales, _int32(moved)
        return _Pair(float_value, exact(Layer(whole, scales, self.biases[name], grid), part, value.rounded))

    def relu(self, value: _Pair) -> _Pair:
        return _Pair(value.float.clamp(min=0.0), value.rounded.clamp(min=0.0))

    def add(self, value: _Pair, other: _Pair) -> _Pair:
        return _Pair(value.float + other.float, value.rounded + other.rounded)

    def pool(self, value: _Pair) -> _Pair:
        return _Pair(value.float.mean(dim=(2, 3)), value.rounded.mean(dim=(2, 3)))

    def settle(self, name: str, value: _Pair) -> _Pair:
        self.values[name] = grid = _best_grid(value.float, self._scheme, self._ranges)
        return _Pair(value.float, on_grid(value.rounded, grid))


def _layer(part: nn.Module, value: Tensor, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> Tensor:
    numbers = torch.from_numpy(weight).to(value.dtype), torch.from_numpy(bias).to(value.dtype)
    if isinstance(part, nn.Conv2d):
        return functional.conv2d(value, *numbers, part.stride, part.padding)
    return functional.linear(value, *numbers)


def _int32(steps: NDArray[Any]) -> NDArray[np.int32]:
    limits = np.iinfo(np.int32)
    clipped: NDArray[np.int32] = np.clip(steps, limits.min, limits.max).astype(np.int32)
    return clipped


def _best_grid(value: Tensor, scheme: Scheme, ranges: Ranges) -> Grid:
    """The grid whose ends are the value's or, of least squared error, these shrunk by one of `SHRINKS`."""
    low, high = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
    if low == high:
        return Grid(1.0, 0)
    counts = torch.histc(value, BINS, low, high).double().numpy()
    centers = low + (np.arange(BINS) + 0.5) * ((high - low) / BINS)
    shrinks = SHRINKS if ranges == "least-square" else SHRINKS[:1]
    grids = [_grid(low * shrink, high * shrink, scheme) for shrink in shrinks]
    errors = [float(counts @ (centers - _rounded(centers, grid)) ** 2) for grid in grids]
    return grids[int(np.argmin(errors))]


def _grid(low: float, high: float, scheme: Scheme) -> Grid:
    """The grid whose steps 0 and 255 are about `low` and `high`, with 0 on it."""
    if low < 0 and scheme == "power-of-two":
        low, high = min(low, -high), max(-low, high)
    scale = float(as_scale((high - low) / LEVELS, scheme))
    return Grid(scale, int(np.clip(np.rint(-low / scale), 0, LEVELS)))


def _rounded(value: NDArray[Any], grid: Grid) -> NDArray[Any]:
    steps: NDArray[Any] = np.clip(np.rint(value / grid.scale) + grid.zero, 0, LEVELS)
    return (steps - grid.zero) * grid.scale
