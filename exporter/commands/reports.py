"""The tables of results: which columns, which of them go first where room is short, and what is said below."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from .summaries import divergence, normalization, scientific
from .tables import Column, Row, aligned, by_reason, grouped, on_terminal, remark, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..accuracy.agreement import Agreement, RuntimeAccuracy
    from ..diagnosis.differences import Difference, Differences
    from ..doctor import Diagnosis
    from ..gate.report import ParityReport, RuntimeResult
    from ..prediction.predict import Predictions
    from ..weights.catalog import CatalogRow

R = TypeVar("R", "RuntimeResult", "Difference", "RuntimeAccuracy")
_SHOWN = 10  # images on which only reduced precision disagrees: there may be hundreds


def catalog_table(rows: list[CatalogRow], *, wide: bool = False) -> None:
    """Print networks."""
    columns = [
        Column("model"),
        Column("data set"),
        Column("classes", rank=6, right=True),
        Column("parameters", rank=1, right=True),
        Column("multiply-adds", rank=2, right=True),
        Column("mean / std", wide=True),
        Column("weights", rank=4),
        Column("top-1 / top-5"),
        Column("top-1, 95 %", rank=3),
        Column("reference", rank=5),
    ]
    table(None, columns, [_network(row) for row in rows], wide=wide)


def _network(row: CatalogRow) -> Row:
    spec, bundled = row.spec, row.bundled
    accuracy = f"{bundled.metrics['top1']:.2f} / {bundled.metrics['top5']:.2f}" if bundled else None
    if bundled and bundled.below_reference:
        accuracy = f"{accuracy} (below reference)"
    return [
        spec.model.name,
        spec.dataset.name,
        str(spec.dataset.classes),
        f"{row.size.parameters / 1e6:.2f} M",
        f"{row.size.multiply_adds / 1e6:.2f} M",
        normalization(row.normalization),
        "bundled" if bundled else "upstream only" if spec.upstream_sha256 else "none",
        accuracy,
        "{:.2f}–{:.2f}".format(*bundled.top1_interval) if bundled else None,
        f"{spec.reference.top1:.2f} / {spec.reference.top5:.2f}" if spec.reference else None,
    ]


def parity_table(report: ParityReport, foreign: str | None = None, *, wide: bool = False) -> None:
    """Print a parity report: one row a runtime, then the verdict; `foreign`: what a file of somebody else is called."""
    from ..gate.report import CPU, WORDS

    columns = [
        Column("runtime"),
        Column("provider", rank=2),
        Column("max error", right=True),
        Column("mean error", right=True, wide=True),
        Column("top-1 agrees", right=True),
        Column("images", rank=1, right=True),
        Column("verdict"),
        Column("reason", wide=True),
    ]
    what = f"Parity of {foreign or report.network}, {report.input} input, against "
    title = what + (f"{report.network} in PyTorch float64" if foreign else "PyTorch float64")
    rows = [
        [
            result.runtime,
            result.provider,
            _error(result.max_abs_error),
            _error(result.mean_abs_error),
            _percent(result.top1_agreement),
            str(result.images),
            WORDS[result.state],
            result.reason,
        ]
        for result in _to_show(report.runtimes)
    ]
    table(title, columns, rows, wide=wide)
    if not wide:
        by_reason("reported", ((row.runtime, row.reason) for row in report.runtimes if row.state == "reported"))
    by_reason("not run", ((row.runtime, row.reason) for row in report.runtimes if row.state == "not_run"))
    if report.allowed:
        remark("allowed error: " + ", ".join(f"{name} {value:.1e}" for name, value in report.allowed.items()))
    for result in report.runtimes:
        usual = report.allowed
        wider = {c.inputs: c.allowed for c in result.comparisons if c.allowed > usual.get(c.inputs, math.inf)}
        if wider:  # docs/parity.md says why
            remark(f"allowed to {result.runtime}: " + ", ".join(f"{name} {value:.1e}" for name, value in wider.items()))
    if report.computed_on != CPU:
        remark(f"reference: {report.reference}")
    for problem in report.problems:
        remark(problem)
    for line in aligned(divergence(report.divergence)) if report.divergence else ():
        remark(line)
    if report.divergence_unknown is not None:
        remark(f"first wrong node not looked for: {report.divergence_unknown}")
    remark("parity passed" if report.passed else "parity FAILED")


def differences_table(report: Differences, *, wide: bool = False) -> None:
    """Print how far runtimes of a file are from the first of them; that is no verdict."""
    from ..diagnosis.differences import WORDS

    first = next((row.runtime for row in report.rows if row.state == "first"), None)
    columns = [
        Column("runtime"),
        Column("provider", rank=2),
        Column("max difference", right=True),
        Column("top-1 agrees", right=True),
        Column("images", rank=1, right=True),
        Column("state"),
        Column("reason", wide=True),
    ]
    rows = [
        [
            row.runtime,
            row.provider,
            _error(row.max_abs_difference),
            _percent(row.top1_agreement),
            str(row.images),
            WORDS[row.state],
            row.reason,
        ]
        for row in _to_show(report.rows)
    ]
    title = f"{report.file}, {report.input} input, against {first or 'nothing, for no runtime ran'}: no proof"
    table(title, columns, rows, wide=wide)
    by_reason("not run", ((row.runtime, row.reason) for row in report.rows if row.state == "not_run"))


def agreement_table(agreement: Agreement, *, wide: bool = False) -> None:
    """Print the accuracy of a network in every runtime, then the images on which runtimes disagree."""
    from ..accuracy.agreement import WORDS

    columns = [
        Column("runtime"),
        Column("provider", rank=1),
        Column("top-1", right=True),
        Column("top-5", right=True),
        Column("images/s", right=True),
        Column("images", rank=2, right=True),
        Column("state"),
        Column("reason", wide=True),
    ]
    rows = [[row.runtime, *_figures(row), WORDS[row.state], row.reason] for row in _to_show(agreement.runtimes)]
    in_less = "" if agreement.precision == "float32" else f", {agreement.precision}"
    table(f"Accuracy of {agreement.network}, {agreement.input} input{in_less}", columns, rows, wide=wide)
    by_reason("not run", ((row.runtime, row.reason) for row in agreement.runtimes if row.state == "not_run"))
    if not agreement.disagreements:
        remark("all runtimes name the same class on every image")
        return
    reduced = [found for found in agreement.disagreements if found.verdict == "reduced precision"]
    ties = [found for found in agreement.disagreements if found.verdict == "tie"]
    failures = [found for found in agreement.disagreements if found.verdict == "failure"]
    some_ties = ties if agreement.precision == "float32" else ties[:_SHOWN]
    if not on_terminal():  # a second table would mix two kinds of records
        remark(f"runtimes disagree on {len(agreement.disagreements)} images; --json has them all")
        return
    disagreeing = [
        Column("image", right=True),
        Column("label", rank=2),
        Column("classes", cut=True),
        Column("float64 margin", rank=1, right=True),
        Column("verdict"),
    ]
    shown = []
    for found in failures + some_ties + reduced[:_SHOWN]:
        classes = grouped((number, name) for name, number in found.classes.items())
        said = "; ".join(f"{agreement.labels[number]}: {', '.join(names)}" for number, names in classes)
        label = agreement.labels[found.label]
        shown.append([str(found.index), label, said, scientific(found.margin), found.verdict])
    table("Images on which runtimes disagree", disagreeing, shown, wide=wide)
    if len(ties) > len(some_ties):
        remark(f"and {len(ties) - len(some_ties)} more ties; --json has them all")
    if len(reduced) > _SHOWN:
        remark(f"and {len(reduced) - _SHOWN} more in reduced precision alone; --json has them all")


def _figures(row: RuntimeAccuracy) -> list[str | None]:
    result = row.evaluation
    if result is None:
        return [None, None, None, None, "0"]
    accuracy = [f"{result.top1:.2f} %", f"{result.top5:.2f} %"]
    return [result.provider, *accuracy, f"{result.images_per_second:,.0f}", f"{result.images:,}"]


def predictions_table(predictions: Predictions) -> None:
    """Print what a network sees in pictures: a row a class; on a terminal the picture's name is on its first alone."""
    first_alone = on_terminal()
    rows = [
        ["" if place and first_alone else str(picture.file), guess.label, f"{100 * guess.probability:.2f} %"]
        for picture in predictions.pictures
        for place, guess in enumerate(picture.top)
    ]
    if rows:
        table(None, [Column("picture", cut=True), Column("label", cut=True), Column("probability", right=True)], rows)


