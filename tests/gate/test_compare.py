"""The gate itself: what float32 arithmetic explains passes, and nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_export.gate.compare import ERROR_EDGES, Bound, bound, compare


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.floats(1.5, 1000.0))
def test_errors_beyond_the_bound_never_pass_and_smaller_ones_do(seed, factor):
    rng = np.random.default_rng(seed)
    reference = rng.normal(0, 10, (20, 10))
    yardstick = (reference + rng.normal(0, 1e-6, reference.shape)).astype(np.float32)
    limit = bound(reference, [yardstick])
    assert compare("x", reference, yardstick, limit).passed
    wrong = reference.copy()
    wrong.flat[rng.integers(wrong.size)] += factor * limit.allowed
    assert not compare("x", reference, wrong.astype(np.float32), limit).passed


def test_a_reduced_precision_yardstick_opens_no_gate():
    """A PyTorch that computes in TF32 has a large error itself: the bound it would give is refused."""
    reference = np.random.default_rng(0).normal(0, 10, (20, 10))
    tf32 = (reference.astype(np.float32).view(np.uint32) & 0xFFFFE000).view(np.float32)
    result = compare("x", reference, tf32, bound(reference, [tf32]))
    assert "is no float32 error: reduced precision is on" in result.problem


@pytest.mark.parametrize("bad", [np.zeros((3, 9), np.float32), np.zeros((3, 10)), np.zeros((30,), np.float32)])
def test_logits_of_another_shape_or_type_fail(bad):
    reference = np.ones((3, 10))
    result = compare("x", reference, bad, bound(reference, [reference.astype(np.float32)]))
    assert result.problem.startswith("logits are ")


def test_a_mean_error_is_bounded_where_a_bound_is_given():
    reference = np.zeros((4, 10))
    logits = np.full((4, 10), 0.5, np.float32)
    tight, loose, none = (
        compare("x", reference, logits, Bound(0.1, 1.0, yardstick_is_float32=True, mean=mean))
        for mean in (0.4, 0.6, None)
    )
    assert tight.problem == "mean error 5.0e-01 exceeds 4.0e-01"
    assert (loose.problem, none.problem) == (None, None)


def test_the_errors_decide_and_not_the_classes():
    reference = np.zeros((4, 10))
    reference[:3, 3] = 1e-3  # the float64 margin of three images
    logits = reference.astype(np.float32)
    logits[2, 4] = 1.1e-3
    wide, narrow = (
        compare("x", reference, logits, Bound(0.0, allowed, yardstick_is_float32=True)) for allowed in (1.2e-3, 4.9e-4)
    )
    assert (wide.clear, wide.agreeing, wide.problem) == (0, 3, None)
    assert (narrow.clear, narrow.agreeing, narrow.problem) == (3, 3, "error 1.1e-03 exceeds 4.9e-04")


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.floats(1e-4, 0.2))
def test_an_error_within_the_bound_changes_no_clear_class(seed, allowed):
    """Why the gate asks nothing of the classes: errors of almost the bound, each where it hurts most."""
    rng = np.random.default_rng(seed)
    reference = rng.normal(0, 1, (50, 10))
    worst = np.full_like(reference, 0.99 * allowed)
    np.put_along_axis(worst, reference.argmax(axis=1)[:, None], -0.99 * allowed, axis=1)
    logits = (reference + worst).astype(np.float32)
    found = compare("x", reference, logits, Bound(0.0, allowed, yardstick_is_float32=True))
    best_two = np.sort(reference, axis=1)[:, -2:]
    clear = best_two[:, 1] - best_two[:, 0] > 2 * allowed
    assert (found.problem, found.clear) == (None, clear.sum())
    assert (logits.argmax(axis=1) == reference.argmax(axis=1))[clear].all()


@given(st.lists(st.floats(1e-12, 1e6), min_size=1, max_size=30))
def test_each_error_is_counted_in_its_bin(errors):
    reference = np.zeros((len(errors), 2))
    reference[:, 0] = errors
    limit = Bound(1.0, 1.0, yardstick_is_float32=True)
    counts = compare("x", reference, np.zeros_like(reference, dtype=np.float32), limit).histogram
    assert sum(counts) == 2 * len(errors)
    for place, (low, high) in enumerate(itertools.pairwise(ERROR_EDGES)):
        if 0 < place < len(counts) - 1:
            assert counts[place] == sum(low <= error < high for error in errors)


def test_the_worst_image_is_named_by_its_place_in_the_set():
    reference = np.zeros((3, 10))
    logits = np.zeros((3, 10), np.float32)
    logits[2, 7] = 1.0
    limit = Bound(1e-6, 1e-5, yardstick_is_float32=True)
    worst = compare("x", reference, logits, limit, np.array([5, 6, 40])).worst
    assert (worst.image, worst.max_abs_error) == (40, 1.0)
    assert (7, 0.0, 1.0) in worst.classes


# The numbers of the gate, written out: whoever changes one of them changes this table.


def judged(largest: float, yardstick: float, error: float) -> bool:
    """Whether a runtime passes that is off by `error`, where PyTorch is off by `yardstick` and the logits go so far."""
    reference = np.array([[largest, 0.0, 0.0]])
    own, logits = (np.array([[largest, off, 0.0]], np.float32) for off in (yardstick, error))
    assert reference[0, 0] == own[0, 0]
    limit = bound(reference, [own])
    assert limit.yardstick_is_float32
    return compare("x", reference, logits, limit).passed


@pytest.mark.parametrize(
    ("largest", "yardstick", "passes", "fails"),
    [
        # yardsticks of 8 ulp and more: at 3.9 times the yardstick, and at 4.9 times
        (1.0, 1e-6, 3.9e-6, 4.9e-6),
        (12.0, 1e-5, 3.9e-5, 4.9e-5),
        (12.0, 4e-4, 1.56e-3, 1.96e-3),
        (1024.0, 1e-3, 3.9e-3, 4.9e-3),
        (0.0009765625, 1e-9, 3.9e-9, 4.9e-9),
        # a few ulp: at 4 yardsticks + 4 ulp (2^-23 for a logit of 1, 2^-20 for one of 12), and a little beyond
        (1.0, 0.0, 4.76837158203125e-07, 4.77e-07),
        (1.0, 1.1920928955078125e-07, 9.5367431640625e-07, 9.54e-07),
        (12.0, 1.9073486328125e-06, 1.1444091796875e-05, 1.145e-05),
        (12.0, 6.67572021484375e-06, 3.0517578125e-05, 3.06e-05),
    ],
)
def test_four_yardsticks_and_four_units_in_the_last_place_pass_and_no_more(largest, yardstick, passes, fails):
    assert judged(largest, yardstick, passes)
    assert not judged(largest, yardstick, fails)


@pytest.mark.parametrize(
    ("largest", "passes", "fails"),
    [(1.0, 6.10e-5, 6.11e-5), (12.0, 4.88e-4, 4.89e-4), (1024.0, 6.24e-2, 6.26e-2)],  # 512 units in the last place
)
def test_a_yardstick_of_more_than_512_units_is_no_float32_forward(largest, passes, fails):
    reference = np.array([[largest, 0.0, 0.0]])
    for off, float32 in ((passes, True), (fails, False), (np.nan, False)):
        own = np.array([[largest, off, 0.0]], np.float32)
        assert bound(reference, [own]).yardstick_is_float32 is float32
        assert compare("x", reference, own, bound(reference, [own])).passed is float32


def test_of_several_yardsticks_the_largest_error_counts():
    reference = np.array([[1.0, 0.0, 0.0]])
    small, large = (np.array([[1.0, off, 0.0]], np.float32) for off in (1e-6, 3e-6))
    for order in ([small, large], [large, small]):
        assert bound(reference, order).yardstick == float(np.float32(3e-6))


def test_one_logit_that_is_no_number_fails_its_image():
    reference = np.zeros((3, 10))
    limit = Bound(1e-6, 1e-5, yardstick_is_float32=True)
    for bad in (np.nan, np.inf, -np.inf):
        logits = np.zeros((3, 10), np.float32)
        logits[1, 4] = bad
        found = compare("x", reference, logits, limit)
        assert (found.broken, found.problem) == (1, "NaN or infinite logits on 1 of 3 images")
        assert (found.max_abs_error, found.mean_abs_error) == (np.inf, np.inf)


def test_images_whose_margin_is_over_twice_the_bound_are_counted_as_clear():
    reference = np.zeros((4, 3))
    reference[:, 1] = [0.0, 1.9e-3, 2.1e-3, 0.5]
    found = compare("x", reference, reference.astype(np.float32), Bound(0.0, 1e-3, yardstick_is_float32=True))
    assert (found.clear, found.agreeing) == (2, 4)


def test_the_worst_image_has_the_largest_error_whatever_the_sum_of_its_errors():
    reference = np.zeros((3, 10))
    logits = np.zeros((3, 10), np.float32)
    logits[0] = 0.75
    logits[2, 5] = 1.0
    worst = compare("x", reference, logits, Bound(1e-6, 1e-5, yardstick_is_float32=True)).worst
    assert (worst.image, worst.max_abs_error) == (2, 1.0)


def test_the_bins_are_half_decades_and_an_error_on_an_edge_counts_above_it():
    assert (len(ERROR_EDGES), ERROR_EDGES[:4], ERROR_EDGES[-1]) == (21, (1e-9, 3.16e-9, 1e-8, 3.16e-8), 10.0)
    reference = np.array([ERROR_EDGES])
    limit = Bound(1.0, 1.0, yardstick_is_float32=True)
    counts = compare("x", reference, np.zeros_like(reference, dtype=np.float32), limit).histogram
    assert counts == (*[1] * 19, 2)  # what is on the last edge, or beyond it, counts in the last bin
    small = compare("x", np.full((1, 5), 1e-12), np.zeros((1, 5), np.float32), limit).histogram
    assert small == (5, *[0] * 19)
