"""The files of a benchmark: JSON, CSV and a page, all of them or none."""

from __future__ import annotations

import json
from pathlib import Path

from ..system.files import require_target, staged_together
from .document import Benchmark, as_csv
from .page import page

NAMES = ("benchmark.json", "benchmark.csv", "benchmark.html")


class Outputs:
    """The files that a benchmark writes into a folder.

    Made before the work: raises `InvalidInput` or `Unavailable` where they cannot be written there.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / name for name in NAMES]
        for path in self._paths:
            require_target(path)
        _require_writable(folder)

    def write(self, result: Benchmark) -> None:
        """Write all three, whole or not at all."""
        document = result.as_dict()
        texts = (json.dumps(document, indent=1, allow_nan=False) + "\n", as_csv(document), page(document))
        with staged_together(*self._paths) as temporaries:
            for temporary, text in zip(temporaries, texts, strict=True):
                temporary.write_text(text, encoding="utf-8")


def _require_writable(folder: Path) -> None:
    """Raise what writing there would raise: nobody waits for a minute for that. Leaves nothing behind."""
    try:
        with staged_together(folder / NAMES[0]):
            raise _Enough
    except _Enough:
        return


class _Enough(Exception):
    """It could be written."""
