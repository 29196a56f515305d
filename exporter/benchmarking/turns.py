"""Turns: A B C A B C …, so that what changes on a machine meanwhile meets all rows alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ..errors import CifarExportError
from .statistics import LEAST_TURNS, QUICK_RESAMPLES, Interval, Turns, median_interval, ratio_of_medians

WELL_ENOUGH = 0.03
"""A ratio is known when half its interval is at most this share of it."""
FEWEST_TURNS = 10
"""Before a look at the intervals decides to stop."""
_LATER = 1.3  # each look at the intervals after so many times the turns of the last

Tell = Callable[[int, float], None]


class Taker(Protocol):
    """What can take a turn: the seconds of each of its runs."""

    def turn(self) -> list[float]:
        """One turn. Raises one of our errors where it can go on no more."""


class Turning:
    """Rows that are measured in turn.

    `turns` has what came of each so far, whenever it stops; `failed` the error of those that could go on no more.
    """

    def __init__(self, takers: Sequence[Taker]) -> None:
        self._takers = list(takers)
        self.turns: list[list[list[float]]] = [[] for _ in takers]
        self.failed: dict[int, CifarExportError] = {}

    def take(self, limit_s: float, tell: Tell = lambda turns, share: None) -> bool:
        """Take turns until all ratios to the first row are known well enough, which is True, or the time is over.

        Every row gets `LEAST_TURNS`, whatever the limit. `tell` is called after each round, with its number and how
        much of the time is over.
        """
        began, rounds, look = time.monotonic(), 0, FEWEST_TURNS
        while True:
            for place, taker in enumerate(self._takers):
                if place not in self.failed:
                    self._one(place, taker)
            rounds += 1
            if len(self.failed) == len(self._takers):
                return False
            over = (time.monotonic() - began) / limit_s if limit_s > 0 else math.inf
            tell(rounds, min(over, 1.0))
            if rounds >= look:
                if self.known():
                    return True
                look = math.ceil(look * _LATER)
            if over >= 1 and rounds >= LEAST_TURNS:
                return self.known()

    def known(self) -> bool:
        """Whether the ratio of each row to the first, or the median of a row that is alone, is known well enough."""
        going = [turns for place, turns in enumerate(self.turns) if place not in self.failed]
        first: Turns = going[0]
        if len(going) == 1:
            return _well(median_interval(first, QUICK_RESAMPLES))
        return all(_well(ratio_of_medians(turns, first, QUICK_RESAMPLES)) for turns in going[1:])

    def _one(self, place: int, taker: Taker) -> None:
        try:
            self.turns[place].append(taker.turn())
        except CifarExportError as error:
            self.failed[place] = error


def _well(interval: Interval | None) -> bool:
    return interval is not None and interval.relative <= WELL_ENOUGH
