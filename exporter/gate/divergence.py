"""Where an ONNX file leaves the network, as data: the error of every value, and the first node that is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .compare import MULTIPLE, ULPS

Kind = Literal["numbers", "shape", "missing", "refused"]


@dataclass(frozen=True)
class LayerError:
    """One value of the graph against PyTorch float64, over all images. Errors are absolute, in the tensor's unit."""

    name: str
    op: str
    largest: float
    max_abs_error: float
    yardstick: float
    worst_image: int

    @property
    def allowed(self) -> float:
        """The float32 band: what the gate would allow logits of this size and yardstick."""
        return MULTIPLE * self.yardstick + ULPS * self.ulp

    @property
    def ulp(self) -> float:
        """Unit in the last place of the tensor's largest value in float32."""
        return float(np.spacing(np.float32(self.largest)))

    @property
    def inside(self) -> bool:
        """Whether float32 arithmetic explains the error; never for NaN."""
        return self.max_abs_error <= self.allowed


@dataclass(frozen=True)
class WeightDifference:
    """A weight that a node reads, against PyTorch's (batch norm folded in float64).

    `max_abs_difference` is None if they are equal up to float32 rounding, and infinite where the shape is another.
    """

    name: str
    shape: tuple[int, ...]
    max_abs_difference: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        difference = self.max_abs_difference
        finite = difference if difference is not None and np.isfinite(difference) else None
        return {
            "name": self.name,
            "shape": list(self.shape),
            "differs": difference is not None,
            "max_abs_difference": finite,
        }


@dataclass(frozen=True)
class Divergence:
    """The first node that is wrong, and how.

    `kind`: "numbers" (its output leaves the float32 band), "shape" (its output has another shape), "missing" (the
    network has it and the file has not) or "refused" (ONNX Runtime cannot run it). `output` is the value it makes;
    `ulp_error` the error in units in the last place of the tensor's largest value; `worst_image` the image with the
    largest error, counted among those that were run. `attributes` says which attributes are not the network's.
    """

    node: str
    op: str
    kind: Kind
    output: str
    reason: str
    inputs: tuple[str, ...] = ()
    weights: tuple[WeightDifference, ...] = ()
    attributes: tuple[str, ...] = ()
    max_abs_error: float | None = None
    allowed: float | None = None
    ulp_error: float | None = None
    worst_image: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON; infinite errors become None beside a reason that says so."""
        finite = {
            key: value if value is not None and np.isfinite(value) else None
            for key, value in (
                ("max_abs_error", self.max_abs_error),
                ("allowed", self.allowed),
                ("ulp_error", self.ulp_error),
            )
        }
        return {
            "node": self.node,
            "op": self.op,
            "kind": self.kind,
            "output": self.output,
            "reason": self.reason,
            "inputs": list(self.inputs),
            "weights": [weight.as_dict() for weight in self.weights],
            "attributes": list(self.attributes),
            **finite,
        }


@dataclass(frozen=True)
class Located:
    """Errors of the values up to the first that is missing or of another shape, and the divergence if there is one."""

    layers: tuple[LayerError, ...]
    divergence: Divergence | None
