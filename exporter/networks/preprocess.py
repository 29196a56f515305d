"""Pixels to what a network takes: the one place outside the exported graphs where normalization is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from .zoo import IMAGE_SIZE, InputVariant, Normalization

Pixels = NDArray[np.uint8]
Images = NDArray[np.float32] | NDArray[np.uint8]


def require_pixels(images: Any) -> Pixels:
    """`images` in one piece of memory. Raises `InvalidInput` unless they are uint8 (N, 32, 32, 3)."""
    shape = (IMAGE_SIZE, IMAGE_SIZE, 3)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != shape or images.ndim != 4:
        found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise InvalidInput(f"images are an array of pixels 0-255, uint8 (N, 32, 32, 3) RGB; this is {found}.")
    return np.ascontiguousarray(images)


def as_variant(pixels: Pixels, variant: InputVariant, normalization: Normalization) -> Images:
    """`pixels`, uint8 (N, 32, 32, 3) RGB, as that input variant wants them.

    `uint8`: as they are. `unit`: scaled to 0..1, (N, 3, 32, 32). `float32`: normalized besides. Both are computed in
    float64 and rounded once, so that every runtime gets the float32 images nearest to the true ones.
    """
    if variant == "uint8":
        return pixels
    scaled = pixels.astype(np.float64) / 255.0
    if variant == "float32":
        scaled = (scaled - normalization.mean) / normalization.std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2).astype(np.float32))
