"""How many threads a runtime takes: as many as OMP_NUM_THREADS says, which PyTorch obeys by itself."""

from __future__ import annotations

import os

from ..system.processor import cores

VARIABLE = "OMP_NUM_THREADS"


def asked_threads() -> int | None:
    """The number in OMP_NUM_THREADS; None where it says none, and each runtime chooses."""
    asked = os.environ.get(VARIABLE, "")
    return int(asked) or None if asked.isdecimal() else None


def share(parts: int) -> int:
    """The threads of each of `parts` that compute at once, at least 1.

    Together they are not more than OMP_NUM_THREADS says, or than there are cores: threads that wait for each other
    take many times as long.
    """
    whole = cores()
    return max(1, min(whole, asked_threads() or whole) // parts)
