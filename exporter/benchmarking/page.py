"""A benchmark as one HTML file: no scripts, nothing fetched; bars and distributions are inside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..diagnosis.page import templates
from .document import WORDS, milliseconds
from .statistics import Interval

_WIDTH, _HEIGHT = 320.0, 108.0  # of a distribution, in the units of its SVG
_LEAST = 0.4  # per cent of a bar's room: the quickest row is seen, too
Document = Mapping[str, Any]


def page(document: Document) -> str:
    """The HTML of a benchmark's JSON document."""
    rows = document["rows"]
    measured = [row for row in rows if row["state"] == "measured"]
    environment = templates(Path(__file__).parent)
    environment.filters["ms"] = milliseconds
    html: str = environment.get_template("benchmark.html.j2").render(
        narrow="64rem",
        document=document,
        machine=document["machine"],
        conditions=document["conditions"],
        failures=[row for row in rows if row["state"] == "failed"],
        several=len({row["subject"] for row in rows}) > 1,
        groups=[_group(batch, measured) for batch in dict.fromkeys(row["batch"] for row in measured)],
        rows=[{**row, "name": _name(row, rows), "word": WORDS[row["state"]]} for row in rows],
        charts=[_distribution(row, rows) for row in measured],
        comparison=document["comparison"],
    )
    return html


def _name(row: Document, rows: list[Document]) -> str:
    """What tells a row apart from the others of its batch."""
    several = [name for name in ("precision", "subject") if len({other[name] for other in rows}) > 1]
    return ", ".join([row["runtime"], *(row[name] for name in several)])


def _group(batch: int, measured: list[Document]) -> Document:
    """The bars of one batch: the median, and how far the 99th percentile reaches."""
    rows = [row for row in measured if row["batch"] == batch]
    longest = max(row["latency"]["p99"] for row in rows)

    def share(seconds: float) -> float:
        return max(_LEAST, round(100 * seconds / float(longest), 2))

    bars = [
        {
            "name": _name(row, measured),
            "p50": share(row["latency"]["p50"]),
            "p99": share(row["latency"]["p99"]),
            "text": f"{milliseconds(row['latency']['p50'])} ms",
            "ratio": _ratio(row["ratio"]),
        }
        for row in rows
    ]
    return {"batch": batch, "bars": bars}


def _ratio(ratio: Document | None) -> str:
    return "" if ratio is None else str(Interval(**ratio))


def _distribution(row: Document, rows: list[Document]) -> Document:
    """Where the bars of a histogram stand; the axis is logarithmic, and so are its bins."""
    found = row["histogram"]
    counts = np.asarray(found["counts"], float)
    step, highest = _WIDTH / len(counts), float(counts.max())
    bars = [
        {
            "x": round(place * step + 0.5, 1),
            "width": round(step - 1, 1),
            "y": round(_HEIGHT - max(1.5, count / highest * (_HEIGHT - 8)), 1),
            "height": round(max(1.5, count / highest * (_HEIGHT - 8)), 1),
            "count": int(count),
        }
        for place, count in enumerate(counts)
        if count
    ]
    ticks = [
        {
            "x": round(_WIDTH * share, 1),
            "anchor": anchor,
            "text": f"{milliseconds(found['low'] ** (1 - share) * found['high'] ** share)} ms",
        }
        for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    ]
    marks = [
        {
            "x": round(_WIDTH * _place(row["latency"][name], found), 1),
            "name": name,
            "text": milliseconds(row["latency"][name]),
        }
        for name in ("p50", "p90", "p99")
    ]
    title = f"{_name(row, rows)}, batch {row['batch']}"
    return {"title": title, "runs": row["runs"], "bars": bars, "ticks": ticks, "marks": marks}


def _place(seconds: float, found: Document) -> float:
    low, high = np.log(found["low"]), np.log(found["high"])
    return float(np.clip((np.log(seconds) - low) / (high - low), 0.0, 1.0))
