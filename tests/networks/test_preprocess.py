"""Pixels to what a network takes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.preprocess import as_variant
from cifar_export.networks.zoo import Normalization


@given(st.lists(st.floats(0.05, 0.95), min_size=6, max_size=6))
def test_normalized_images_are_the_formula(values):
    normalization = Normalization(tuple(values[:3]), tuple(values[3:]))
    pixels = bundled_images()[:2]
    images = as_variant(pixels, "float32", normalization)
    assert (images.dtype, images.shape, images.flags.c_contiguous) == (np.float32, (2, 3, 32, 32), True)
    expected = (pixels[1, 5, 9, 2] / 255 - normalization.mean[2]) / normalization.std[2]
    assert images[1, 2, 5, 9] == np.float32(expected)
    assert as_variant(pixels, "uint8", normalization) is pixels


def test_scaled_images_are_pixels_over_255_rounded_once():
    pixels = bundled_images()[:2]
    images = as_variant(pixels, "unit", Normalization((0.5,) * 3, (0.25,) * 3))
    assert (images.dtype, images.shape, images.flags.c_contiguous) == (np.float32, (2, 3, 32, 32), True)
    expected = np.moveaxis(pixels, 3, 1).astype(np.float64) / 255
    assert np.array_equal(images, expected.astype(np.float32))
    assert (images.min() >= 0, images.max() <= 1) == (True, True)
