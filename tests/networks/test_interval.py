"""Intervals of accuracies are Wilson's."""

import pytest

from cifar_export.networks.interval import wilson


@pytest.mark.parametrize(
    ("percent", "images", "low", "high"),
    [
        # computed apart from this code, in decimals of 40 digits
        (0.0, 10, 0.0, 27.7533),
        (100.0, 10, 72.2467, 100.0),
        (50.0, 10, 23.6593, 76.3407),
        (90.0, 100, 82.5634, 94.4771),
        (68.49, 10_000, 67.5725, 69.3933),
        (71.16, 10_000, 70.2641, 72.0396),
        (72.24, 10_000, 71.3539, 73.1090),
        (72.84, 10_000, 71.9596, 73.7029),
        (93.73, 10_000, 93.2379, 94.1886),
    ],
)
def test_literal_intervals(percent, images, low, high):
    assert wilson(percent, images) == pytest.approx((low, high), abs=5e-5)


def test_what_float_adds_to_a_percentage_changes_nothing():
    assert wilson(68.49000000000001, 10_000) == wilson(68.49, 10_000)


def test_it_is_the_mirror_image_of_that_of_the_errors():
    low, high = wilson(8.0, 50)
    assert (100 - high, 100 - low) == pytest.approx(wilson(92.0, 50))
    assert 8.0 - low < high - 8.0  # not symmetric about the accuracy itself


@pytest.mark.parametrize(("percent", "images"), [(-0.1, 10), (100.1, 10), (50.0, 0)])
def test_there_is_no_interval_of_what_is_no_accuracy(percent, images):
    with pytest.raises(ValueError, match="no interval"):
        wilson(percent, images)
