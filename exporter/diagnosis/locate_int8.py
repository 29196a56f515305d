"""Where an int8 file leaves its own arithmetic: the first node whose output rounding does not explain.

- a layer's output: float32 sums of what are whole numbers in the simulation, `SUM_ULPS` at most;
- QuantizeLinear: the step must be one that is within `0.5 + TIE_STEPS` of the exact value;
- DequantizeLinear: the step times its scale, rounded once.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ..errors import InvalidInput
from ..formats.ports import OUTPUT
from ..gate.divergence import Located
from ..gate.node_outputs import Run, run_all
from ..networks.preprocess import Pixels
from ..networks.zoo import InputVariant
from ..quantization.grids import LEVELS, Grid
from ..quantization.simulation import Int8ResNet, Simulated, on_grid
from ..quantization.walk import walk
from ..weights.core import Weights, build_network
from .following import SUM_ULPS, Trail, search, ulp

# Measured on bundled networks of 20 and 56 layers and on seeded ones: a value that is rounded to the other side lies
# within 0.0001 steps of a tie.
TIE_STEPS = 0.001


def locate_int8(weights: Weights, file: Path, variant: InputVariant, pixels: Pixels, run: Run = run_all) -> Located:
    """The first node of the int8 ONNX `file` that does not do what the grids of `weights` say.

    `pixels`: uint8 (N, 32, 32, 3). `run` is `run_all`, or does the same in another process. Raises what
    `following.search` raises, and `InvalidInput` for weights without grids.
    """
    trail = Trail()
    return search(weights, file, variant, pixels, _Follower(weights, trail), trail, run)


class _Follower(Int8ResNet):
    """The simulation that takes the steps of the file for its own."""

    def __init__(self, weights: Weights, trail: Trail) -> None:
        if weights.grids is None:
            raise InvalidInput("an int8 file cannot be searched without its grids.")
        super().__init__(build_network(weights), weights.grids)
        self.trail = trail

    def forward(self, image: Tensor) -> Tensor:
        """The logits that the file should give, from its own steps."""
        return walk(self.network, _Following(self), image.double())


class _Following(Simulated):
    def __init__(self, follower: _Follower) -> None:
        super().__init__(follower.grids, follower.layers)
        self._of, self._trail = follower, follower.trail

    def layer(self, name: str, part: nn.Module, value: Tensor) -> Tensor:
        exact = super().layer(name, part, value)
        self._compare(OUTPUT if name == "fc" else name, exact, SUM_ULPS * ulp(exact), "")
        return exact

    def settle(self, name: str, value: Tensor) -> Tensor:
        grid = self._of.grids.values[name]
        settled = self._steps(name, value, grid)
        # the pooled value is laid out anew, and rounded again to the same steps
        return self._steps("flatten", settled, grid) if name == "avgpool" else settled

    def _steps(self, name: str, value: Tensor, grid: Grid) -> Tensor:
        """What the file made of `value`, on `grid`; or what it should have, where it made nothing."""
        exact = (value / grid.scale + grid.zero).clamp(0, LEVELS)
        steps = self._compare(f"{name}.quantize", exact, 0.5 + TIE_STEPS, " steps")
        if steps is None:
            return on_grid(value, grid)
        settled = (steps - grid.zero) * grid.scale
        self._compare(f"{name}.dequantize", settled, 2 * ulp(settled), "")
        return settled

    def _compare(self, name: str, exact: Tensor, allowed: float, unit: str) -> Tensor | None:
        found = self._trail.found(name, exact)
        if found is not None:
            self._trail.note(name, (found - exact).abs(), allowed, unit)
        return found
