"""Run every runtime over every input set against the float64 reference, and judge."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from exporter.errors import CifarExportError
from exporter.parity.compare import Bound, Comparison, bound, compare
from exporter.parity.inputs import batches
from exporter.parity.report import ParityReport, RuntimeResult
from exporter.preprocess import Images, Pixels, as_variant
from exporter.resnet import with_input
from exporter.runtimes import open_runtime, spec_of, why_missing
from exporter.runtimes.pytorch import Reference
from exporter.weights import Weights, build_network
from exporter.zoo import InputVariant

Progress = Callable[[str], None]
_YARDSTICK, _CUDA_YARDSTICK = "pytorch", "pytorch-cuda"


def check(
    weights: Weights,
    variant: InputVariant,
    files: Mapping[str, Path],
    runtimes: Sequence[str],
    pixels: Mapping[str, Pixels],
    *,
    problems: Sequence[str] = (),
    progress: Progress | None = None,
) -> ParityReport:
    """Compare `runtimes` on `files` (by format name) with the float64 network of `weights`.

    `pixels`: named sets of uint8 (N, 32, 32, 3) images. A runtime that is missing, crashes or is wrong becomes a row
    that says so, never the end of the run; `problems` found in the files before are carried into the verdict.
    """
    network = build_network(weights)
    eager = with_input(network, variant, weights.normalization).eval()
    double = with_input(copy.deepcopy(network).double(), variant, weights.normalization).eval()
    images = {name: as_variant(pixel, variant, weights.normalization) for name, pixel in pixels.items()}

    _tell(progress, "float64 reference")
    reference = _forward(Reference(double), images)
    _tell(progress, _YARDSTICK)
    own = {_YARDSTICK: _forward(open_runtime(_YARDSTICK, eager), images)}
    # TF32 and the GPU's own summation order make CUDA's float32 error another one: the larger of both counts there
    if any(name.endswith("-cuda") for name in runtimes) and why_missing(_CUDA_YARDSTICK) is None:
        _tell(progress, _CUDA_YARDSTICK)
        own[_CUDA_YARDSTICK] = _forward(open_runtime(_CUDA_YARDSTICK, eager), images)

    bounds = {name: bound(reference[name], [own[_YARDSTICK][name]]) for name in images}
    cuda_bounds = {name: bound(reference[name], [logits[name] for logits in own.values()]) for name in images}
    rows = []
    for name in dict.fromkeys(runtimes):
        _tell(progress, name)
        limits = cuda_bounds if name.endswith("-cuda") else bounds
        if name in own:
            rows.append(_yardstick_row(name, own[name], reference, limits, eager))
        else:
            rows.append(_row(name, eager, files, images, reference, limits))
    return ParityReport(
        network=weights.network.name,
        input=variant,
        weights_sha256=weights.sha256,
        yardsticks={
            device: {name: float(np.abs(logits[name] - reference[name]).max()) for name in images}
            for device, logits in own.items()
        },
        allowed={name: limit.allowed for name, limit in bounds.items()},
        runtimes=tuple(rows),
        problems=tuple(problems),
    )


def _row(
    name: str,
    eager: nn.Module,
    files: Mapping[str, Path],
    images: Mapping[str, Images],
    reference: Mapping[str, NDArray[np.float64]],
    limits: Mapping[str, Bound],
) -> RuntimeResult:
    reads = spec_of(name).reads
    reason = why_missing(name)
    if reason:
        return RuntimeResult(name, None, None, f"not run: {reason}")
    if reads != "network" and reads not in files:
        return RuntimeResult(name, None, None, f"not run: it reads {reads} files, and none was given")
    try:
        runtime = open_runtime(name, eager if reads == "network" else files[reads])
        logits = _forward(runtime, images)
    except CifarExportError as error:
        return RuntimeResult(name, None, False, str(error))
    except Exception as error:  # noqa: BLE001  runtimes raise what they like; a crash of one is its row
        first = (str(error).strip().splitlines() or [""])[0]
        return RuntimeResult(name, None, False, f"crashed: {type(error).__name__}: {first[:200]}")
    comparisons = tuple(compare(inputs, reference[inputs], logits[inputs], limits[inputs]) for inputs in images)
    return RuntimeResult(name, runtime.provider, all(c.passed for c in comparisons), _reason(comparisons), comparisons)


def _yardstick_row(
    name: str,
    logits: Mapping[str, NDArray[np.float32]],
    reference: Mapping[str, NDArray[np.float64]],
    limits: Mapping[str, Bound],
    eager: nn.Module,
) -> RuntimeResult:
    """The yardstick's own row: measured, and gated only in that it must be a float32 forward at all."""
    comparisons = tuple(compare(inputs, reference[inputs], logits[inputs], limits[inputs]) for inputs in logits)
    provider = open_runtime(name, eager).provider
    problem = _reason(comparisons)
    return RuntimeResult(name, provider, False if problem else None, problem or "the yardstick", comparisons)


def _forward(runtime: Any, images: Mapping[str, Images]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([runtime.logits(batch) for batch in batches(full)]) for name, full in images.items()}


def _reason(comparisons: Sequence[Comparison]) -> str | None:
    problems = [f"{c.problem} ({c.inputs})" for c in comparisons if c.problem]
    more = f", and {len(problems) - 1} more input sets" if len(problems) > 1 else ""
    return f"{problems[0]}{more}" if problems else None


def _tell(progress: Progress | None, what: str) -> None:
    if progress is not None:
        progress(what)
