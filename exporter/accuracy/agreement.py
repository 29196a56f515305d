"""Accuracy of one network in every runtime, and the images on which two of them name another class.

Runtimes that read files run in a process of their own, as in parity: one that crashes or hangs is a row.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import Split
from ..errors import CifarExportError
from ..exporting.precision import prepared
from ..exporting.subject import Subject, facts_of, facts_of_export, precision_of, readers
from ..formats.onnx_choices import Precision
from ..gate.forward import Answer, Inputs, Places, Sign, attempt
from ..gate.isolation import Isolation
from ..networks.zoo import InputVariant
from ..runtimes import ONE_BATCH_SIZE, RUNTIMES, RuntimeSpec, spec_of, why_missing
from ..weights.core import Weights
from .disagreements import Disagreement, disagreements
from .evaluation import DEFAULT_BATCH, Evaluation, Progress, batches, images_of, scored

SCHEMA = 2
State = Literal["ran", "failed", "not_run"]
WORDS: dict[State, str] = {"ran": "ran", "failed": "FAILED", "not_run": "not run"}
"""Each state as the table shows it."""
_TEST = "test"  # the name of the one input set


@dataclass(frozen=True)
class RuntimeAccuracy:
    """A runtime's row: its `evaluation` where it ran, else the `reason` why there is none.

    `state`: "ran"; "failed": it is here and did not work; "not_run": it is not here, or too slow for a test set.
    """

    runtime: str
    state: State
    evaluation: Evaluation | None = None
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what was not measured is None."""
        unknown = dict.fromkeys(("provider", "top1", "top5", "images_per_second")) | {"images": 0}
        measured = self.evaluation.as_dict() if self.evaluation else unknown
        return measured | {"runtime": self.runtime, "state": self.state, "reason": self.reason}


@dataclass(frozen=True)
class Agreement:
    """Every runtime's accuracy on the same images, and where they disagree."""

    network: str
    input: InputVariant
    labels: tuple[str, ...]
    runtimes: tuple[RuntimeAccuracy, ...]
    disagreements: tuple[Disagreement, ...]
    precision: Precision = "float32"

    @property
    def failures(self) -> list[str]:
        """One line for each thing that failed."""
        rows = [f"{row.runtime}: {row.reason}" for row in self.runtimes if row.state == "failed"]
        clear = [found.index for found in self.disagreements if found.verdict == "failure"]
        if clear:
            images = f"{len(clear)} clear image{'s' if len(clear) > 1 else ''}"
            rows.append(f"{self.precision} runtimes disagree on {images}, the first is number {clear[0]}")
        if not any(row.evaluation for row in self.runtimes):
            rows.append("no runtime ran")
        return rows

    def as_dict(self) -> dict[str, Any]:
        """For JSON; docs/schemas/agreement-2.json describes it."""
        return {
            "schema": SCHEMA,
            "passed": not self.failures,
            "network": self.network,
            "input": self.input,
            "precision": self.precision,
            "runtimes": [row.as_dict() for row in self.runtimes],
            "disagreements": [found.as_dict() for found in self.disagreements],
        }


def score_all(
    weights: Weights,
    split: Split,
    *,
    variant: InputVariant | None = None,
    file: Path | None = None,
    precision: Precision | None = None,
    trust_file: bool = False,
    batch_size: int = DEFAULT_BATCH,
    limit: int | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Agreement:
    """Accuracy of `weights` on the first `limit` images of `split`, in every runtime of a parity run.

    On fresh exports, or on one exported `file`: then in PyTorch and the runtimes that read it. In reduced precision
    those that run it are the rows, and `weights` need the grids of int8. A runtime that is missing, fails, crashes its
    process or hangs is a row that says so. `progress(runtime)` gives the callback for that runtime's images, which may
    be called in another thread. Raises `GateFailed` for a `file` of other weights, `InvalidInput` for a wrong option or
    file.
    """
    images = images_of(split, limit)
    where = {_TEST: batches(images, batch_size)}
    specs = [spec for spec in RUNTIMES.values() if spec.by_default]
    chosen: InputVariant = variant or "float32"
    reduced: Precision = precision or "float32"
    if file is not None:
        reduced = precision_of(file, facts_of(file, variant, trust=trust_file), precision)
        weights = prepared(weights, reduced)
        facts = facts_of_export(file, weights, variant, trust=trust_file)
        chosen = facts.variant or chosen
        specs = [spec_of(name) for name in readers((spec.name for spec in specs), facts.format)]
    specs = [spec for spec in specs if reduced in spec.precisions]
    inputs = Inputs({_TEST: split.images[:images]}, chosen, weights.normalization)
    rows = []
    with Subject(weights, chosen, file, precision=reduced) as subject, Isolation(inputs) as room:
        for spec in specs:
            reason = _why_not(spec)
            if reason is not None:
                rows.append(RuntimeAccuracy(spec.name, "not_run", reason=reason))
                continue
            sign = _counting(progress(spec.name), where[_TEST]) if progress else None
            answer = _run(spec, subject, room, inputs, where, sign)
            rows.append(_row(spec, answer, split, images, chosen))
    ran = {row.runtime: row.evaluation.predictions for row in rows if row.evaluation}
    found = disagreements(ran, split, weights, chosen, reduced)
    labels = weights.network.dataset.labels
    return Agreement(weights.network.name, chosen, labels, tuple(rows), found, reduced)


def _why_not(spec: RuntimeSpec) -> str | None:
    """Why `spec` cannot run here, or not on a test set, in words; None where it can."""
    missing = why_missing(spec.name)
    if missing is not None:
        return str(missing)
    return None if spec.images is None else "too slow for a test set"


def _counting(progress: Progress, cut: Sequence[NDArray[np.intp]]) -> Sign:
    """What is called when a runtime is open and after each batch of `cut`, and tells `progress` of the images done."""
    done = iter([0, *itertools.accumulate(len(batch) for batch in cut)])
    total = sum(len(batch) for batch in cut)
    return lambda: progress(next(done, total), total)


def _run(
    spec: RuntimeSpec, subject: Subject, room: Isolation, inputs: Inputs, where: Places, sign: Sign | None
) -> Answer:
    """PyTorch itself runs here, what reads a file in the room; an export that fails is the answer's problem."""
    if spec.reads == "network":
        return attempt(functools.partial(subject.open, spec.name), inputs, where, sign)
    try:
        file = subject.file(spec.reads)
    except Exception as error:  # noqa: BLE001  exporters raise what they like
        return Answer.of(error)
    return room.submit(spec, file, where, sign).result()


def _row(spec: RuntimeSpec, answer: Answer, split: Split, images: int, variant: InputVariant) -> RuntimeAccuracy:
    if answer.problem is not None:
        hint = f", on a batch of {answer.batch} images. {ONE_BATCH_SIZE}" if answer.batch is not None else ""
        return RuntimeAccuracy(spec.name, "failed", reason=f"{answer.problem}{hint}")
    try:
        evaluation = scored(
            answer.logits[_TEST],
            split.labels,
            images=images,
            runtime=spec.name,
            provider=answer.provider or "",
            variant=variant,
            seconds=answer.seconds,
        )
    except CifarExportError as error:
        return RuntimeAccuracy(spec.name, "failed", reason=str(error))
    return RuntimeAccuracy(spec.name, "ran", evaluation)
