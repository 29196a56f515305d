"""Whose turn it is, and when it is enough. Nothing is timed here: rows say times."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cifar_export.benchmarking.statistics import LEAST_TURNS
from cifar_export.benchmarking.turns import FEWEST_TURNS, Turning
from cifar_export.errors import GateFailed


class Says:
    """A row that takes `seconds` in each turn, times `scatter` by chance."""

    def __init__(self, name: str, seconds: float, log: list[str], scatter: float = 0.0) -> None:
        self.name, self.seconds, self.log = name, seconds, log
        self.noise = np.random.default_rng(len(name)).normal(0, scatter, 10_000).tolist()

    def turn(self) -> list[float]:
        self.log.append(self.name)
        return [self.seconds * (1 + self.noise.pop()) for _ in range(3)]


class Dies(Says):
    def turn(self) -> list[float]:
        if len(self.log) > 4:
            raise GateFailed("crashed: signal 11 (SIGSEGV)")
        return super().turn()


def test_rows_take_turns_until_the_ratios_are_known():
    log: list[str] = []
    turning = Turning([Says("a", 1, log), Says("b", 2, log), Says("c", 3, log)])
    assert turning.take(3600.0)
    assert log == ["a", "b", "c"] * FEWEST_TURNS
    assert [len(turns) for turns in turning.turns] == [FEWEST_TURNS] * 3


def test_what_scatters_gets_more_turns():
    log: list[str] = []
    turning = Turning([Says("a", 1, log, 0.02), Says("bb", 2, log, 0.2)])
    assert turning.take(3600.0)
    assert len(turning.turns[1]) > 3 * FEWEST_TURNS


def test_a_row_that_is_alone_is_measured_until_its_median_is_known():
    log: list[str] = []
    turning = Turning([Says("a", 1, log, 0.3)])
    assert turning.take(3600.0)
    assert len(turning.turns[0]) > FEWEST_TURNS


@pytest.mark.parametrize("scatter", [0.0, 0.9])
def test_when_the_time_is_over_there_are_turns_enough_for_an_interval(scatter):
    log: list[str] = []
    turning = Turning([Says("a", 1, log), Says("bb", 2, log, scatter)])
    assert turning.take(0.0) == (scatter == 0)
    assert len(log) == 2 * LEAST_TURNS


def test_a_row_that_dies_ends_itself_alone():
    log: list[str] = []
    turning = Turning([Says("a", 1, log), Dies("b", 2, log), Says("c", 3, log)])
    assert turning.take(3600.0)
    assert [len(turns) for turns in turning.turns] == [FEWEST_TURNS, 2, FEWEST_TURNS]
    assert {place: str(error) for place, error in turning.failed.items()} == {1: "crashed: signal 11 (SIGSEGV)"}


def test_rows_that_all_die_end_it():
    turning = Turning([Dies("a", 1, ["x"] * 9), Dies("b", 1, ["x"] * 9)])
    assert not turning.take(3600.0)
    assert set(turning.failed) == {0, 1}


def test_ctrl_c_leaves_what_there_is():
    log: list[str] = []
    count = itertools.count()

    class Interrupts(Says):
        def turn(self) -> list[float]:
            if next(count) == 3:
                raise KeyboardInterrupt
            return super().turn()

    turning = Turning([Says("a", 1, log), Interrupts("b", 2, log)])
    with pytest.raises(KeyboardInterrupt):
        turning.take(3600.0)
    assert [len(turns) for turns in turning.turns] == [4, 3]
