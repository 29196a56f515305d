"""From times to figures: what an interval promises, and that nothing is dropped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_export.benchmarking.statistics import (
    LEAST_TURNS,
    Interval,
    histogram,
    median_interval,
    pooled,
    ratio_apart,
    ratio_of_medians,
)


def two_rows(seed: int, ratio: float, turns: int = 30, runs: int = 20):
    """Rows of a machine that drifts by a tenth from turn to turn, in the same way for both, with runs that scatter."""
    generator = np.random.default_rng(seed)
    drift = np.exp(generator.normal(0, 0.1, turns))
    scatter = np.exp(generator.normal(0, 0.05, (2, turns, runs)))
    return scatter[0] * drift[:, None] * 1e-3, scatter[1] * drift[:, None] * 1e-3 * ratio


def test_the_interval_of_a_ratio_holds_the_true_one_in_about_95_of_100():
    held = 0
    for seed in range(120):
        first, row = two_rows(seed, 1.5)
        interval = ratio_of_medians(row.tolist(), first.tolist(), 200)
        held += interval.low <= 1.5 <= interval.high
    assert 0.90 <= held / 120 <= 0.995


def test_turns_that_are_slow_for_both_rows_widen_no_ratio():
    first, row = two_rows(3, 1.5)
    paired = ratio_of_medians(row.tolist(), first.tolist())
    apart = ratio_apart(np.median(row, axis=1).tolist(), np.median(first, axis=1).tolist())
    assert paired.relative < 0.5 * apart.relative


def test_the_interval_of_a_median_is_of_turns_not_of_runs():
    """A thousand equal runs in each turn are no thousand measurements: turns differ."""
    turns = [[value] * 1000 for value in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)]
    interval = median_interval(turns)
    assert interval.high - interval.low > 0.15


def test_the_same_times_give_the_same_interval():
    first, row = two_rows(1, 2.0)
    assert ratio_of_medians(row.tolist(), first.tolist()) == ratio_of_medians(row.tolist(), first.tolist())


def test_a_row_beside_itself_is_one_exactly():
    first, _ = two_rows(1, 2.0)
    interval = ratio_of_medians(first.tolist(), first.tolist())
    assert interval == Interval(1.0, 1.0, 1.0)
    assert str(interval) == "1.00"


@pytest.mark.parametrize("turns", range(LEAST_TURNS + 1))
def test_fewer_than_five_turns_have_no_interval(turns):
    some = [[1.0, 2.0]] * turns
    enough = [[1.0, 2.0]] * 9
    found = [median_interval(some), ratio_of_medians(some, enough), ratio_apart([1.0] * turns, [1.0] * 9)]
    assert [interval is not None for interval in found] == [turns == 5] * 3


@given(
    st.lists(
        st.lists(st.floats(1e-6, 100.0), min_size=1, max_size=20),
        min_size=1,
        max_size=20,
    )
)
def test_every_run_is_in_the_histogram(turns):
    found = histogram(turns)
    assert sum(found["counts"]) == len(pooled(turns)) == sum(map(len, turns))
    assert found["low"] == min(map(min, turns))
    assert found["high"] >= max(map(max, turns))
