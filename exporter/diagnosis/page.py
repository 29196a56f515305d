"""A parity report as one HTML file: no scripts, nothing fetched; pictures and plots are inside."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from ..gate.compare import ERROR_EDGES, MULTIPLE, ULPS, Comparison
from ..gate.report import WORDS, ParityReport, RuntimeResult, State
from ..networks.preprocess import Pixels
from ..networks.zoo import find_network
from ..system.files import write_atomically

if TYPE_CHECKING:
    from jinja2 import Environment

_ACROSS, _DOWN = (32.0, 320.0), (10.0, 108.0)  # of a histogram's bars, in the units of its SVG
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 885.0, 12.0, 222.0  # of the plot of the layers
_TONES: dict[State, str] = {"passed": "good", "failed": "bad"}  # the others are "soft"


def write_page(path: Path, report: ParityReport, pixels: Mapping[str, Pixels]) -> None:
    """Write `report` to `path`, whole or not at all.

    `pixels`: the named sets of uint8 (N, 32, 32, 3) images that were compared, for the pictures; a set that is not
    there has none. Raises `InvalidInput` or `Unavailable` for what the file system refuses.
    """
    write_atomically(path, page(report, pixels).encode("utf-8"))


def page(report: ParityReport, pixels: Mapping[str, Pixels]) -> str:
    """The HTML of `report`; see `write_page`."""
    ran = [row for row in report.runtimes if row.comparisons and row.comparisons[0].histogram]
    html: str = (
        templates(Path(__file__).parent)
        .get_template("page.html.j2")
        .render(
            narrow="68rem",
            report=report,
            gated=sum(row.state in ("passed", "failed") for row in report.runtimes),
            multiple=f"{MULTIPLE:g}",
            ulps=f"{ULPS:g}",
            rows=[_row(row) for row in report.runtimes],
            histograms=[_histogram(row) for row in ran],
            layers=_layers(report),
            worst=[_worst(row, report.network, pixels) for row in ran],
        )
    )
    return html


def templates(folder: Path) -> Environment:
    """The templates of pages in `folder`, and the style that all pages have; what is put into them is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader([folder, Path(__file__).parent])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"error": _error, "prose": _prose}
    return environment


def _error(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1e}" if math.isfinite(value) else "not a number"


