"""Run every runtime over every input set against the float64 reference, and judge."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from ..formats.onnx_choices import Precision
from ..networks.preprocess import Pixels
from ..networks.zoo import InputVariant
from ..runtimes import open_runtime, spec_of, why_missing
from ..runtimes.threads import share
from ..system.torch_state import threads_at_most
from ..weights.core import Weights
from .compare import Comparison, compare
from .forward import Answer, Inputs, attempt, places
from .isolation import Isolation
from .report import ParityReport, RuntimeResult, State
from .standard import Standard, standard
from .versions import versions

Progress = Callable[[str], None]


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
    precision: Precision = "float32",
    progress: Progress | None = None,
    reference_on: str | None = None,
) -> ParityReport:
    """Compare `runtimes` on `files` (by format name) with the float64 network of `weights`.

    `precision` is that of the files: in a reduced one the reference is the simulation of it (`gate.standard`).

    `pixels`: named sets of uint8 (N, 32, 32, 3) images. A runtime that is missing, raises or is wrong becomes a row
    that says so, never the end of the run; with `isolated` also one that crashes its process or hangs (a second or
    more for the process, which a single runtime that was just exported does not need). With `full_batch` runtimes also
    get a batch of the largest size where the sets are smaller. `problems` found in the files before are carried into
    the verdict. `reference_on`: the `device` of `standard`.
    """
    inputs = Inputs(pixels, variant, weights.normalization)
    names = list(dict.fromkeys(runtimes))
    tell = progress or (lambda what: None)
    with contextlib.ExitStack() as stack:
        answers = _begin(stack, names, files, inputs, precision, full_batch=full_batch) if isolated else {}
        if answers:
            stack.enter_context(threads_at_most(share(2)))
        held = standard(weights, variant, precision, names, inputs, tell, reference_on)
        rows = []
        for name in names:
            tell(name)
            if name in held.own:
                rows.append(_yardstick_row(name, held))
            else:
                rows.append(_row(name, files, inputs, held, answers.get(name), full_batch=full_batch))
    return ParityReport(
        network=weights.network.name,
        input=variant,
        weights_sha256=weights.sha256,
        yardsticks={
            device: {name: float(np.abs(one.logits[name] - held.reference[name]).max()) for name in pixels}
            for device, one in held.own.items()
        },
        allowed={name: limit.allowed for name, limit in held.bounds.items()},
        runtimes=tuple(rows),
        problems=tuple(problems),
        versions=versions(),
        precision=precision,
        computed_on=held.computed_on,
    )


def _begin(
    stack: contextlib.ExitStack,
    names: Sequence[str],
    files: Mapping[str, Path],
    inputs: Inputs,
    precision: Precision,
    *,
    full_batch: bool,
) -> dict[str, Future[Answer]]:
    """Start what can run in another process; it goes on while the reference is computed, on half of the threads."""
    able = [spec_of(name) for name in names if _why_not(name, files, precision) is None]
    ready = [spec for spec in able if spec.reads != "network"]
    if not ready:
        return {}
    room = stack.enter_context(Isolation(inputs, share(2)))
    return {
        spec.name: room.submit(spec, files[spec.reads], places(spec, inputs.pixels, full_batch=full_batch))
        for spec in ready
    }


def _why_not(name: str, files: Mapping[str, Path], precision: Precision) -> str | None:
    """What this machine or the files given lack to run `name`, in words; None where nothing is missing."""
    if precision not in spec_of(name).precisions:
        return f"it runs no {precision} files"
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
    held: Standard,
    begun: Future[Answer] | None,
    *,
    full_batch: bool,
) -> RuntimeResult:
    spec = spec_of(name)
    reason = None if begun else _why_not(name, files, held.precision)
    if reason:
        return RuntimeResult(name, None, "not_run", reason)
    where = places(spec, inputs.pixels, full_batch=full_batch)
    answer = begun.result() if begun else attempt(lambda: open_runtime(name, files[spec.reads]), inputs, where)
    comparisons: tuple[Comparison, ...] = ()
    problem = answer.problem
    if problem is None:
        limits = held.limits(spec)
        comparisons = tuple(
            compare(some, held.reference[some][rows], answer.logits[some], limits[some], rows)
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


def _yardstick_row(name: str, held: Standard) -> RuntimeResult:
    """The yardstick's own row: measured, and gated only in that it must be a float32 forward at all."""
    answer, limits = held.own[name], held.limits(spec_of(name))
    comparisons = tuple(
        compare(some, held.reference[some], logits, limits[some]) for some, logits in answer.logits.items()
    )
    problem = _reason(comparisons)
    return RuntimeResult(name, answer.provider, "failed" if problem else "yardstick", problem, comparisons)


def _reason(comparisons: Sequence[Comparison]) -> str | None:
    problems = [f"{c.problem} ({c.inputs})" for c in comparisons if c.problem]
    more = f", and {len(problems) - 1} more input sets" if len(problems) > 1 else ""
    return f"{problems[0]}{more}" if problems else None
