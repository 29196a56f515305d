"""The search for the first wrong node of a file in reduced precision, where each node answers for itself.

ONNX Runtime runs the file on the CPU with graph optimizations off, so that every node exists. The simulation of the
precision then computes each value from what the file itself has found before it, so that a number that went to the
other side of a tie is no error of what comes after. How far a node may be off is the precision's: `locate_int8`,
`locate_half`.
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

from ..formats.onnx_graph import onnx_model, read_choices
from ..formats.ports import as_fed
from ..gate.divergence import Divergence, Located, WeightDifference
from ..gate.node_outputs import Run, fixed_batch, free_batch, load, longest_beginning
from ..networks.preprocess import Pixels, as_variant
from ..networks.resnet import with_input
from ..networks.zoo import InputVariant
from ..runtimes import require_runtime
from ..runtimes.pytorch import Reference
from ..weights.core import Weights, build_network

# Of a tensor's largest number. Measured on bundled networks of 20 and 56 layers and on seeded ones: float32 sums are
# off by 13 units in the last place.
SUM_ULPS = 64.0
_BATCH = 16


@dataclass(frozen=True)
class NodeError:
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


class Trail:
    """The values of the file on one batch, `actual` by name, and the `errors` that its follower notes."""

    def __init__(self) -> None:
        self.actual: Mapping[str, NDArray[Any]] = {}
        self.errors: dict[str, NodeError] = {}

    def found(self, name: str, exact: Tensor) -> Tensor | None:
        """The file's value of that name, float64 in the shape of `exact`; None where it has none that fits."""
        numbers = self.actual.get(name)
        if numbers is None:
            return None  # ONNX Runtime got no further, or the file rounds nothing there: what follows shows it
        if numbers.size != exact.numel():
            self.errors[name] = NodeError(np.inf, 0.0, 0, "shape")
            return None
        return torch.from_numpy(numbers.astype(np.float64)).reshape(exact.shape)

    def note(self, name: str, error: Tensor, allowed: float, unit: str) -> None:
        """Keep how far the value is off, (images, ...), in that unit."""
        by_image = np.nan_to_num(error.reshape(len(error), -1).numpy(), nan=np.inf).max(axis=1)
        self.errors[name] = NodeError(float(by_image.max()), allowed, int(by_image.argmax()), unit)


def ulp(value: Tensor) -> float:
    """The unit in the last place of the largest number, in float32."""
    return float(np.spacing(np.float32(value.abs().max().item())))


def search(
    weights: Weights, file: Path, variant: InputVariant, pixels: Pixels, follower: nn.Module, trail: Trail, run: Run
) -> Located:
    """The first node of the ONNX `file` that is off by more than `follower` allows.

    `pixels`: uint8 (N, 32, 32, 3). `follower`: from normalized images to logits; it reads and fills `trail`. There is
    no divergence where every node does what it should: then a runtime that fails computes otherwise than node by node.
    Raises what `locate.locate` raises.
    """
    require_runtime("onnxruntime-cpu")
    module = with_input(follower.double(), variant, weights.normalization).eval()
    model = load(file)
    images = as_variant(pixels, variant, weights.normalization)
    size = fixed_batch(model) or _BATCH
    if size > len(images):
        free_batch(model)
        size = _BATCH
    images = images[: max(1, len(images) // size) * size]
    runnable, refusal = longest_beginning(model, run)
    choices = read_choices(model)
    worst: dict[str, NodeError] = {}
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        trail.actual, trail.errors = run(runnable, as_fed(batch, None, choices.layout, choices.io)), {}
        Reference(module).logits(batch)
        for name, found in trail.errors.items():
            known = worst.get(name)
            if known is None or found.error > known.error:
                worst[name] = NodeError(found.error, found.allowed, start + found.image, found.unit)
    wrong = next((name for name, found in worst.items() if not found.error <= found.allowed), None)
    if wrong is None and refusal is not None:
        node, why = refusal
        return Located((), _blame(model, weights, variant, node.output[0], f"ONNX Runtime cannot run it: {why}"))
    if wrong is None:
        return Located((), None)
    return Located((), _blame(model, weights, variant, wrong, str(worst[wrong]), worst[wrong]))


def _blame(
    model: onnx.ModelProto,
    weights: Weights,
    variant: InputVariant,
    value: str,
    reason: str,
    found: NodeError | None = None,
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
