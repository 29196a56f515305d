"""Tables and progress for people, made with rich. Results go to stdout, progress to stderr."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..errors import printable

if TYPE_CHECKING:
    from pathlib import Path

    from ..accuracy.agreement import Agreement
    from ..accuracy.evaluation import Evaluation
    from ..accuracy.reduction import Reduction
    from ..data.check import DataReport
    from ..diagnosis.differences import Differences
    from ..doctor import Diagnosis
    from ..exporting.artifact import Artifact
    from ..gate.divergence import Divergence
    from ..gate.report import ParityReport
    from ..prediction.predict import Predictions
    from ..release.build.package import Published
    from ..weights.catalog import CatalogRow

_SHOWN = 10  # images on which only reduced precision disagrees: there may be hundreds


def table(title: str | None, columns: list[str], rows: list[list[str]], *, right: tuple[str, ...] = ()) -> None:
    """Print a table to stdout; columns named in `right` are aligned to the right. Text of strangers is escaped."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)  # a pipe has no width to fit in
    grid = Table(title=Text(printable(title)) if title else None, title_justify="left", title_style="bold")
    for column in columns:
        grid.add_column(Text(printable(column)), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(printable(cell)) for cell in row))  # square brackets are text, not markup
    console.print(grid)


@contextlib.contextmanager
def steps(*, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what is being done now: a spinner on a terminal, nothing in a log."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda what: None
        return
    with console.status("starting") as status:
        yield lambda what: status.update(Text(printable(what)))


@contextlib.contextmanager
def bar(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function (done, total) that moves a progress bar on stderr; None as total is an unknown end."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(what, total=None)

    def move(done: int, total: int | None) -> None:
        progress.start()  # with the first step: what turns out to need no download shows none
        progress.update(task, completed=done, total=total)

    try:
        yield move
    finally:
        if progress.live.is_started:
            progress.stop()


def parity_table(report: ParityReport, foreign: str | None = None) -> None:
    """Print a parity report: one row a runtime, then the verdict; `foreign`: what a file of somebody else is called."""
    from ..gate.report import WORDS

    rows = [
        [
            result.runtime,
            result.provider or "-",
            _scientific(result.max_abs_error),
            _scientific(result.mean_abs_error),
            "-" if result.top1_agreement is None else f"{100 * result.top1_agreement:.2f} %",
            str(result.images),
            WORDS[result.state],
            result.reason or "",
        ]
        for result in report.runtimes
    ]
    columns = ["runtime", "provider", "max error", "mean error", "top-1 agrees", "images", "verdict", ""]
    what = f"Parity of {foreign or report.network}, {report.input} input, against "
    title = what + (f"{report.network} in PyTorch float64" if foreign else "PyTorch float64")
    table(title, columns, rows, right=("max error", "mean error", "top-1 agrees", "images"))
    allowed = ", ".join(f"{name} {value:.1e}" for name, value in report.allowed.items())
    console = Console(highlight=False, soft_wrap=True)
    console.print(printable(f"allowed error: {allowed}"), markup=False)
    for problem in report.problems:
        console.print(printable(problem), markup=False)
    if report.divergence is not None:
        divergence_summary(report.divergence)
    if report.divergence_unknown is not None:
        console.print(printable(f"first wrong node not looked for: {report.divergence_unknown}"), markup=False)
    console.print("parity passed" if report.passed else "parity FAILED")


def catalog_table(rows: list[CatalogRow]) -> None:
    """Print networks."""
    lines = []
    for row in rows:
        spec, bundled = row.spec, row.bundled
        accuracy = f"{bundled.metrics['top1']:.2f} / {bundled.metrics['top5']:.2f}" if bundled else "-"
        if bundled and bundled.below_reference:
            accuracy += " (below reference)"
        lines.append(
            [
                spec.model.name,
                spec.dataset.name,
                str(spec.dataset.classes),
                f"{row.size.parameters / 1e6:.2f} M",
                f"{row.size.multiply_adds / 1e6:.2f} M",
                f"{_triple(row.normalization.mean)} / {_triple(row.normalization.std)}",
                "bundled" if bundled else "upstream only" if spec.upstream_sha256 else "none",
                accuracy,
                "{:.2f}–{:.2f}".format(*bundled.top1_interval) if bundled else "-",
                f"{spec.reference.top1:.2f} / {spec.reference.top5:.2f}" if spec.reference else "-",
            ]
        )
    columns = ["model", "data set", "classes", "parameters", "multiply-adds", "mean / std", "weights", "top-1 / top-5"]
    table(None, [*columns, "top-1, 95 %", "reference"], lines, right=("classes", "parameters", "multiply-adds"))


def artifact_summary(
    artifact: Artifact,
    golden: Path | None = None,
    accuracy: Evaluation | None = None,
    reduction: Reduction | None = None,
) -> None:
    """Print what an export made and how it was proved; `golden` is where its golden vectors are."""
    pairs = [("file", str(artifact.path)), ("sha256", artifact.sha256), ("bytes", f"{artifact.bytes:,}")]
    pairs.append(("input", artifact.input))
    if artifact.opset is not None:
        pairs.append(("opset", f"{artifact.opset} (IR version {artifact.ir_version})"))
    if artifact.choices is not None:
        pairs.append(("written", ", ".join(f"{name} {value}" for name, value in artifact.choices.as_dict().items())))
    weights = artifact.weights
    pairs.append(("weights", f"{weights.source}, sha256 {weights.sha256[:8]}"))
    pairs.append(("mean / std", f"{_triple(weights.normalization.mean)} / {_triple(weights.normalization.std)}"))
    if artifact.parity is None:
        pairs.append(("parity", "not checked (--no-check)"))
    for result in artifact.parity.runtimes if artifact.parity else ():
        error = _scientific(result.max_abs_error)
        pairs.append(
            ("parity", f"passed: {result.runtime} ({result.provider}), largest error {error} on {result.images} images")
        )
    if accuracy is not None:
        pairs.append(("accuracy", f"top-1 {accuracy.top1:.2f} % on {accuracy.images:,} images ({accuracy.runtime})"))
    if reduction is not None:
        pairs.append((reduction.precision, str(reduction)))
    if golden is not None:
        pairs.append(("golden", str(golden)))
    fields(pairs)


def evaluation_summary(network: str, result: Evaluation) -> None:
    """Print an accuracy."""
    fields(
        [
            ("network", network),
            ("runtime", f"{result.runtime} ({result.provider}), {result.input} input"),
            ("top-1", f"{result.top1:.2f} %"),
            ("top-5", f"{result.top5:.2f} %"),
            ("images", f"{result.images:,} ({result.images_per_second:,.0f} a second)"),
        ]
    )


def data_summary(report: DataReport, note: str = "") -> None:
    """Print what stands in a data folder; `note` says what has just been done about it."""
    from ..data.check import STATES

    pairs = [("data set", report.dataset), ("folder", str(report.data_dir / report.folder))]
    pairs.append(("state", f"{note}; {STATES[report.state]}" if note else STATES[report.state]))
    fields(pairs)


def predictions_table(predictions: Predictions) -> None:
    """Print what a network sees in pictures: one row a class, the picture's name on the first of its rows."""
    rows = []
    for picture in predictions.pictures:
        for place, guess in enumerate(picture.top):
            name = str(picture.file) if place == 0 else ""
            rows.append([name, guess.label, f"{100 * guess.probability:.2f} %"])
    if rows:
        table(None, ["picture", "label", "probability"], rows, right=("probability",))


def release_summary(release: Published) -> None:
    """Print what a build or a merge has published."""
    networks = list(release.networks)
    pairs = [("release", str(release.path)), ("networks", f"{len(networks)}: {networks[0]}")]
    pairs += [("", f"   {name}") for name in networks[1:]]
    pairs += [
        ("files", f"{release.files}, {release.bytes:,} bytes"),
        ("sha256", f"{release.sha256} (of SHA256SUMS: what to pin)"),
        ("signed", "yes" if release.signed else "no"),
        ("commit", release.commit or "none: not built in a git checkout"),
        ("created", release.created),
    ]
    fields(pairs)


def fields(pairs: list[tuple[str, Any]]) -> None:
    """Print `name  value` lines to stdout, values aligned."""
    width = max(len(name) for name, _ in pairs)
    console = Console(highlight=False, soft_wrap=True)
    for name, value in pairs:
        console.print(printable(f"{name:<{width}}  {value}"), markup=False)


def diagnosis_table(diagnosis: Diagnosis) -> None:
    """Print every finding, then what to do about the problems and the notes."""
    words = {"ok": "ok", "note": "note", "problem": "PROBLEM"}
    rows = [[check.name, words[check.status], check.detail] for check in diagnosis.checks]
    table(None, ["what", "state", "found"], rows)
    console = Console(highlight=False, soft_wrap=True)
    for check in (*diagnosis.of("problem"), *diagnosis.of("note")):
        found = f": {check.detail}" if check.status == "problem" else ""  # notes are in the table alone
        console.print(printable(f"{check.status}: {check.name}{found}"), markup=False)
        console.print("  fix: " + "\n".join(map(printable, str(check.fix).split("\n"))), markup=False)
    problems = len(diagnosis.of("problem"))
    console.print(f"{problems} problem{'s' if problems > 1 else ''}" if problems else "no problems")


def agreement_table(agreement: Agreement) -> None:
    """Print the accuracy of a network in every runtime, then the images on which runtimes disagree."""
    from ..accuracy.agreement import WORDS

    rows = []
    for row in agreement.runtimes:
        result = row.evaluation
        figures = ["-", "-", "-", "-", "0"]
        if result is not None:
            speed = f"{result.images_per_second:,.0f}"
            accuracy = [f"{result.top1:.2f} %", f"{result.top5:.2f} %"]
            figures = [result.provider, *accuracy, speed, f"{result.images:,}"]
        rows.append([row.runtime, *figures, WORDS[row.state], row.reason or ""])
    columns = ["runtime", "provider", "top-1", "top-5", "images a second", "images", "state", ""]
    reduced = "" if agreement.precision == "float32" else f", {agreement.precision}"
    title = f"Accuracy of {agreement.network}, {agreement.input} input{reduced}"
    table(title, columns, rows, right=("top-1", "top-5", "images a second", "images"))
    if not agreement.disagreements:
        print_line("all runtimes name the same class on every image")
        return
    rows = []
    less = [found for found in agreement.disagreements if found.verdict == "reduced precision"]
    ties = [found for found in agreement.disagreements if found.verdict == "tie"]
    shown = ties if agreement.precision == "float32" else ties[:_SHOWN]
    for found in [f for f in agreement.disagreements if f.verdict == "failure"] + shown + less[:_SHOWN]:
        classes: dict[int, list[str]] = {}
        for name, number in found.classes.items():
            classes.setdefault(number, []).append(name)
        said = "; ".join(f"{agreement.labels[number]}: {', '.join(names)}" for number, names in classes.items())
        rows.append([str(found.index), agreement.labels[found.label], said, _scientific(found.margin), found.verdict])
    columns = ["image", "label", "classes", "float64 margin", "verdict"]
    table("Images on which runtimes disagree", columns, rows, right=("image", "float64 margin"))
    if len(ties) > len(shown):
        print_line(f"and {len(ties) - len(shown)} more ties; --json has them all")
    if len(less) > _SHOWN:
        print_line(f"and {len(less) - _SHOWN} more in reduced precision alone; --json has them all")


def print_line(text: str) -> None:
    """Print one line to stdout as it is."""
    Console(highlight=False, soft_wrap=True).print(printable(text), markup=False)


def divergence_summary(found: Divergence) -> None:
    """Print the first node of an ONNX file that diverges, and what is known of it."""
    pairs = [("first wrong node", f"{found.node} ({found.op})"), ("what", found.reason)]
    if found.inputs:
        within = " (as they should be)" if found.kind == "numbers" else ""
        pairs.append(("inputs", ", ".join(found.inputs) + within))
    for weight in found.weights:
        shape = " x ".join(str(size) for size in weight.shape) or "scalar"
        difference = weight.max_abs_difference
        verdict = "the network's" if difference is None else f"off by up to {difference:.1e}"
        pairs.append(("weight", f"{weight.name}, {shape}: {verdict}"))
    if found.max_abs_error is not None and found.ulp_error is not None:
        pairs.append(("error", f"{found.max_abs_error:.1e}, {found.ulp_error:.3g} ulp of the largest value"))
    fields(pairs)


def _triple(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.4f}".lstrip("0") for value in values)


def differences_table(report: Differences) -> None:
    """Print how far runtimes of a file are from the first of them; that is no verdict."""
    from ..diagnosis.differences import WORDS

    first = next((row.runtime for row in report.rows if row.state == "first"), None)
    rows = [
        [
            row.runtime,
            row.provider or "-",
            _scientific(row.max_abs_difference),
            "-" if row.top1_agreement is None else f"{100 * row.top1_agreement:.2f} %",
            str(row.images),
            WORDS[row.state],
            row.reason or "",
        ]
        for row in report.rows
    ]
    columns = ["runtime", "provider", "max difference", "top-1 agrees", "images", "state", ""]
    title = f"{report.file}, {report.input} input, against {first or 'nothing, for no runtime ran'}: no proof"
    table(title, columns, rows, right=("max difference", "top-1 agrees", "images"))


def _scientific(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
