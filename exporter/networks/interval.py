"""How sure an accuracy is that was measured on so many images."""

from __future__ import annotations

import math

Z = 1.959963984540054
"""The 97.5th percentile of the normal distribution: two-sided 95 %."""


def wilson(percent: float, images: int) -> tuple[float, float]:
    """The 95 % score interval of an accuracy of `percent` on `images` independent images: low and high, in percent.

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22: with p = k / n,
    (p + z² / 2n ± z √(p (1 - p) / n + z² / 4n²)) / (1 + z² / n). It is not symmetric about p and stays within 0..100.
    Raises `ValueError` for a percentage outside 0..100 or no images.
    """
    if not 0 <= percent <= 100 or images < 1:
        raise ValueError(f"no interval of {percent} % on {images} images")
    right = round(percent / 100 * images)  # a count: what float made of its percentage is not part of it
    share = right / images
    middle = share + Z**2 / (2 * images)
    half = Z * math.sqrt(share * (1 - share) / images + Z**2 / (4 * images**2))
    scale = 1 + Z**2 / images
    low = 0.0 if right == 0 else 100 * (middle - half) / scale  # exactly, which the formula reaches only nearly
    high = 100.0 if right == images else 100 * (middle + half) / scale
    return low, high
