"""How many threads a runtime takes: as many as OMP_NUM_THREADS says, which PyTorch obeys by itself."""

from __future__ import annotations

import os

VARIABLE = "OMP_NUM_THREADS"


def asked_threads() -> int | None:
    """The number in OMP_NUM_THREADS; None where it says none, and each runtime chooses."""
    asked = os.environ.get(VARIABLE, "")
    return int(asked) or None if asked.isdecimal() else None
