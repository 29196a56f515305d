"""The learning curve of a run as a PNG, drawn with Pillow: two panels, no plotting library needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..system.files import staged

_WIDTH, _HEIGHT = 900, 620
_LEFT, _RIGHT, _GAP, _TOP, _BOTTOM = 70, 20, 50, 50, 50
_SCALE = 2  # drawn at twice the size and shrunk: smooth lines
_INK, _GRID = (40, 40, 40), (224, 224, 224)
_COLORS = ((31, 119, 180), (214, 98, 20))

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class _Curve:
    label: str
    points: Points


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between `low` and `high`."""
    raw = (high - low) / about
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _panel(draw: ImageDraw.ImageDraw, top: int, bottom: int, epochs: int, title: str, curves: list[_Curve]) -> None:
    """Draw `curves` over epochs 0..`epochs` between the pixel rows `top` and `bottom`."""
    values = [y for curve in curves for _, y in curve.points]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.5
    low, high = low - margin, high + margin
    left, right = _LEFT * _SCALE, (_WIDTH - _RIGHT) * _SCALE
    font = ImageFont.load_default(13 * _SCALE)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / epochs, bottom - (bottom - top) * (y - low) / (high - low)

    for tick in _ticks(low, high):
        y = place(0, tick)[1]
        draw.line((left, y, right, y), fill=_GRID, width=_SCALE)
        draw.text((left - 8 * _SCALE, y), f"{tick:g}", fill=_INK, font=font, anchor="rm")
    for tick in _ticks(0, epochs, 10):
        if tick == int(tick):
            x = place(tick, low)[0]
            draw.line((x, bottom, x, bottom + 4 * _SCALE), fill=_INK, width=_SCALE)
            draw.text((x, bottom + 7 * _SCALE), f"{tick:g}", fill=_INK, font=font, anchor="mt")
    draw.line((left, top, left, bottom, right, bottom), fill=_INK, width=_SCALE)
    draw.text((left, top - 6 * _SCALE), title, fill=_INK, font=font, anchor="lb")
    at = right
    for curve, color in reversed(list(zip(curves, _COLORS, strict=False))):
        draw.text((at, top - 6 * _SCALE), curve.label, fill=color, font=font, anchor="rb")
        at -= int(font.getlength(curve.label)) + 20 * _SCALE
    for curve, color in zip(curves, _COLORS, strict=False):
        spots = [place(x, y) for x, y in curve.points]
        draw.line(spots, fill=color, width=2 * _SCALE, joint="curve")
        for x, y in spots if len(spots) < 60 else spots[-1:]:
            draw.ellipse((x - 3 * _SCALE, y - 3 * _SCALE, x + 3 * _SCALE, y + 3 * _SCALE), fill=color)
        last = f"{curve.points[-1][1]:.4g}"
        draw.text((spots[-1][0] - 6 * _SCALE, spots[-1][1] - 4 * _SCALE), last, fill=color, font=font, anchor="rb")


def save_learning_curve(path: Path, epochs: Sequence[dict[str, Any]], title: str, reported: str) -> None:
    """Draw the log's epoch entries (`loss`, `train_top1`, and `top1` where there is one) to the PNG `path`.

    `reported` names the images of `top1`. Raises `InvalidInput` or `Unavailable` where the file can't be written.
    """
    image = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE), "white")
    draw = ImageDraw.Draw(image)
    middle = (_HEIGHT - _GAP + _TOP - _BOTTOM) // 2
    rows = (_TOP + 20, middle), (middle + _GAP + 20, _HEIGHT - _BOTTOM + 20)
    draw.text((_LEFT * _SCALE, 12 * _SCALE), title, fill=_INK, font=ImageFont.load_default(16 * _SCALE))
    panels = (
        ("loss", [_Curve("training", [(e["epoch"], e["loss"]) for e in epochs])]),
        (
            "top-1, %",
            [
                _Curve("training, augmented", [(e["epoch"], e["train_top1"]) for e in epochs]),
                _Curve(reported, [(e["epoch"], e["top1"]) for e in epochs if "top1" in e]),
            ],
        ),
    )
    for (top, bottom), (name, curves) in zip(rows, panels, strict=True):
        present = [curve for curve in curves if curve.points]
        _panel(draw, top * _SCALE, bottom * _SCALE, epochs[-1]["epoch"], f"{name} by epoch", present)
    with staged(path) as temporary:
        image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS).save(temporary, "PNG", optimize=True)
