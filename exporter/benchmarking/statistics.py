"""From times to figures: percentiles, and ratios of medians with the interval that they are known within.

Runs of one turn are alike: the machine was in one state. So the bootstrap draws whole turns, not runs (a block
bootstrap), and for a ratio the same turns of both rows, because what slows one down in a turn slows the other, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 1000
LEAST_TURNS = 5
"""Fewer say nothing of how turns differ: what is of fewer has no interval."""
QUICK_RESAMPLES = 200
"""Enough to see whether to go on."""
_BINS = 40
_SEED = 0  # the same times give the same interval

Turns = Sequence[Sequence[float]]
"""Seconds of each run, by turn."""


@dataclass(frozen=True)
class Interval:
    """An estimate, and the bounds it lies between with a confidence of `CONFIDENCE`."""

    value: float
    low: float
    high: float

    @property
    def relative(self) -> float:
        """Half its width, as a share of the estimate."""
        return (self.high - self.low) / 2 / self.value

    def __str__(self) -> str:
        if self.low == self.high:  # the first row's, to itself
            return f"{self.value:.2f}"
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f})"

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


def pooled(turns: Turns) -> NDArray[np.float64]:
    """Every run of all turns, in their order. Nothing is dropped."""
    return np.concatenate([np.asarray(turn, float) for turn in turns]) if turns else np.empty(0)


def median_interval(turns: Turns, resamples: int = RESAMPLES) -> Interval | None:
    """The median of all runs; None for fewer than `LEAST_TURNS`."""
    if len(turns) < LEAST_TURNS:
        return None
    drawn = [_median(turns, some) for some in _draws(len(turns), resamples)]
    return _interval(float(np.median(pooled(turns))), drawn)


def ratio_of_medians(turns: Turns, first: Turns, resamples: int = RESAMPLES) -> Interval | None:
    """The median of `turns` over that of `first`, the turns of a row measured in turn with it.

    Turns that only one of them has had are left out of the interval, not of the ratio. None for fewer than
    `LEAST_TURNS` of both.
    """
    both = min(len(turns), len(first))
    if both < LEAST_TURNS:
        return None
    drawn = [_median(turns, some) / _median(first, some) for some in _draws(both, resamples)]
    return _interval(float(np.median(pooled(turns)) / np.median(pooled(first))), drawn)


def ratio_apart(medians: Sequence[float], others: Sequence[float], resamples: int = RESAMPLES) -> Interval | None:
    """The typical of `medians`, of the turns of a row, over that of `others`, measured at another time.

    None where either has fewer than `LEAST_TURNS`.
    """
    if min(len(medians), len(others)) < LEAST_TURNS:
        return None
    new, old = np.asarray(medians, float), np.asarray(others, float)
    generator = np.random.default_rng(_SEED)
    drawn = [
        float(np.median(generator.choice(new, len(new))) / np.median(generator.choice(old, len(old))))
        for _ in range(resamples)
    ]
    return _interval(float(np.median(new) / np.median(old)), drawn)


def histogram(turns: Turns) -> dict[str, Any]:
    """How many runs took how long: `counts` in bins of equal ratio from `low` to `high` seconds, all runs inside."""
    seconds = pooled(turns)
    low, high = float(seconds.min()), float(seconds.max())
    edges = np.geomspace(low, max(high, low * 1.01), _BINS + 1)
    edges[0], edges[-1] = low, max(high, float(edges[-1]))
    counts, _ = np.histogram(seconds, edges)
    return {"low": low, "high": float(edges[-1]), "counts": counts.tolist()}


def _draws(turns: int, resamples: int) -> NDArray[np.int64]:
    return np.random.default_rng(_SEED).integers(0, turns, (resamples, turns))


def _median(turns: Turns, some: NDArray[np.int64]) -> float:
    return float(np.median(np.concatenate([np.asarray(turns[turn]) for turn in some])))


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, min(float(low), value), max(float(high), value))
