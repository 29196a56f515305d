"""Accuracy of a network in one runtime: on an export made for the occasion, or on a file that exists."""

from __future__ import annotations

from pathlib import Path

from ..data import Split
from ..errors import GateFailed
from ..exporting.subject import facts_of_export, opened, precision_of, require_reader
from ..formats import format_of
from ..formats.onnx_choices import Precision
from ..gate.isolated import IsolatedFile
from ..networks.zoo import InputVariant, Normalization
from ..runtimes import require_precision, require_runtime
from ..weights.core import Weights
from .evaluation import DEFAULT_BATCH, Evaluation, Progress, evaluate


def score(
    weights: Weights,
    split: Split,
    runtime: str,
    *,
    variant: InputVariant | None = None,
    file: Path | None = None,
    precision: Precision | None = None,
    trust_file: bool = False,
    batch_size: int = DEFAULT_BATCH,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Top-1 and top-5 of `weights` in `runtime`, on a fresh export in that precision or on `file`.

    A `file` is fed the normalization that it states itself; one that states other weights is refused (`GateFailed`),
    and so is one of another format than the runtime reads (`InvalidInput`).
    """
    require_runtime(runtime)
    if file is not None:
        facts = facts_of_export(file, weights, variant, trust=trust_file)
        require_reader(runtime, file, facts.format)
        variant = facts.variant
        precision = precision_of(file, facts, precision)
    chosen, reduced = variant or "float32", precision or "float32"
    require_precision(runtime, reduced)
    with opened(weights, runtime, chosen, file, reduced) as ready:
        return evaluate(
            ready,
            split,
            weights.normalization,
            chosen,
            batch_size=batch_size,
            limit=limit,
            classes=weights.network.dataset.classes,
            progress=progress,
        )


def score_file(
    file: Path,
    format_name: str,
    split: Split,
    runtime: str,
    variant: InputVariant,
    normalization: Normalization,
    *,
    classes: int,
    batch_size: int = DEFAULT_BATCH,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Top-1 and top-5 of a `file` of that format whose weights nobody has, by what its user says that it takes."""
    require_runtime(runtime)
    require_reader(runtime, file, format_name)
    with IsolatedFile(runtime, file) as ready:
        return evaluate(
            ready,
            split,
            normalization,
            variant,
            batch_size=batch_size,
            limit=limit,
            classes=classes,
            progress=progress,
        )


def require_top1(
    weights: Weights, split: Split, file: Path, percent: float, progress: Progress | None = None
) -> Evaluation:
    """The accuracy of the `file` just exported in the runtime that gates its format.

    Raises `GateFailed` below `percent`.
    """
    result = score(weights, split, format_of(file).gate, file=file, trust_file=True, progress=progress)
    if round(result.top1, 4) < round(percent, 4):
        figure = f"{result.top1:.2f} % on {result.images:,} images"
        raise GateFailed(
            f"top-1 is {figure}, not {percent:.2f} % or more. Nothing was written.\n"
            "Look at the normalization (--mean, --std), at --shortcut and at --key."
        )
    return result
