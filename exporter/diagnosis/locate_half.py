"""Where a float16 file leaves its own arithmetic: the first node whose output rounding does not explain.

A processor without float16 arithmetic computes each node in float32 and rounds what comes out, so a value must be one
that is within half a step of float16, and a little for the float32 sum, of the exact one. Where nodes themselves add up
in float16, as on some ARM processors, more than that is right, and this search is not to be trusted.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..formats.ports import OUTPUT
from ..gate.divergence import Located
from ..gate.node_outputs import Run, run_all
from ..networks.preprocess import Pixels
from ..networks.zoo import InputVariant
from ..quantization.half import HalfResNet
from ..quantization.walk import walk
from ..weights.core import Weights, build_network
from .following import SUM_ULPS, Trail, search, ulp

HALF_STEP = 0.501
"""In steps of float16, what rounding may move a number by: a half, and a thousandth where the sum lay at a tie."""

_LARGEST = float(np.nextafter(np.finfo(np.float16).max, np.float16(0)))  # what has a number of float16 above it


def locate_half(weights: Weights, file: Path, variant: InputVariant, pixels: Pixels, run: Run = run_all) -> Located:
    """The first node of the float16 ONNX `file` that does not do what `weights`, rounded to float16, say.

    `pixels`: uint8 (N, 32, 32, 3). `run` is `run_all`, or does the same in another process. Raises what
    `following.search` raises.
    """
    trail = Trail()
    return search(weights, file, variant, pixels, _Follower(weights, trail), trail, run)


class _Value(NamedTuple):
    """A value as the file has it, and before it was rounded: ONNX Runtime leaves out a cast to float16 and back."""

    rounded: Tensor
    unrounded: Tensor


class _Follower(nn.Module):
    """The simulation that takes the numbers of the file for its own."""

    def __init__(self, weights: Weights, trail: Trail) -> None:
        super().__init__()
        self._network, self._trail = build_network(weights), trail
        self._exact = HalfResNet(self._network, rounded=False)

    def forward(self, image: Tensor) -> Tensor:
        """The logits that the file should give, from its own numbers."""
        exact = image.double()
        return walk(self._network, _Following(self._exact, self._trail), _Value(exact, exact)).rounded


class _Following:
    """Each value is what the file has, once it is compared with what its node should make of what it reads."""

    def __init__(self, exact: HalfResNet, trail: Trail) -> None:
        self._exact, self._trail = exact, trail
        self._sums: list[Tensor] = []

    def layer(self, name: str, part: nn.Module, value: _Value) -> _Value:
        made = [self._exact.layer(name, part, one) for one in value]
        if name != "fc":
            return self._taken(name, made)
        if name in self._trail.actual:  # MatMul and Add, each of which rounds
            bias = self._exact.layer(name, part, torch.zeros_like(value.rounded))
            made = [product + bias for product in self._taken(name, [one - bias for one in made])]
        if f"{OUTPUT}.half" in self._trail.actual:  # the file gives them in float32
            made = list(self._taken(f"{OUTPUT}.half", made))
        return self._taken(OUTPUT, made)

    def relu(self, value: _Value) -> _Value:
        return _Value(*(one.clamp(min=0.0) for one in value))

    def add(self, value: _Value, other: _Value) -> _Value:
        self._sums = [one + another for one in value for another in other]
        return value  # the sum follows once its name is known

    def pool(self, value: _Value) -> _Value:
        return _Value(*(one.mean(dim=(2, 3)) for one in value))

    def settle(self, name: str, value: _Value) -> _Value:
        if name == "input":
            return self._taken("half", list(value))
        if name == "avgpool":
            return self._taken("flatten", list(self._taken(name, list(value))))
        if self._sums:
            value = self.relu(self._taken(name.replace("relu", "add"), self._sums))
            self._sums = []
        return self._taken(name, list(value)) if name.endswith("relu") else value

    def _taken(self, name: str, exact: list[Tensor]) -> _Value:
        """The file's value, once it is compared with what it may be: made of rounded values, ..., of unrounded ones."""
        found = self._trail.found(name, exact[0])
        if found is None:
            return _Value(exact[0].half().double(), exact[0])
        tries = [(_steps(found, one), one) for one in exact]
        # of several that fit, the last: what is not rounded here may be read as it is later
        fits = [one for one in tries if float(one[0].max()) <= HALF_STEP]
        steps, made = fits[-1] if fits else min(tries, key=lambda one: float(one[0].max()))
        self._trail.note(name, steps, HALF_STEP, " steps of float16")
        return _Value(found, made)


def _steps(found: Tensor, exact: Tensor) -> Tensor:
    """How far apart they are beyond what a float32 sum explains, in steps that float16 has at each number."""
    beyond = ((found - exact).abs() - SUM_ULPS * ulp(exact)).clamp(min=0.0)
    largest = torch.maximum(found.abs(), exact.abs()).nan_to_num().clamp(max=_LARGEST).numpy().astype(np.float16)
    return beyond / torch.from_numpy(np.spacing(largest).astype(np.float64))