def diagnosis_table(diagnosis: Diagnosis, *, wide: bool = False) -> None:
    """Print every finding, and what to do about the problems and the notes.

    On a terminal those stand below what works, once for each cause.
    """
    if not on_terminal():
        checks = [
            [check.name, check.status, check.detail, check.fix and _one_line(check.fix)] for check in diagnosis.checks
        ]
        table(None, [Column(name) for name in ("what", "state", "found", "fix")], checks)
    else:
        columns = [Column("what works"), Column("found", cut=True)]
        table(None, columns, [[check.name, check.detail] for check in diagnosis.of("ok")], wide=wide)
        for status in ("problem", "note"):
            told = grouped(((check.detail, check.fix), check.name) for check in diagnosis.of(status))
            for (detail, fix), names in told:
                remark(f"{status}: {', '.join(names)} — {detail}")
                remark(f"fix: {fix}", indent="  ")
    problems = len(diagnosis.of("problem"))
    remark(f"{problems} problem{'s' if problems > 1 else ''}" if problems else "no problems")


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))


def _to_show(rows: Iterable[R]) -> list[R]:
    """The rows of a table: what did not run has lines of its own on a terminal, and is a record in a pipe."""
    return [row for row in rows if row.state != "not_run" or not on_terminal()]


def _error(value: float | None) -> str | None:
    return None if value is None else scientific(value)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.2f} %"
