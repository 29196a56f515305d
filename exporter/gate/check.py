"""Run every runtime over every input set against the float64 reference, and judge."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..networks.preprocess import Pixels
from ..networks.resnet import with_input
from ..networks.zoo import InputVariant
from ..runtimes import open_runtime, spec_of, why_missing
from ..runtimes.pytorch import Reference
from ..weights.core import Weights, build_network
from .compare import Bound, Comparison, bound, compare
from .forward import Answer, Inputs, Places, attempt, forward, places
from .isolation import Isolation
from .report import ParityReport, RuntimeResult, State
from .versions import versions

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
    isolated: bool = False,
    full_batch: bool = False,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare `runtimes` on `files` (by format name) with the float64 network of `weights`.

    `pixels`: named sets of uint8 (N, 32, 32, 3) images. A runtime that is missing, raises or is wrong becomes a row
    that says so, never the end of the run; with `isolated` also one that crashes its process or hangs (a second or
    more for the process, which a single runtime that was just exported does not need). With `full_batch` runtimes also
    get a batch of the largest size where the sets are smaller. `problems` found in the files before are carried into
    the verdict.
    """
    network = build_network(weights)
    eager = with_input(network, variant, weights.normalization).eval()
    double = with_input(copy.deepcopy(network).double(), variant, weights.normalization).eval()
    inputs = Inputs(pixels, variant, weights.normalization)
    names = list(dict.fromkeys(runtimes))
    with contextlib.ExitStack() as stack:
        answers = _begin(stack, names, files, inputs, full_batch=full_batch) if isolated else {}
        _tell(progress, "float64 reference")
        everything = places(spec_of(_YARDSTICK), pixels)
        reference, _ = forward(Reference(double), inputs, everything)
        _tell(progress, _YARDSTICK)
        own = {_YARDSTICK: _measure(_YARDSTICK, eager, inputs, everything)}
        # TF32 and the GPU's own summation order make CUDA's float32 error another one: the larger of both counts there
        if any(spec_of(name).device == "cuda" for name in names) and why_missing(_CUDA_YARDSTICK) is None:
            _tell(progress, _CUDA_YARDSTICK)
            own[_CUDA_YARDSTICK] = _measure(_CUDA_YARDSTICK, eager, inputs, everything)

        bounds = {name: bound(reference[name], [own[_YARDSTICK].logits[name]]) for name in pixels}
        cuda_bounds = {name: bound(reference[name], [one.logits[name] for one in own.values()]) for name in pixels}
        rows = []
        for name in names:
            _tell(progress, name)
            limits = cuda_bounds if spec_of(name).device == "cuda" else bounds
            if name in own:
                rows.append(_yardstick_row(name, own[name], reference, limits))
            else:
                rows.append(_row(name, files, inputs, reference, limits, answers.get(name), full_batch=full_batch))
    return ParityReport(
        network=weights.network.name,
        input=variant,
        weights_sha256=weights.sha256,
        yardsticks={
            device: {name: float(np.abs(one.logits[name] - reference[name]).max()) for name in pixels}
            for device, one in own.items()
        },
        allowed={name: limit.allowed for name, limit in bounds.items()},
        runtimes=tuple(rows),
        problems=tuple(problems),
        versions=versions(),
    )


def _measure(yardstick: str, module: nn.Module, inputs: Inputs, where: Places) -> Answer:
    with open_runtime(yardstick, module) as runtime:
        logits, seconds = forward(runtime, inputs, where)
        return Answer(runtime.provider, logits, seconds=seconds)


def _begin(
    stack: contextlib.ExitStack, names: Sequence[str], files: Mapping[str, Path], inputs: Inputs, *, full_batch: bool
) -> dict[str, Future[Answer]]:
    """Start what can run in another process; it goes on while the reference is computed."""
    ready = [spec_of(name) for name in names if _why_not(name, files) is None and spec_of(name).reads != "network"]
    if not ready:
        return {}
    room = stack.enter_context(Isolation(inputs))
    return {
        spec.name: room.submit(spec, files[spec.reads], places(spec, inputs.pixels, full_batch=full_batch))
        for spec in ready
    }


def _why_not(name: str, files: Mapping[str, Path]) -> str | None:
    """What this machine or the files given lack to run `name`, in words; None where nothing is missing."""
    reads, missing = spec_of(name).reads, why_missing(name)
    if missing is not None:
        return str(missing)
    if reads != "network" and reads not in files:
        return f"it reads {reads} files, and none was given"
    return None


def _row(
    name: str,
    files: Mapping[str, Path],
    inputs: Inputs,
    reference: Mapping[str, NDArray[np.float64]],
    limits: Mapping[str, Bound],
    begun: Future[Answer] | None,
    *,
    full_batch: bool,
) -> RuntimeResult:
    spec = spec_of(name)
    reason = None if begun else _why_not(name, files)
    if reason:
        return RuntimeResult(name, None, "not_run", reason)
    where = places(spec, inputs.pixels, full_batch=full_batch)
    answer = begun.result() if begun else attempt(lambda: open_runtime(name, files[spec.reads]), inputs, where)
    comparisons: tuple[Comparison, ...] = ()
    problem = answer.problem
    if problem is None:
        comparisons = tuple(
            compare(some, reference[some][rows], answer.logits[some], limits[some], rows)
            for some, rows in ((some, np.concatenate(cut)) for some, cut in where.items())
        )
        problem = _elsewhere(answer) or _reason(comparisons)
    gate: State = "failed" if problem else "passed"
    return RuntimeResult(name, answer.provider, gate if spec.gated else "reported", problem, comparisons)


def _elsewhere(answer: Answer) -> str | None:
    if not answer.misplaced:
        return None
    more = f" and {len(answer.misplaced) - 3} more" if len(answer.misplaced) > 3 else ""
    return f"not on {answer.provider}: {', '.join(answer.misplaced[:3])}{more}"


def _yardstick_row(
    name: str, answer: Answer, reference: Mapping[str, NDArray[np.float64]], limits: Mapping[str, Bound]
) -> RuntimeResult:
    """The yardstick's own row: measured, and gated only in that it must be a float32 forward at all."""
    comparisons = tuple(compare(some, reference[some], logits, limits[some]) for some, logits in answer.logits.items())
    problem = _reason(comparisons)
    return RuntimeResult(name, answer.provider, "failed" if problem else "yardstick", problem, comparisons)


def _reason(comparisons: Sequence[Comparison]) -> str | None:
    problems = [f"{c.problem} ({c.inputs})" for c in comparisons if c.problem]
    more = f", and {len(problems) - 1} more input sets" if len(problems) > 1 else ""
    return f"{problems[0]}{more}" if problems else None


def _tell(progress: Progress | None, what: str) -> None:
    if progress is not None:
        progress(what)
