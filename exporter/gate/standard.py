"""What runtimes are held against, for each precision: reference logits, and how far from them a runtime may be.

Of a float32 file the reference is the network in float64, and PyTorch's own float32 error is the yardstick. Of a file
in reduced precision it is the float64 simulation of that file's own arithmetic, so that what the precision costs is no
part of the error, and a runtime that computes something else is found as sharply as in float32:

- int8: the unit is the change of a logit when one pooled value moves by a step of its grid. Correct runtimes differ by
  some of them, where a float32 factor decides a tie otherwise and the step is carried on; a runtime that does not round
  at every grid differs more. The bounds (`int8_units` of a runtime) were measured: docs/precision.md.
- float16 and bfloat16: the unit is what rounding at each operator costs the simulation itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..errors import InvalidInput
from ..formats.onnx_choices import Precision
from ..networks.resnet import with_input
from ..networks.zoo import InputVariant
from ..quantization.grids import Grids
from ..quantization.half import HALVES, HalfResNet
from ..quantization.simulation import Int8ResNet
from ..runtimes import RuntimeSpec, open_runtime, spec_of, why_missing
from ..runtimes.pytorch import Reference
from ..weights.core import Weights, build_network
from .compare import Bound, bound
from .forward import Answer, Inputs, Places, forward, places
from .reference import on_cpu, on_device
from .report import CPU

YARDSTICK, CUDA_YARDSTICK = "pytorch", "pytorch-cuda"
# Of the simulation's own error from the network whose weights alone are rounded (docs/precision.md).
HALF_MULTIPLE = 2.0


@dataclass(frozen=True)
class Standard:
    """Reference logits by input set, float64 (N, classes), and the bounds.

    `own`: runs of PyTorch that are yardsticks, by name. `bounds` hold for every device, `cuda_bounds` on a GPU.
    `units`: by input set, where a runtime's bound is a number of them. `computed_on`: what the reference was computed
    on, in words.
    """

    precision: Precision
    reference: Mapping[str, NDArray[np.float64]]
    bounds: Mapping[str, Bound]
    cuda_bounds: Mapping[str, Bound] = field(default_factory=dict)
    own: Mapping[str, Answer] = field(default_factory=dict)
    units: Mapping[str, float] = field(default_factory=dict)
    computed_on: str = CPU

    def limits(self, spec: RuntimeSpec) -> Mapping[str, Bound]:
        """What `spec` is allowed on each input set."""
        if self.units:
            return _in_units(self.units, spec)
        bounds = self.cuda_bounds if spec.device == "cuda" and self.cuda_bounds else self.bounds
        if self.precision != "float32" or spec.float32_slack == 1.0:
            return bounds
        return {name: replace(one, allowed=spec.float32_slack * one.allowed) for name, one in bounds.items()}


def standard(
    weights: Weights,
    variant: InputVariant,
    precision: Precision,
    names: Sequence[str],
    inputs: Inputs,
    tell: Callable[[str], None],
    device: str | None = None,
) -> Standard:
    """What files of `weights` in that precision are held against in the runtimes `names`.

    `tell` hears what is computed. `device`: what the float64 network runs on, by torch's name; None for the GPU where
    PyTorch finds one and one of `names` runs there, too. Simulations run on the CPU. Raises `InvalidInput` for int8
    without grids.
    """
    network = build_network(weights)
    everything = places(spec_of(YARDSTICK), inputs.pixels)

    def counting(what: str) -> Callable[[], None]:
        tell(what)
        batches = [len(batch) for cut in everything.values() for batch in cut]
        done, total = accumulate(batches), sum(batches)
        return lambda: tell(f"{what}, {next(done):,} of {total:,} images")

    def simulation(module: Int8ResNet | HalfResNet, what: str) -> Mapping[str, NDArray[np.float64]]:
        double = with_input(module.double(), variant, weights.normalization).eval()
        return forward(Reference(double), inputs, everything, counting(what))[0]

    if precision != "float32":
        logits = simulation(simulated(weights, precision), f"float64 simulation of {precision}")
        if precision in HALVES:
            unrounded = simulation(HalfResNet(network, precision, rounded=False), "float64 reference")
            errors = {name: float(np.abs(logits[name] - unrounded[name]).max()) for name in logits}
            limits = {name: Bound(error, HALF_MULTIPLE * error, True) for name, error in errors.items()}
            return Standard(precision, logits, limits)
        units = dict.fromkeys(logits, int8_unit(weights))
        return Standard(precision, logits, _in_units(units, spec_of("onnxruntime-cpu")), units=units)

    eager = with_input(network, variant, weights.normalization).eval()
    double = with_input(copy.deepcopy(network).double(), variant, weights.normalization).eval()
    # a GPU that no runtime asks for is left alone
    on_gpu = any(spec_of(name).device == "cuda" for name in names) and why_missing(CUDA_YARDSTICK) is None
    device = device or ("cuda:0" if on_gpu else "cpu")
    if device == "cpu":
        logits, computed_on = on_cpu(double, inputs, everything, counting), CPU
    else:
        logits, computed_on = on_device(double, inputs, everything, counting, device)
    own = {YARDSTICK: _measure(YARDSTICK, eager, inputs, everything, counting(YARDSTICK))}
    # TF32 and the GPU's own summation order make CUDA's float32 error another one: the larger of both counts there
    if on_gpu:
        own[CUDA_YARDSTICK] = _measure(CUDA_YARDSTICK, eager, inputs, everything, counting(CUDA_YARDSTICK))
    return Standard(
        precision,
        logits,
        {name: bound(logits[name], [own[YARDSTICK].logits[name]]) for name in inputs.pixels},
        {name: bound(logits[name], [one.logits[name] for one in own.values()]) for name in inputs.pixels},
        own,
        computed_on=computed_on,
    )


def simulated(weights: Weights, precision: Precision) -> Int8ResNet | HalfResNet:
    """The float64 simulation of a reduced file of `weights`. Raises `InvalidInput` for int8 without grids."""
    if precision in HALVES:
        return HalfResNet(build_network(weights), precision)
    return Int8ResNet(build_network(weights), _grids(weights))


def int8_unit(weights: Weights) -> float:
    """The change of a logit when one pooled value moves by a step of its grid, at the largest weight that it meets."""
    return _grids(weights).values["avgpool"].scale * float(weights.state["fc.weight"].abs().max())


def _grids(weights: Weights) -> Grids:
    if weights.grids is None:
        raise InvalidInput(
            f"an int8 file of {weights.network.name} cannot be checked without its grids.\n"
            "Give --weights with what `cifar-export quantize` wrote."
        )
    return weights.grids


def _in_units(units: Mapping[str, float], spec: RuntimeSpec) -> Mapping[str, Bound]:
    largest, mean = spec.int8_units
    return {name: Bound(unit, largest * unit, True, mean * unit) for name, unit in units.items()}


def _measure(yardstick: str, module: nn.Module, inputs: Inputs, where: Places, on_batch: Callable[[], None]) -> Answer:
    with open_runtime(yardstick, module) as runtime:
        logits, seconds = forward(runtime, inputs, where, on_batch)
        return Answer(runtime.provider, logits, seconds=seconds)
