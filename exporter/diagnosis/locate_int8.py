"""Where an int8 file leaves its own arithmetic: the first node whose output rounding does not explain.

ONNX Runtime runs the file on the CPU with graph optimizations off, so that every node exists and whole numbers stand
where the file rounds. The simulation then computes each value from the steps that the file itself has found before it,
so that a step that went to the other side of a tie is no error of what comes after, and each node answers for itself:

- a layer's output: float32 sums of what are whole numbers in the simulation, `SUM_ULPS` at most;
- QuantizeLinear: the step must be one that is within `0.5 + TIE_STEPS` of the exact value;
- DequantizeLinear: the step times its scale, rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from ..errors import InvalidInput
from ..formats.onnx_graph import onnx_model, read_choices
from ..formats.ports import OUTPUT, as_fed
from ..gate.divergence import Divergence, Located, WeightDifference
from ..gate.node_outputs import Run, fixed_batch, free_batch, load, longest_beginning, run_all
from ..networks.preprocess import Pixels, as_variant
from ..networks.resnet import with_input
from ..networks.zoo import InputVariant
from ..quantization.grids import LEVELS, Grid
from ..quantization.simulation import Int8ResNet, Simulated, on_grid
from ..quantization.walk import walk
from ..runtimes import require_runtime
from ..runtimes.pytorch import Reference
from ..weights.core import Weights, build_network

# Measured on bundled networks of 20 and 56 layers and on seeded ones: float32 sums are off by 13 units in the last
# place of the tensor's largest number, and a value that is rounded to the other side lies within 0.0001 steps of a tie.
SUM_ULPS = 64.0
TIE_STEPS = 0.001
_BATCH = 16


@dataclass(frozen=True)
class _Error:
    """How far a value of the file is from what it should be, in the unit of `allowed`; `image` has the largest."""

    error: float
    allowed: float
    image: int
    unit: str

    def __str__(self) -> str:
        if self.unit == "shape":
            return "its output has another shape"
        if not np.isfinite(self.error):
            return "NaN or infinite values"
        return f"error {self.error:.1e}{self.unit} exceeds {self.allowed:.1e}{self.unit}"


def locate_int8(weights: Weights, file: Path, variant: InputVariant, pixels: Pixels, run: Run = run_all) -> Located:
    """The first node of the int8 ONNX `file` that does not do what the grids of `weights` say.

    `pixels`: uint8 (N, 32, 32, 3). `run` is `run_all`, or does the same in another process. There is no divergence
    where every node does it: then a runtime that fails computes otherwise than node by node. Raises what
    `locate.locate` raises, and `InvalidInput` for weights without grids.
    """
    require_runtime("onnxruntime-cpu")
    follower = _Follower(weights)
    module = with_input(follower.double(), variant, weights.normalization).eval()
    model = load(file)
    images = as_variant(pixels, variant, weights.normalization)
    size = fixed_batch(model) or _BATCH
    if size > len(images):
        free_batch(model)
        size = _BATCH
    images = images[: max(1, len(images) // size) * size]
    runnable, refusal = longest_beginning(model, run)
    layout = read_choices(model).layout
    worst: dict[str, _Error] = {}
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        follower.actual, follower.errors = run(runnable, as_fed(batch, None, layout)), {}
        Reference(module).logits(batch)
        for name, found in follower.errors.items():
            known = worst.get(name)
            if known is None or found.error > known.error:
                worst[name] = _Error(found.error, found.allowed, start + found.image, found.unit)
    wrong = next((name for name, found in worst.items() if not found.error <= found.allowed), None)
    if wrong is None and refusal is not None:
        node, why = refusal
        return Located((), _blame(model, weights, variant, node.output[0], f"ONNX Runtime cannot run it: {why}"))
    if wrong is None:
        return Located((), None)
    return Located((), _blame(model, weights, variant, wrong, str(worst[wrong]), worst[wrong]))


class _Follower(Int8ResNet):
    """The simulation that takes the steps of the file, `actual` values by name, for its own and notes the `errors`."""

    def __init__(self, weights: Weights) -> None:
        if weights.grids is None:
            raise InvalidInput("an int8 file cannot be searched without its grids.")
        super().__init__(build_network(weights), weights.grids)
        self.actual: Mapping[str, NDArray[Any]] = {}
        self.errors: dict[str, _Error] = {}

    def forward(self, image: Tensor) -> Tensor:
        """The logits that the file should give, from its own steps."""
        return walk(self.network, _Following(self), image.double())


class _Following(Simulated):
    def __init__(self, follower: _Follower) -> None:
        super().__init__(follower.grids, follower.layers)
        self._of = follower

    def layer(self, name: str, part: nn.Module, value: Tensor) -> Tensor:
        exact = super().layer(name, part, value)
        self._compare(OUTPUT if name == "fc" else name, exact, SUM_ULPS * _ulp(exact), "")
        return exact

    def settle(self, name: str, value: Tensor) -> Tensor:
        grid = self._of.grids.values[name]
        settled = self._steps(name, value, grid)
        # the pooled value is laid out anew, and rounded again to the same steps
        return self._steps("flatten", settled, grid) if name == "avgpool" else settled

    def _steps(self, name: str, value: Tensor, grid: Grid) -> Tensor:
        """What the file made of `value`, on `grid`; or what it should have, where it made nothing."""
        exact = (value / grid.scale + grid.zero).clamp(0, LEVELS)
        self._compare(f"{name}.quantize", exact, 0.5 + TIE_STEPS, " steps")
        found = self._of.actual.get(f"{name}.quantize")
        if found is None or found.size != value.numel():
            return on_grid(value, grid)
        steps = torch.from_numpy(found.astype(np.float64)).reshape(value.shape)
        settled = (steps - grid.zero) * grid.scale
        self._compare(f"{name}.dequantize", settled, 2 * _ulp(settled), "")
        return settled

    def _compare(self, name: str, exact: Tensor, allowed: float, unit: str) -> None:
        found = self._of.actual.get(name)
        if found is None:
            return  # ONNX Runtime got no further, or the file rounds nothing there: what follows shows it
        if found.size != exact.numel():
            self._of.errors[name] = _Error(np.inf, allowed, 0, "shape")
            return
        error = np.abs(found.astype(np.float64).reshape(len(exact), -1) - exact.reshape(len(exact), -1).numpy())
        largest = np.nan_to_num(error, nan=np.inf).max(axis=1)
        self._of.errors[name] = _Error(float(largest.max()), allowed, int(largest.argmax()), unit)


def _ulp(value: Tensor) -> float:
    return float(np.spacing(np.float32(value.abs().max().item())))


def _blame(
    model: onnx.ModelProto,
    weights: Weights,
    variant: InputVariant,
    value: str,
    reason: str,
    found: _Error | None = None,
) -> Divergence:
    """The node that makes `value`, and what of it is not as it would be written."""
    node = _maker(model, value)
    module = with_input(build_network(weights), variant, weights.normalization).eval()
    written = onnx_model(module, "expected", read_choices(model), weights.grids)
    ours = _maker(written, value)
    constants, expected = (_constants(one) for one in (model, written))
    read = [name for name in _reads(model, node) if name in constants]
    differences = tuple(
        WeightDifference(name, constants[name].shape, _difference(constants[name], expected.get(name))) for name in read
    )
    said = [reason]
    said += [f"it reads {a}, not {b}" for a, b in zip(node.input, ours.input, strict=False) if a != b]
    said += [f"{one.name} is not the network's" for one in differences if one.max_abs_difference is not None]
    inputs = tuple(name for name in node.input if name and name not in constants)
    kind: Any = "refused" if found is None else "shape" if found.unit == "shape" else "numbers"
    return Divergence(
        node.name or value,
        node.op_type,
        kind,
        value,
        "; ".join(said),
        inputs,
        differences,
        max_abs_error=found.error if found else None,
        allowed=found.allowed if found else None,
        worst_image=found.image if found else 0,
    )


def _maker(model: onnx.ModelProto, value: str) -> onnx.NodeProto:
    return next((node for node in model.graph.node if value in node.output), onnx.NodeProto(op_type="none"))


def _reads(model: onnx.ModelProto, node: onnx.NodeProto) -> list[str]:
    """What `node` reads, and in the place of weights that are multiplied by their scales first, what these are."""
    names: list[str] = []
    for name in node.input:
        maker = _maker(model, name)
        whole = maker.op_type == "DequantizeLinear" and not name.endswith(".dequantize")
        names += list(maker.input) if whole else [name]
    return names


def _constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _difference(found: NDArray[Any], expected: NDArray[Any] | None) -> float | None:
    if expected is None:
        return None
    if found.shape != expected.shape:
        return float("inf")
    difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    return float(np.nan_to_num(difference.max(), nan=np.inf)) if difference.any() else None
