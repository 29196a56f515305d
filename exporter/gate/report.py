"""The result of a parity run as data: a verdict for people, numbers for machines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .compare import ERROR_EDGES, MULTIPLE, ULPS, Comparison, Worst

if TYPE_CHECKING:
    from .divergence import Divergence, LayerError

SCHEMA = 2  # docs/schemas/parity-2.json
State = Literal["passed", "failed", "reported", "yardstick", "not_run"]
WORDS: dict[State, str] = {
    "passed": "passed",
    "failed": "FAILED",
    "reported": "reported",
    "yardstick": "yardstick",
    "not_run": "not run",
}
"""Each state as tables and pages show it."""
CPU = "CPU"
"""What a reference is computed on that no GPU was asked for."""

_REFERENCES = {
    "float32": "PyTorch float64",
    "float16": "float64 simulation of float16",
    "bfloat16": "float64 simulation of bfloat16",
    "int8": "float64 simulation of int8",
}


@dataclass(frozen=True)
class RuntimeResult:
    """One row of the table.

    `state`: "passed" and "failed" are what the gate says, and "failed" too of a yardstick that is no float32 forward.
    "reported": it computes in reduced precision on purpose and decides nothing, whatever its error or even if it
    crashed. "yardstick": the others are measured by it. "not_run": this machine or the files given lack something.
    `reason`: why it failed or did not run, or how far what is only reported is off; None where there is nothing to say.
    """

    runtime: str
    provider: str | None
    state: State
    reason: str | None = None
    comparisons: tuple[Comparison, ...] = ()

    @property
    def max_abs_error(self) -> float | None:
        """Largest absolute error of a logit over all input sets; None where nothing ran."""
        return max((c.max_abs_error for c in self.comparisons), default=None)

    @property
    def mean_abs_error(self) -> float | None:
        """Mean absolute error of the logits over all images; None where nothing ran."""
        images = self.images
        return sum(c.mean_abs_error * c.images for c in self.comparisons) / images if images else None

    @property
    def top1_agreement(self) -> float | None:
        """Share of the images, 0 to 1, whose class is the reference's; None where nothing ran."""
        return sum(c.agreeing for c in self.comparisons) / self.images if self.images else None

    @property
    def images(self) -> int:
        """Images that were run."""
        return sum(c.images for c in self.comparisons)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; infinite errors become None beside a reason that says so."""
        return {
            "runtime": self.runtime,
            "provider": self.provider,
            "state": self.state,
            "max_abs_error": _finite(self.max_abs_error),
            "mean_abs_error": _finite(self.mean_abs_error),
            "top1_agreement": self.top1_agreement,
            "images": self.images,
            "reason": self.reason,
            "inputs": [
                {
                    "inputs": c.inputs,
                    "images": c.images,
                    "max_abs_error": _finite(c.max_abs_error),
                    "mean_abs_error": _finite(c.mean_abs_error),
                    "allowed": _finite(c.allowed),
                    "top1_agreement": c.agreeing / c.images,
                    "clear": c.clear,
                    "passed": c.passed,
                    "error_counts": list(c.histogram),
                    "worst": _worst(c.worst),
                }
                for c in self.comparisons
            ],
        }


@dataclass(frozen=True)
class ParityReport:
    """What was compared, against what, and whether all of it holds.

    `yardsticks`: PyTorch's own largest float32 error by input set, for each device it ran on. `problems`: what is
    wrong with the files themselves, beside the numbers (metadata of other weights, say). `versions`: of the packages
    and the system that it ran on, by name. `divergence`: the first node of an ONNX file that failed its gate which
    leaves the reference, if it was found, else `divergence_unknown` says why it could not be looked for. `layers`: the
    error of every value of the ONNX graph, where it was measured. `precision` is that of the files. `computed_on`: what
    the reference was computed on, in words.
    """

    network: str
    input: str
    weights_sha256: str
    yardsticks: dict[str, dict[str, float]]
    allowed: dict[str, float]
    runtimes: tuple[RuntimeResult, ...]
    problems: tuple[str, ...] = ()
    divergence: Divergence | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    layers: tuple[LayerError, ...] = ()
    divergence_unknown: str | None = None
    precision: str = "float32"
    computed_on: str = CPU

    @property
    def reference(self) -> str:
        """What the runtimes were compared with, and what computed that."""
        return f"{_REFERENCES[self.precision]}, {self.computed_on}"

    @property
    def passed(self) -> bool:
        """True if something was gated, everything gated passed, and no file has a problem."""
        states = {row.state for row in self.runtimes}
        return "passed" in states and "failed" not in states and not self.problems

    @property
    def failures(self) -> list[str]:
        """One line for each thing that failed."""
        rows = [f"{row.runtime}: {row.reason}" for row in self.runtimes if row.state == "failed"]
        if not rows and not any(row.state == "passed" for row in self.runtimes):
            rows = ["no runtime was compared with the reference"]
        return [*self.problems, *rows]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "network": self.network,
            "input": self.input,
            "weights_sha256": self.weights_sha256,
            "precision": self.precision,
            "reference": self.reference,
            "yardstick": {
                "runtime": "pytorch",
                "multiple": MULTIPLE,
                "ulps": ULPS,
                "max_abs_error": {device: _all_finite(errors) for device, errors in self.yardsticks.items()},
                "allowed": _all_finite(self.allowed),
            },
            "error_edges": list(ERROR_EDGES),
            "problems": list(self.problems),
            "divergence": self.divergence.as_dict() if self.divergence else None,
            "divergence_unknown": self.divergence_unknown,
            "runtimes": [result.as_dict() for result in self.runtimes],
            "layers": [
                {
                    "name": layer.name,
                    "op": layer.op,
                    "max_abs_error": _finite(layer.max_abs_error),
                    "allowed": _finite(layer.allowed),
                    "inside": layer.inside,
                }
                for layer in self.layers
            ],
            "versions": dict(self.versions),
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _all_finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in values.items()}


def _worst(worst: Worst | None) -> dict[str, Any] | None:
    if worst is None:
        return None
    return {
        "image": worst.image,
        "max_abs_error": _finite(worst.max_abs_error),
        "classes": [
            {"class": number, "reference": _finite(reference), "logit": _finite(logit)}
            for number, reference, logit in worst.classes
        ],
    }
