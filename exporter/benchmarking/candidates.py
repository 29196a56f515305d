"""The rows before they are measured: each has passed its gate, or says why it is not measured."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..accuracy.evaluation import Evaluation, evaluate
from ..data import Split
from ..exporting.precision import prepared
from ..exporting.subject import Subject
from ..gate.check import check
from ..gate.inputs import input_sets
from ..gate.isolated import IsolatedFile
from ..gate.report import RuntimeResult
from ..networks.zoo import InputVariant
from ..runtimes import RuntimeSpec, spec_of, why_missing
from ..weights.core import Weights
from ..weights.native import save_weights
from .document import Row
from .key import Key
from .plan import Wanted

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """A row that has no time yet, and the `file` that its process opens; None where it is not to be measured."""

    row: Row
    spec: RuntimeSpec
    weights: Weights
    variant: InputVariant
    file: Path | None = None


def candidates(wanted: Wanted, stack: contextlib.ExitStack, tell: Progress) -> list[Candidate]:
    """Every row of a subject, proved. Its files live as long as `stack`."""
    tell(f"proving {wanted.asked.name}")
    found = []
    for precision in wanted.precisions:
        able = wanted.able(precision)
        weights = prepared(wanted.asked.weights, precision, progress=tell)
        subject = stack.enter_context(Subject(weights, wanted.variant, wanted.asked.file, tell, precision))
        formats = dict.fromkeys(spec_of(name).reads for name in able if why_missing(name) is None)
        files = {reads: subject.file(reads) for reads in formats if reads != "network"}
        sets = input_sets()
        report = check(weights, wanted.variant, files, able, sets, isolated=True, precision=precision, progress=tell)
        if "network" in formats:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cifar-export-")))
            files["network"] = folder / "weights.safetensors"
            save_weights(files["network"], weights)
        for batch in wanted.plan.batches:
            for result in report.runtimes:
                spec = spec_of(result.runtime)
                row = _row(wanted.key(spec.name, precision, batch), weights, result, wanted.problems, files)
                file = files[spec.reads] if row.state == "stopped" else None
                found.append(Candidate(row, spec, weights, wanted.variant, file))
    return found


def _row(key: Key, weights: Weights, result: RuntimeResult, problems: Sequence[str], files: Mapping[str, Path]) -> Row:
    """The row before it is measured."""
    row = Row(
        key,
        weights.network.name,
        "stopped",
        provider=result.provider,
        gate=None if result.state == "not_run" else result.state,
        max_abs_error=result.max_abs_error,
    )
    if result.state == "not_run":
        return dataclasses.replace(row, state="not_run", reason=result.reason)
    reads = spec_of(result.runtime).reads
    if reads != "network":
        row = dataclasses.replace(row, file_bytes=files[reads].stat().st_size)
    if problems or result.state == "failed" or not result.comparisons:
        return dataclasses.replace(row, state="failed", reason=problems[0] if problems else result.reason)
    metrics = weights.metrics or {}
    if key.precision == "float32" and weights.source == "bundled" and "top1" in metrics:
        row = dataclasses.replace(row, top1=float(metrics["top1"]), top1_source="bundled index")
    return row


def scored(found: Sequence[Candidate], split_of: Callable[[Weights], Split], tell: Progress) -> list[Candidate]:
    """The rows with their accuracy on the test images, which is the same for each batch and measured once."""
    known: dict[Key, Evaluation] = {}
    done = []
    for candidate in found:
        if candidate.file is None or candidate.spec.reads == "network":
            done.append(candidate)
            continue
        any_batch = dataclasses.replace(candidate.row.key, batch=0)
        if any_batch not in known:
            tell(f"accuracy: {candidate.row.key}")
            known[any_batch] = _score(candidate, candidate.file, split_of(candidate.weights))
        result = known[any_batch]
        row = dataclasses.replace(candidate.row, top1=result.top1, top1_source=f"{result.images:,} test images")
        done.append(dataclasses.replace(candidate, row=row))
    return done


def _score(candidate: Candidate, file: Path, split: Split) -> Evaluation:
    weights = candidate.weights
    with IsolatedFile(candidate.spec.name, file) as runtime:
        return evaluate(
            runtime, split, weights.normalization, candidate.variant, classes=weights.network.dataset.classes
        )
