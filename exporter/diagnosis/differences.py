"""Runtimes of a file whose weights nobody gave, compared with each other: a report that proves nothing.

They may all compute the same wrong thing. What a proof needs is the network in float64 (`prove`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..exporting.subject import require_reader
from ..formats import FORMATS
from ..gate.forward import Answer, Inputs, Places, places
from ..gate.inputs import input_sets
from ..gate.isolation import Isolation
from ..gate.versions import versions
from ..networks.preprocess import Pixels
from ..networks.zoo import InputVariant, Normalization
from ..runtimes import RUNTIMES, require_runtime, spec_of, why_missing

SCHEMA = 1  # docs/schemas/differences-1.json
State = Literal["first", "reported", "failed", "not_run"]
WORDS: dict[State, str] = {"first": "the first", "reported": "reported", "failed": "FAILED", "not_run": "not run"}
"""Each state as the table shows it."""
Progress = Callable[[str], None]
Logits = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A runtime's row. `max_abs_difference`: of a logit from the `first` runtime's, over `images` images.

    `top1_agreement`: the share of them, 0 to 1, for which both name the same class. Both are None where nothing ran.
    """

    runtime: str
    provider: str | None
    state: State
    max_abs_difference: float | None = None
    top1_agreement: float | None = None
    images: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class Differences:
    """A row for each runtime that reads the file. Nothing in it is a proof."""

    file: str
    input: InputVariant
    rows: tuple[Difference, ...]
    versions: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "proved": False,
            "file": self.file,
            "input": self.input,
            "runtimes": [dict(vars(row)) for row in self.rows],
            "versions": dict(self.versions),
        }


def differences(
    file: Path,
    format_name: str,
    variant: InputVariant,
    normalization: Normalization,
    *,
    runtimes: Sequence[str] = (),
    classes: int | None = None,
    more_pixels: Mapping[str, Pixels] | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> Differences:
    """Run `file`, of that format, in every runtime that reads it (or those named), and compare each with the first.

    `variant` and `normalization`: what it takes. `classes`: how many logits there must be. `more_pixels`: further sets
    of uint8 images. `name`: what the file is called in the report. A runtime that is missing, crashes, hangs or returns
    what is no logits is a row. Raises `Unavailable` for a named one that is missing, `InvalidInput` for one that reads
    other files.
    """
    for runtime in runtimes:
        require_runtime(runtime)
        require_reader(runtime, file, format_name)
    asked = list(runtimes) or [
        runtime for runtime, spec in RUNTIMES.items() if spec.by_default and spec.reads == format_name
    ]
    asked = asked or [FORMATS[format_name].gate]
    inputs = Inputs({**input_sets(), **(more_pixels or {})}, variant, normalization)
    rows: list[Difference] = []
    first: tuple[str, dict[str, Logits]] | None = None
    with Isolation(inputs) as room:
        for runtime in dict.fromkeys(asked):
            if progress is not None:
                progress(runtime)
            missing = why_missing(runtime)
            if missing is not None:
                rows.append(Difference(runtime, None, "not_run", reason=str(missing)))
                continue
            where = places(spec_of(runtime), inputs.pixels)
            answer = room.submit(spec_of(runtime), file, where).result()
            problem = answer.problem or _problem(answer, where, classes)
            if problem:
                rows.append(Difference(runtime, answer.provider, "failed", reason=problem))
                continue
            logits = _by_place(answer, where)
            if first is None and spec_of(runtime).images is None:
                first = (runtime, logits)
            rows.append(_row(runtime, answer.provider, logits, first))
    return Differences(name or file.name, variant, tuple(rows), versions())


def _problem(answer: Answer, where: Places, classes: int | None) -> str | None:
    for name, cut in where.items():
        logits, images = answer.logits[name], sum(map(len, cut))
        if logits.ndim != 2 or len(logits) != images or logits.dtype != np.float32:
            return f"returns {logits.dtype} {logits.shape} for {images} images: no logits"
        if classes is not None and logits.shape[1] != classes:
            return f"returns {logits.shape[1]} classes, not {classes}"
        if not np.isfinite(logits).all():
            return f"NaN or infinite logits ({name})"
    return None


def _by_place(answer: Answer, where: Places) -> dict[str, Logits]:
    """Logits in the order of the images, as many as were run: the first so many of each set."""
    found = {}
    for name, cut in where.items():
        rows = np.concatenate(cut)
        found[name] = np.empty((int(rows.max()) + 1, answer.logits[name].shape[1]))
        found[name][rows] = answer.logits[name]
    return found


def _row(
    runtime: str, provider: str | None, logits: Mapping[str, Logits], first: tuple[str, dict[str, Logits]] | None
) -> Difference:
    images = sum(map(len, logits.values()))
    if first is None:
        return Difference(runtime, provider, "reported", images=images, reason="there is no other to compare it with")
    if first[0] == runtime:
        return Difference(runtime, provider, "first", 0.0, 1.0, images)
    pairs = [(one, first[1][name][: len(one)]) for name, one in logits.items()]
    if any(one.shape != other.shape for one, other in pairs):
        return Difference(runtime, provider, "failed", reason=f"returns other classes than {first[0]}")
    largest = max(float(np.abs(one - other).max()) for one, other in pairs)
    agreeing = sum(int((one.argmax(axis=1) == other.argmax(axis=1)).sum()) for one, other in pairs)
    return Difference(runtime, provider, "reported", largest, agreeing / images, images)
