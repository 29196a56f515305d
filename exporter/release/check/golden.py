"""Golden vectors of a release: what a file returns for them must be what they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Wrong(Exception):
    """Something is not as the release says."""


def largest_error(found: NDArray[Any], logits: NDArray[Any], allowed: float) -> float:
    """The largest absolute error of what a runtime `found`. Raises `Wrong` for one above `allowed` and other arrays."""
    if found.shape != logits.shape or found.dtype != logits.dtype:
        raise Wrong(f"returns {found.dtype} {found.shape} for its golden vectors, not {logits.dtype} {logits.shape}")
    worst = float(np.abs(found.astype(np.float64) - logits).max(initial=0.0))
    if not math.isfinite(worst) or worst > allowed:
        raise Wrong(f"is off by {worst:.3g} on its golden vectors, {allowed:.3g} is allowed")
    return worst
