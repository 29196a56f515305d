"""The files of a network in reduced precision: exported, proved, and held against its float32 file.

What such a file loses is no property of the machine, but its last digits are: runtimes round ties by float32 factors.
So the accuracies that stand in a release are those recorded with the bundled weights, and what this machine measures
must be within a few images of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...accuracy.reduction import BUDGET, compared
from ...data import Split
from ...errors import GateFailed
from ...exporting.artifact import write_file
from ...exporting.precision import prepared
from ...formats import FileFacts
from ...formats.onnx_choices import DEFAULT_OPSET, OnnxChoices, Precision
from ...gate.report import ParityReport
from ...networks.resnet import with_input
from ...quantization.document import recorded_accuracy
from ...runtimes import spec_of
from ...weights.core import Weights, build_network
from ...weights.index import BundledEntry
from ..layout import ALL_MODELS, FULL, REDUCED
from ..required import JUDGE
from .gate import gate_parity, score_released
from .own import ORIGIN, tolerated

Scored = tuple[Split, NDArray[np.int64]]
"""The test images, and the classes that the float32 file predicts for them, (N,)."""


@dataclass(frozen=True)
class Reduced:
    """A finished file: of which `weights` (int8: with grids), what it says of itself, and its parity.

    `described` stands in config.json; `measured` differs from machine to machine and stays outside the release.
    """

    weights: Weights
    facts: FileFacts
    parity: ParityReport
    described: dict[str, Any]
    measured: dict[str, Any]


def build_reduced(
    weights: Weights,
    entry: BundledEntry,
    precision: Precision,
    folder: Path,
    runtimes: Sequence[str],
    scored: Scored | None,
    budget: float | None,
    *,
    opset: int | None,
    tell: Callable[[str], None],
) -> Reduced:
    """Write the file of `weights` in that precision into `folder`, where the float32 ones stand.

    `runtimes`: those of the release; which of them run such files must pass parity. `scored` is None where there are
    no test images. Raises `GateFailed` where parity fails, where more than `budget` points of top-1 are lost (by
    default `BUDGET`), and where the accuracy is not the recorded one; `InvalidInput` for int8 where nothing is known to
    measure ranges on.
    """
    file, variant = REDUCED[precision], ALL_MODELS[REDUCED[precision]].input
    ready = prepared(weights, precision, progress=tell)
    module = with_input(build_network(ready), variant, ready.normalization).eval()
    choices = OnnxChoices(opset=opset or DEFAULT_OPSET, precision=precision)
    facts = write_file(folder / file, ready, "onnx", variant, module, choices=choices, checked=True)
    able = [name for name in runtimes if spec_of(name).reads == "onnx" and precision in spec_of(name).precisions]
    report = gate_parity(ready, variant, {"onnx": folder / file}, able, tell, precision=precision)
    accuracy: dict[str, Any] = {"images": None, "budget": None, "source": "unknown", "runtimes": {}}
    measured: dict[str, Any] = {"parity": report.as_dict(), "accuracy": None}
    if scored is not None:
        points = BUDGET if budget is None else budget
        accuracy, measured["accuracy"] = _accuracy(ready, entry, precision, folder / file, scored, points, tell)
    grids = ready.grids if precision == "int8" else None
    described = {
        "file": file,
        "bytes": (folder / file).stat().st_size,
        "float32_bytes": (folder / FULL).stat().st_size,
        "accuracy": accuracy,
        **({"quantization": {**grids.described(), "sha256": grids.digest()}} if grids else {}),
    }
    return Reduced(ready, facts, report, described, measured)


def _accuracy(
    weights: Weights,
    entry: BundledEntry,
    precision: Precision,
    path: Path,
    scored: Scored,
    budget: float,
    tell: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is said of the accuracy, and what was measured here."""
    split, full = scored
    found = score_released(weights, ALL_MODELS[path.name].input, path, split, tell)
    try:
        reduction = compared(precision, full, found.predictions, split.labels, budget)
    except GateFailed as error:
        raise GateFailed(f"{entry.network}: {error}") from error
    said = {"images": found.images, "budget": budget}
    measured = {JUDGE: {"top1": found.top1, "top5": found.top5}}
    if ORIGIN in entry.provenance:
        return {**said, "source": "measured", "runtimes": measured}, reduction.as_dict()
    recorded = recorded_accuracy(entry.network, entry.sha256, precision)
    if JUDGE not in recorded:
        raise GateFailed(
            f"{entry.network}: no accuracy in {precision} is recorded. Run tools/bundle_grids.py --measure."
        )
    if abs(recorded[JUDGE]["top1"] - found.top1) > tolerated(found.images):
        raise GateFailed(
            f"{entry.network}: top-1 in {precision} is {found.top1:.2f} %, but {recorded[JUDGE]['top1']:.2f} % is "
            "recorded. The network is not released."
        )
    return {**said, "source": "recorded", "runtimes": recorded}, reduction.as_dict()
