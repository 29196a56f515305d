"""What a network must pass before it is released: parity in both input variants, and the accuracy that is claimed.

The verdict does not depend on the machine; the numbers that led to it do, and stay out of the release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ...accuracy.evaluation import Evaluation, evaluate
from ...data import Split
from ...errors import GateFailed
from ...formats.onnx_choices import Precision
from ...gate.check import check
from ...gate.inputs import input_sets
from ...gate.report import ParityReport
from ...networks.zoo import InputVariant
from ...runtimes import open_runtime, require_runtime
from ...weights.core import Weights
from ...weights.index import BundledEntry
from ..required import GATED, JUDGE, REQUIRED

Progress = Callable[[str], None]


def runtimes_of(more: Iterable[str]) -> tuple[str, ...]:
    """`REQUIRED` and `more`, each once. Raises `Unavailable` where one cannot run here, `InvalidInput` if unknown."""
    names = tuple(dict.fromkeys((*REQUIRED, *more)))
    for name in names:
        require_runtime(name)
    return names


def gate_parity(
    weights: Weights,
    variant: InputVariant,
    files: Mapping[str, Path],
    runtimes: Sequence[str],
    progress: Progress | None = None,
    *,
    precision: Precision = "float32",
    further: Sequence[str] = (),
) -> ParityReport:
    """Compare `files` (by format name) with float64 in all `runtimes`. Raises `GateFailed` naming what fails.

    `further`: runtimes that must pass beside those that always must. Files in a reduced `precision` are compared with
    the simulation of it, and must pass in `JUDGE`.
    """
    # The four run in this process: one for each call would cost as much as the comparison. A further one that
    # somebody asks for may bring a library that crashes.
    isolated = not set(runtimes) <= set(REQUIRED)
    report = check(
        weights,
        variant,
        files,
        runtimes,
        input_sets(),
        isolated=isolated,
        precision=precision,
        progress=progress,
        reference_on="cpu",  # what a release says of its reference is the same wherever it was built
    )
    gated = (*(GATED if precision == "float32" else (JUDGE,)), *further)
    passed = {row.runtime for row in report.runtimes if row.state == "passed"}
    missing = [f"{name} was not compared" for name in gated if report.passed and name not in passed]
    if not report.passed or missing:
        failures = "; ".join([*report.failures, *missing])
        where = f"on {variant} input" if precision == "float32" else f"in {precision}"
        raise GateFailed(f"{weights.network.name}: parity failed {where}: {failures}. The network is not released.")
    return report


def gate_accuracy(
    entry: BundledEntry, weights: Weights, file: Path, split: Split, progress: Progress | None = None
) -> Evaluation:
    """Score the ONNX `file` on the test images. Raises `GateFailed` where it is not what the index of weights says.

    Both top-1 and top-5 must agree to the image.
    """
    claimed = int(entry.metrics.get("images", weights.network.dataset.test_images))
    if len(split.images) != claimed:
        raise GateFailed(
            f"{entry.network}: the accuracy in the index was measured on {claimed} test images, "
            f"but there are {len(split.images)} here."
        )
    found = score_released(weights, "float32", file, split, progress)
    if [_hits(found.top1, claimed), _hits(found.top5, claimed)] != [
        _hits(entry.top1, claimed),
        _hits(entry.top5, claimed),
    ]:
        raise GateFailed(
            f"{entry.network}: top-1 / top-5 of the ONNX file are {found.top1:.2f} / {found.top5:.2f} %, "
            f"but the index of weights says {entry.top1:.2f} / {entry.top5:.2f} %. The network is not released.\n"
            "Check that the test set is the official one: cifar-export data check."
        )
    return found


def score_released(
    weights: Weights, variant: InputVariant, file: Path, split: Split, progress: Progress | None = None
) -> Evaluation:
    """The accuracy of the ONNX `file` in `JUDGE`, in this process: it was written and proved here."""
    with open_runtime(JUDGE, file) as judge:
        return evaluate(
            judge,
            split,
            weights.normalization,
            variant,
            classes=weights.network.dataset.classes,
            progress=None if progress is None else lambda done, total: progress(f"{done:,} of {total:,} images"),
        )


def _hits(percent: float, images: int) -> int:
    return round(percent * images / 100)
