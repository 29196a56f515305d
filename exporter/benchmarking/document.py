"""The result of a benchmark as data: a row for each thing that was to be measured."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .comparison import SCHEMA, Comparison
from .key import Key
from .machine import Conditions, Machine
from .statistics import Interval, Turns, histogram, median_interval, pooled

State = Literal["measured", "failed", "not_run", "stopped"]
WORDS: dict[State, str] = {
    "measured": "measured",
    "failed": "FAILED",
    "not_run": "not run",
    "stopped": "stopped",
}
"""Each state as tables and pages show it."""


@dataclass(frozen=True)
class StartUp:
    """Seconds before the second image: the library's import (None: no module of Python), the file, the first batch."""

    import_s: float | None
    load_s: float
    first_s: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return (self.import_s or 0.0) + self.load_s + self.first_s


@dataclass(frozen=True)
class Row:
    """One row.

    `state`: "failed" is what the gate or the runtime itself says, and has no time; "not_run": this machine lacks
    something; "stopped": it was interrupted before its first turn. `gate`: what parity says of the runtime ("passed",
    "reported", "yardstick", "failed"). `top1` is a percentage, `top1_source` says of what. `peak_bytes`: resident
    memory of its process at the peak, of which `bare_bytes` was there before the runtime. `copies`: median seconds of
    copying to a device and back. `turns`: the seconds of each run by turn. `ratio`: of its median to the first row's.
    """

    key: Key
    network: str
    state: State
    reason: str | None = None
    provider: str | None = None
    gate: str | None = None
    max_abs_error: float | None = None
    top1: float | None = None
    top1_source: str | None = None
    file_bytes: int | None = None
    startup: StartUp | None = None
    peak_bytes: int | None = None
    bare_bytes: int | None = None
    copies: tuple[float, float] | None = None
    warm_up_runs: int = 0
    turns: Turns = ()
    ratio: Interval | None = None

    @property
    def runs(self) -> int:
        """Runs that were timed; none of them is left out of any figure."""
        return sum(map(len, self.turns))

    @property
    def turn_medians(self) -> list[float]:
        """The median seconds of each turn."""
        return [float(np.median(turn)) for turn in self.turns]

    @property
    def total_seconds(self) -> float:
        """The seconds of all runs together."""
        return float(pooled(self.turns).sum())

    @property
    def images_per_second(self) -> float | None:
        """Images through it in the time of all runs."""
        return self.key.batch * self.runs / self.total_seconds if self.runs else None

    def percentile(self, percent: float) -> float | None:
        """The seconds that so many percent of the runs took at most."""
        return float(np.percentile(pooled(self.turns), percent)) if self.runs else None

    def latency(self) -> dict[str, Any] | None:
        """The figures of a run in seconds, for JSON."""
        if not self.runs:
            return None
        seconds = {f"p{percent}": self.percentile(percent) for percent in (50, 90, 99)}
        interval = median_interval(self.turns)
        return {
            **seconds,
            "min": float(pooled(self.turns).min()),
            "p50_low": interval.low if interval else None,
            "p50_high": interval.high if interval else None,
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        error = self.max_abs_error
        return {
            **vars(self.key),
            "network": self.network,
            "state": self.state,
            "reason": self.reason,
            "provider": self.provider,
            "gate": self.gate,
            "max_abs_error": error if error is not None and math.isfinite(error) else None,
            "top1": self.top1,
            "top1_source": self.top1_source,
            "file_bytes": self.file_bytes,
            "startup": vars(self.startup) if self.startup else None,
            "peak_bytes": self.peak_bytes,
            "bare_bytes": self.bare_bytes,
            "copies": {"in_s": self.copies[0], "out_s": self.copies[1]} if self.copies else None,
            "warm_up_runs": self.warm_up_runs,
            "runs": self.runs,
            "latency": self.latency(),
            "images_per_second": self.images_per_second,
            "ratio": self.ratio.as_dict() if self.ratio else None,
            "turn_medians": self.turn_medians,
            "histogram": histogram(self.turns) if self.runs else None,
        }


@dataclass(frozen=True)
class Benchmark:
    """All rows, and what they were measured on. `comparison` is with an earlier one, where one was named.

    `includes`: what a time includes, in a sentence. `interruption`: what ended it before it was through.
    """

    machine: Machine
    conditions: Conditions
    rows: tuple[Row, ...]
    includes: str
    comparison: Comparison | None = None
    interruption: KeyboardInterrupt | None = None

    @property
    def failures(self) -> list[str]:
        """One line for each row that has no time because of what it computes or does."""
        failed = dict.fromkeys(_without_batch(row) for row in self.rows if row.state == "failed")
        slower = self.comparison.slower if self.comparison else []
        return [*failed, *slower]

    @property
    def passed(self) -> bool:
        """Whether nothing failed, and nothing is slower than was allowed."""
        return not self.failures

    @property
    def measured(self) -> bool:
        """Whether there is a time at all."""
        return any(row.state == "measured" for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "interrupted": self.interruption is not None,
            "includes": self.includes,
            "machine": self.machine.as_dict(),
            "conditions": self.conditions.as_dict(),
            "rows": [row.as_dict() for row in self.rows],
            "comparison": self.comparison.as_dict() if self.comparison else None,
        }


def _without_batch(row: Row) -> str:
    return f"{row.key.subject}, {row.key.runtime}, {row.key.precision}: {row.reason}"


def milliseconds(seconds: float) -> str:
    """Three digits of them, for people."""
    value = 1000 * seconds
    return f"{value:.{3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0}f}"


def as_csv(document: Mapping[str, Any]) -> str:
    """The rows of a benchmark's JSON document as CSV, with a header: one value a cell, seconds and bytes."""
    rows = [dict(_flat(row)) for row in document["rows"]]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


_NESTED: dict[str, Sequence[str]] = {
    "startup": ("import_s", "load_s", "first_s"),
    "copies": ("in_s", "out_s"),
    "latency": ("p50", "p90", "p99", "min", "p50_low", "p50_high"),
    "ratio": ("value", "low", "high"),
}


def _flat(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in row.items():
        if name in _NESTED:
            found += [(f"{name}_{part}", value[part] if value else None) for part in _NESTED[name]]
        elif name not in ("turn_medians", "histogram"):
            found.append((name, value))
    return found
