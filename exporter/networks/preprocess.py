"""Pixels to what a network takes: the one place outside the exported graphs where normalization is computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .zoo import InputVariant, Normalization

Pixels = NDArray[np.uint8]
Images = NDArray[np.float32] | NDArray[np.uint8]


def as_variant(pixels: Pixels, variant: InputVariant, normalization: Normalization) -> Images:
    """`pixels`, uint8 (N, 32, 32, 3) RGB, as that input variant wants them.

    `uint8`: as they are. `float32`: normalized, (N, 3, 32, 32), computed in float64 and rounded once, so that every
    runtime gets the float32 images nearest to the true ones.
    """
    if variant == "uint8":
        return pixels
    scaled = (pixels.astype(np.float64) / 255.0 - normalization.mean) / normalization.std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2).astype(np.float32))
