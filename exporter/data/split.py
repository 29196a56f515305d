"""Labelled images in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Split:
    """Images, uint8 (N, 32, 32, 3) RGB 0..255 in C order, and their class labels, int64 (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def thinned(self, count: int) -> Split:
        """`count` of the images, spread evenly over all of them; all where there are no more."""
        if count >= len(self.images):
            return self
        chosen = np.linspace(0, len(self.images) - 1, count).round().astype(np.intp)
        return Split(self.images[chosen], self.labels[chosen])