def _prose(text: str) -> Markup:
    """A sentence as HTML: what stands between backticks is code."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped


def _row(row: RuntimeResult) -> dict[str, Any]:
    tone = _TONES.get(row.state, "soft")
    return {"result": row, "verdict": WORDS[row.state], "tone": tone, "share": _share(row), "note": row.reason or ""}


def _share(row: RuntimeResult) -> str:
    """The largest error in percent of what is allowed, where it is nearest to it."""
    shares = [c.max_abs_error / c.allowed for c in row.comparisons if c.allowed]
    worst = max(shares, default=None)
    if worst is None or not math.isfinite(worst):
        return ""
    return f"{100 * worst:.0f} %" if worst < 10 else f"{worst:,.0f} times"


def _nearest_to_its_gate(row: RuntimeResult) -> Comparison:
    """The comparison of `row` with the largest error for what is allowed: it decides the verdict."""
    with_counts = [c for c in row.comparisons if c.histogram]
    return max(with_counts, key=lambda c: c.max_abs_error / c.allowed if c.allowed > 0 else math.inf)


def _histogram(row: RuntimeResult) -> dict[str, Any]:
    """Where bars, gate and ticks stand; both axes are logarithmic.

    One input set only, because each has a gate of its own; and the last bar ends at the largest error, so that no bar
    of a runtime that passes crosses the gate.
    """
    shown = _nearest_to_its_gate(row)
    counts = np.asarray(shown.histogram)
    lowest, highest = math.log10(ERROR_EDGES[0]), math.log10(ERROR_EDGES[-1])
    decades = max(math.ceil(math.log10(max(int(counts.max()), 2))), 1)
    unit = (_DOWN[1] - _DOWN[0]) / (decades + 0.5)  # half a decade more, so that a single logit is seen

    def across(value: float) -> float:
        power = min(max(math.log10(value), lowest), highest) if value > 0 else lowest
        return _ACROSS[0] + (_ACROSS[1] - _ACROSS[0]) * (power - lowest) / (highest - lowest)

    def down(count: float) -> float:
        return _DOWN[1] - unit * (0.5 + math.log10(count))

    bars = []
    for i in np.flatnonzero(counts):
        low, high = ERROR_EDGES[i], ERROR_EDGES[i + 1]
        end = across(min(high, shown.max_abs_error) if i == np.flatnonzero(counts)[-1] else high) - 0.5
        start = min(across(low) + 1, end - 1)
        y = down(int(counts[i]))
        bars.append(
            {
                "x": round(start, 2),
                "y": round(y, 1),
                "width": round(end - start, 2),
                "height": round(_DOWN[1] - y, 1),
                "count": int(counts[i]),
                "low": low,
                "high": high,
            }
        )
    known = shown.allowed > 0 and math.isfinite(shown.allowed)
    return {
        "title": row.runtime,
        "inputs": shown.inputs,
        "bars": bars,
        "ticks": [
            {"x": round(across(10.0**power), 1), "text": f"1e{power}"}
            for power in range(math.ceil(lowest) + 1, math.floor(highest) + 1, 2)
        ],
        "levels": [{"y": round(down(10.0**power), 1), "text": f"{10**power:,}"} for power in range(decades + 1)],
        "limit": round(across(shown.allowed), 1) if known and lowest <= math.log10(shown.allowed) <= highest else None,
    }


def _layers(report: ParityReport) -> dict[str, Any] | None:
    """Where the dots, the band, the ticks and the stages of the plot stand; errors on a logarithmic axis."""
    layers = [layer for layer in report.layers if layer.allowed > 0 and math.isfinite(layer.allowed)]
    if not layers:
        return None
    errors = [layer.max_abs_error for layer in layers if 0 < layer.max_abs_error < math.inf]
    everything = [*errors, *(layer.allowed for layer in layers)]
    low, high = math.floor(math.log10(min(everything))), math.ceil(math.log10(max(everything)))
    high = max(high, low + 1)

    def across(place: int) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * place / max(len(layers) - 1, 1), 1)

    def down(value: float) -> float:
        power = high if not math.isfinite(value) else math.log10(value) if value > 0 else low
        return round(_BOTTOM - (_BOTTOM - _TOP) * (min(max(power, low), high) - low) / (high - low), 1)

    band = [f"{across(i)},{down(layer.allowed)}" for i, layer in enumerate(layers)]
    dots = [
        {
            "x": across(i),
            "y": down(layer.max_abs_error),
            "name": layer.name,
            "op": layer.op,
            "error": layer.max_abs_error,
            "allowed": layer.allowed,
            "inside": layer.inside,
        }
        for i, layer in enumerate(layers)
    ]
    stages: dict[str, float] = {}
    for i, layer in enumerate(layers):
        stages.setdefault(layer.name.split(".")[0], across(i))
    return {
        "band": " ".join([*band, f"{across(len(layers) - 1)},{_BOTTOM}", f"{_LEFT},{_BOTTOM}"]),
        "dots": dots,
        "outside": sum(not layer.inside for layer in layers),
        "ticks": [{"y": down(10.0**power), "text": f"1e{power}"} for power in range(low, high + 1)],
        "stages": [{"name": name, "x": x} for name, x in stages.items() if name.startswith("layer")],
    }


def _worst(row: RuntimeResult, network: str, pixels: Mapping[str, Pixels]) -> dict[str, Any]:
    """The runtime's worst image over all sets."""
    comparison = max(
        (c for c in row.comparisons if c.worst is not None), key=lambda c: c.worst.max_abs_error if c.worst else 0.0
    )
    worst = comparison.worst
    labels = _labels(network)
    picture = None
    if worst is not None and comparison.inputs in pixels:
        picture = _picture(pixels[comparison.inputs][worst.image])
    return {
        "runtime": row.runtime,
        "inputs": comparison.inputs,
        "image": worst.image if worst else 0,
        "error": worst.max_abs_error if worst else math.nan,
        "picture": picture,
        "classes": [
            {
                "label": labels[number] if labels else f"class {number}",
                "reference": reference,
                "logit": logit,
                "error": abs(logit - reference),
            }
            for number, reference, logit in (worst.classes if worst else ())
        ],
    }


def _labels(network: str) -> tuple[str, ...]:
    """The labels of the network's data set; none where it is known by a file of labels alone."""
    spec = find_network(network)
    return spec.dataset.labels if spec else ()


def _picture(pixels: Pixels) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
