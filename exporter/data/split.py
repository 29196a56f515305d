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
