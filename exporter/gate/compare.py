"""Numbers and the gate: can float32 arithmetic explain what this runtime returned.

The reference is the network in float64. PyTorch's own float32 forward makes an error against it, the yardstick; a
runtime that computes the same function in float32, in another order, makes one of the same size. So a runtime passes
when, in each input set, its largest error is at most `MULTIPLE` times the yardstick plus `ULPS` units in the last
place of the largest logit. Nothing needs tuning to a network or a machine; a TF32 or bfloat16 slip is hundreds of times
too large.

Nothing is demanded of the classes, because arithmetic settles them: where the float64 margin between the best two is
more than twice the bound, no error within the bound can bring another class to the top. Those images are counted as
clear.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Measured (docs/parity.md): of 1,000 comparisons of correct float32 runtimes 999 stay below 3.7 with ten images a set;
# the ulps cover the rest.
MULTIPLE = 4.0
ULPS = 4.0
# A yardstick above this many float32 roundings of the largest logit is no float32 forward: TF32 or bf16 was on.
YARDSTICK_LIMIT_ULPS = 512.0
# The histogram's bins: half a decade each. What is smaller than the first edge counts in the first bin, what is larger
# than the last one, or no number, in the last.
ERROR_EDGES = tuple(float(f"{10 ** (exponent / 2):.3g}") for exponent in range(-18, 3))
_TOP = 5


@dataclass(frozen=True)
class Bound:
    """What one input set allows: the yardstick's error, and the largest error that passes.

    `mean`: the largest mean error that passes, where that is bounded too.
    """

    yardstick: float
    allowed: float
    yardstick_is_float32: bool
    mean: float | None = None


@dataclass(frozen=True)
class Worst:
    """The image with the largest error: its place in the input set, and what became of its classes.

    `classes`: (class, the reference's logit, the runtime's) for the reference's five best, the runtime's best and the
    one with the largest error, best first.
    """

    image: int
    max_abs_error: float
    classes: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Comparison:
    """A runtime against the reference on one input set. Errors are absolute, in logits.

    `agreeing`: images on which the runtime names the reference's class. `clear`: images whose float64 margin between
    the best two classes exceeds twice the bound. `broken`: images with NaN or infinite logits. `histogram`: how many
    logits have an error in each bin of `ERROR_EDGES`.
    """

    inputs: str
    images: int
    max_abs_error: float
    mean_abs_error: float
    allowed: float
    agreeing: int
    clear: int
    broken: int
    problem: str | None
    histogram: tuple[int, ...] = ()
    worst: Worst | None = None

    @property
    def passed(self) -> bool:
        """Whether this set raised no problem."""
        return self.problem is None


def bound(reference: NDArray[np.float64], yardsticks: list[NDArray[np.float32]]) -> Bound:
    """The bound of one input set from the float64 logits and one or more PyTorch float32 forwards, (N, classes) each.

    With several (CPU and CUDA), the largest error among them is the yardstick.
    """
    largest = float(np.abs(reference).max())
    error = max(float(np.abs(logits.astype(np.float64) - reference).max()) for logits in yardsticks)
    ulp = float(np.spacing(np.float32(largest)))
    sane = bool(np.isfinite(error)) and error <= YARDSTICK_LIMIT_ULPS * ulp
    return Bound(error, MULTIPLE * error + ULPS * ulp, sane)


def compare(
    name: str,
    reference: NDArray[np.float64],
    logits: NDArray[np.float32],
    limit: Bound,
    places: NDArray[np.intp] | None = None,
) -> Comparison:
    """Measure `logits` against `reference`, (N, classes) each, on the input set called `name`, and judge them.

    `places`: which image of the set each row is; None where the rows are the set.
    """
    images = len(reference)
    best_two = np.partition(reference, -2, axis=1)[:, -2:]
    clear = int((best_two[:, 1] - best_two[:, 0] > 2 * limit.allowed).sum())
    if logits.shape != reference.shape or logits.dtype != np.float32:
        found = f"{logits.dtype} {logits.shape}, not float32 {reference.shape}"
        return Comparison(name, images, np.inf, np.inf, limit.allowed, 0, clear, images, f"logits are {found}")
    error = np.abs(logits.astype(np.float64) - reference)
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    agreeing = int((logits.argmax(axis=1) == reference.argmax(axis=1)).sum())
    largest = float(error.max()) if not broken else np.inf
    mean = float(error.mean()) if not broken else np.inf
    problem = None
    if broken:
        problem = f"NaN or infinite logits on {broken} of {images} images"
    elif not limit.yardstick_is_float32:
        problem = f"PyTorch's own error, {limit.yardstick:.1e}, is no float32 error: reduced precision is on"
    elif largest > limit.allowed:
        problem = f"error {largest:.1e} exceeds {limit.allowed:.1e}"
    elif limit.mean is not None and mean > limit.mean:
        problem = f"mean error {mean:.1e} exceeds {limit.mean:.1e}"
    counts, worst = _histogram(error), _worst(reference, logits, error, places)
    return Comparison(name, images, largest, mean, limit.allowed, agreeing, clear, broken, problem, counts, worst)


def _histogram(error: NDArray[np.float64]) -> tuple[int, ...]:
    known = np.nan_to_num(error, nan=np.inf).ravel()
    bins = np.clip(np.searchsorted(ERROR_EDGES, known, side="right") - 1, 0, len(ERROR_EDGES) - 2)
    return tuple(int(count) for count in np.bincount(bins, minlength=len(ERROR_EDGES) - 1))


def _worst(
    reference: NDArray[np.float64],
    logits: NDArray[np.float32],
    error: NDArray[np.float64],
    places: NDArray[np.intp] | None,
) -> Worst:
    known = np.nan_to_num(error, nan=np.inf)
    row = int(known.max(axis=1).argmax())
    best = np.argsort(-reference[row], kind="stable")
    shown = {*best[:_TOP].tolist(), int(logits[row].argmax()), int(known[row].argmax())}
    classes = tuple((int(c), float(reference[row, c]), float(logits[row, c])) for c in best if int(c) in shown)
    return Worst(row if places is None else int(places[row]), float(known[row].max()), classes)
