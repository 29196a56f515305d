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


def test_only_images_with_a_clear_margin_must_keep_their_class():
    reference = np.zeros((4, 10))
    reference[:, 3] = 1e-3
    moved = reference.astype(np.float32)
    moved[2] = [1e-3 if i == 4 else 0 for i in range(10)]
    # the float64 margin is 1e-3: with a bound of 1e-3 nothing can be demanded, with 4e-4 the class can
    assert compare("x", reference, moved, Bound(1e-3, 0.0, 1e-3 + 1e-9, yardstick_is_float32=True)).passed
    nearly = reference.astype(np.float32)
    nearly[2, 3], nearly[2, 4] = 6.1e-4, 6.2e-4
    strict = Bound(1e-3, 0.0, 4.9e-4, yardstick_is_float32=True)
    assert compare("x", reference, nearly, strict).problem == "error 6.2e-04 exceeds 4.9e-04"
    assert compare("x", reference, reference.astype(np.float32), strict).passed


@given(st.lists(st.floats(1e-12, 1e6), min_size=1, max_size=30))
def test_each_error_is_counted_in_its_bin(errors):
    reference = np.zeros((len(errors), 2))
    reference[:, 0] = errors
    limit = Bound(1.0, 1.0, 1.0, yardstick_is_float32=True)
    counts = compare("x", reference, np.zeros_like(reference, dtype=np.float32), limit).histogram
    assert sum(counts) == 2 * len(errors)
    for place, (low, high) in enumerate(itertools.pairwise(ERROR_EDGES)):
        if 0 < place < len(counts) - 1:
            assert counts[place] == sum(low <= error < high for error in errors)


def test_the_worst_image_is_named_by_its_place_in_the_set():
    reference = np.zeros((3, 10))
    logits = np.zeros((3, 10), np.float32)
    logits[2, 7] = 1.0
    limit = Bound(1.0, 1e-6, 1e-5, yardstick_is_float32=True)
    worst = compare("x", reference, logits, limit, np.array([5, 6, 40])).worst
    assert (worst.image, worst.max_abs_error) == (40, 1.0)
    assert (7, 0.0, 1.0) in worst.classes
