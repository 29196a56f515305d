"""A benchmark beside an earlier one of the same machine: which rows have become slower, and how surely."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import InvalidInput
from ..system.outside import read_regular
from .key import Key
from .machine import Machine
from .statistics import Interval, ratio_apart

SCHEMA = 1  # docs/schemas/benchmark-1.json
ALLOWED = 1.10
"""Times of its earlier time that a row may take by default: two runs of one idle machine differ by a few percent."""
_MAX_BYTES = 64 << 20
_SAME = ("processor", "cores", "system")
Verdict = Literal["slower", "within", "unclear"]
Medians = Sequence[float]


@dataclass(frozen=True)
class Compared:
    """A row that both have. `ratio`: its typical median now over then.

    "slower": all of the interval is above what is allowed; "within": none of it is; "unclear": more turns would tell.
    """

    key: Key
    ratio: Interval
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """All rows that both have, and the number of those that `baseline` has not."""

    baseline: str
    allowed: float
    rows: tuple[Compared, ...]
    new: int = 0

    @property
    def slower(self) -> list[str]:
        """One line for each row that is slower than is allowed."""
        return [
            f"{row.key}: {row.ratio} times the time in {self.baseline}" for row in self.rows if row.verdict == "slower"
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{**vars(row.key), "ratio": row.ratio.as_dict(), "verdict": row.verdict} for row in self.rows]
        return {"baseline": self.baseline, "allowed": self.allowed, "rows": rows, "new": self.new}


@dataclass(frozen=True)
class Baseline:
    """An earlier benchmark: the medians of the turns of each row."""

    name: str
    medians: Mapping[Key, Medians]

    def compare(self, rows: Mapping[Key, Medians], allowed: float) -> Comparison:
        """The rows that both have, as far as there were turns enough."""
        found = []
        for key, medians in rows.items():
            ratio = ratio_apart(medians, self.medians.get(key, ()))
            if ratio is not None:
                found.append(Compared(key, ratio, _verdict(ratio, allowed)))
        return Comparison(self.name, allowed, tuple(found), sum(key not in self.medians for key in rows))


def _verdict(ratio: Interval, allowed: float) -> Verdict:
    if ratio.low > allowed:
        return "slower"
    return "within" if ratio.high <= allowed else "unclear"


def read_baseline(path: Path, machine: Machine, keys: Sequence[Key]) -> Baseline:
    """The benchmark at `path`, which is to be compared with rows of those `keys` on `machine`.

    Raises `InvalidInput` for what is no such document, or is of another schema or machine, and where it has none of
    the rows.
    """
    document = _document(path)
    if document.get("schema") != SCHEMA:
        raise InvalidInput(
            f"{path} is of schema {document.get('schema')!r:.20}, and this cifar-export compares with schema {SCHEMA}. "
            "Measure the baseline again."
        )
    try:
        said = {name: document["machine"][name] for name in _SAME}
        medians = {Key.of(row): _medians(row["turn_medians"]) for row in document["rows"]}
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{path} is damaged: {error!r:.100}. Measure the baseline again.") from error
    for name in _SAME:
        if said[name] != getattr(machine, name):
            raise InvalidInput(
                f"{path} is of another machine ({name} {said[name]!r:.80}, here {getattr(machine, name)!r:.80}), and "
                "tells nothing of a change. Measure the baseline on this one."
            )
    medians = {key: turns for key, turns in medians.items() if turns}
    if not any(key in medians for key in keys):
        raise InvalidInput(f"{path} has a time of none of these rows. Measure it with the same options.")
    return Baseline(path.name, medians)


def _document(path: Path) -> dict[str, Any]:
    data = read_regular(path, _MAX_BYTES)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or "rows" not in document:
        raise InvalidInput(f"{path} is no benchmark. Name the benchmark.json of an earlier one.")
    return document


def _medians(values: Any) -> Medians:
    found = [float(value) for value in values]
    if not all(math.isfinite(value) and value > 0 for value in found):
        raise ValueError("a time that is none")
    return found
