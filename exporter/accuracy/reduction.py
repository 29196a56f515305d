"""What a reduced precision costs: a file in int8 or float16 against its own float32 network, picture by picture.

Both classify the same pictures, so the test is a paired one: of the pictures that only one of the two gets right, each
side would have half if they were equally good (McNemar 1947, "Note on the sampling error of the difference between
correlated proportions or percentages", Psychometrika 12), which the binomial distribution answers exactly. It says
whether a difference is more than chance; whether it is too much, the budget says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Split
from ..errors import GateFailed
from ..formats import format_of
from ..formats.onnx_choices import Precision
from ..gate.inputs import bundled_images
from ..networks.zoo import InputVariant
from ..weights.core import Weights
from .score import score

JUDGE = "onnxruntime-cpu"
BUDGET = 0.10
"""Points of top-1 that a reduced file may lose by default: what the bundled networks are made for."""
NOT_CHECKED = "accuracy not checked here"


@dataclass(frozen=True)
class Accuracies:
    """Top-1 in percent of the float32 network and of the reduced file, on the same test pictures.

    `lost`: pictures that only float32 gets right; `gained`: those that only the reduced file does. `p_value`: of
    McNemar's exact test, two-sided. `budget`: the points that may be lost.
    """

    float32: float
    reduced: float
    lost: int
    gained: int
    p_value: float
    budget: float

    @property
    def points(self) -> float:
        """How much better the reduced file is, in points; negative where it is worse."""
        return self.reduced - self.float32

    @property
    def passed(self) -> bool:
        """Whether no more was lost than the budget has. Both are decimals, so float's last digits do not decide."""
        return round(-self.points, 6) <= round(self.budget, 6)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "float32": self.float32,
            "reduced": self.reduced,
            "points": round(self.points, 6),
            "lost": self.lost,
            "gained": self.gained,
            "p_value": self.p_value,
            "budget": self.budget,
        }


@dataclass(frozen=True)
class Reduction:
    """A reduced file against float32 on `images` pictures, `agreeing` of which get the same class from both.

    `accuracies` is None where no test set was at hand: then `reason` says why, and the pictures are the bundled ones.
    """

    precision: Precision
    images: int
    agreeing: int
    accuracies: Accuracies | None = None
    reason: str | None = None

    def __str__(self) -> str:
        same = f"the class of float32 on {self.agreeing:,} of {self.images:,}"
        found = self.accuracies
        if found is None:
            return f"{same} bundled pictures; {self.reason}"
        figures = f"top-1 {found.reduced:.2f} %, float32 {found.float32:.2f} % ({found.points:+.2f} points"
        test = f"{found.lost} lost, {found.gained} gained, McNemar p = {found.p_value:.2g})"
        return f"{figures}; {test}; {same} test pictures"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "precision": self.precision,
            "images": self.images,
            "agreeing": self.agreeing,
            "accuracy": self.accuracies.as_dict() if self.accuracies else None,
            "reason": self.reason,
        }


def against_float32(
    weights: Weights,
    file: Path,
    variant: InputVariant,
    precision: Precision,
    *,
    split: Split | None = None,
    budget: float = BUDGET,
    why_not: str = "",
    progress: Callable[[str], None] | None = None,
) -> Reduction:
    """Compare the exported `file` with the float32 network of `weights`, both in ONNX Runtime on the CPU.

    On the test pictures of `split`, or on the bundled ones where there is none: `why_not` says why. Raises `GateFailed`
    where the file loses more than `budget` points of top-1.
    """
    images = bundled_images() if split is None else split.images
    shown = Split(images, np.zeros(len(images), np.int64)) if split is None else split
    if progress is not None:
        progress(f"{precision} and float32 on {len(images):,} {'bundled' if split is None else 'test'} pictures")
    full = score(weights, shown, JUDGE, variant=variant).predictions
    reduced = score(weights, shown, format_of(file).gate, file=file).predictions
    if split is None:
        said = f"{NOT_CHECKED}: {why_not}" if why_not else NOT_CHECKED
        return Reduction(precision, len(images), int((full == reduced).sum()), reason=said)
    return compared(precision, full, reduced, split.labels, budget)


def compared(
    precision: Precision,
    full: NDArray[np.int64],
    reduced: NDArray[np.int64],
    labels: NDArray[np.int64],
    budget: float = BUDGET,
) -> Reduction:
    """What the classes that a `reduced` file predicts cost against those of float32, all (N,), given the right ones.

    Raises `GateFailed` where that is more than `budget` points of top-1.
    """
    right, still = full == labels, reduced == labels
    lost, gained = int((right & ~still).sum()), int((still & ~right).sum())
    percent = 100.0 / len(labels)
    accuracies = Accuracies(
        percent * int(right.sum()), percent * int(still.sum()), lost, gained, mcnemar(lost, gained), budget
    )
    found = Reduction(precision, len(labels), int((full == reduced).sum()), accuracies)
    if not accuracies.passed:
        instead = " or use float16" if precision == "int8" else ""
        raise GateFailed(
            f"{precision} loses {-accuracies.points:.2f} points of top-1, not {budget:.2f} or less ({found}). "
            f"Nothing was written.\nAccept it with a larger --accuracy-budget{instead}."
        )
    return found


def mcnemar(one: int, other: int) -> float:
    """The two-sided p-value, 0..1, that pictures of which only one of two is right are shared as `one` and `other`.

    Twice the lower tail of the binomial distribution of `one` + `other` trials with probability 1/2, at most 1.
    """
    trials, fewer = one + other, min(one, other)
    term = total = 1
    for k in range(fewer):
        term = term * (trials - k) // (k + 1)
        total += term
    return float(min(1.0, 2 * total / 2**trials))
