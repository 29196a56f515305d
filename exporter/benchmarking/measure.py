"""A benchmark from start to end: what is to be measured, its gate, its processes, their turns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..data import Split
from ..gate.inputs import bundled_images
from ..system.processor import cores
from ..weights.core import Weights
from .candidates import Candidate, Progress, candidates, scored
from .comparison import ALLOWED, Baseline, Comparison, read_baseline
from .document import Benchmark, Row
from .group import Group
from .machine import Conditions, load, this_machine
from .plan import Asked, Plan, planned


def benchmark(
    subjects: Sequence[Asked],
    plan: Plan,
    *,
    baseline: Path | None = None,
    allowed: float = ALLOWED,
    split_of: Callable[[Weights], Split] | None = None,
    progress: Progress | None = None,
) -> Benchmark:
    """Prove and measure every subject in every runtime, precision and batch of `plan`.

    A runtime that is missing, or fails its gate, is a row without a time. Ratios are to the first row of the same batch
    that has one. With `split_of`, the test images of a network, each row has its own top-1. Ctrl-C during the turns
    ends them, and the benchmark says so. Raises `InvalidInput` for what cannot be measured, before the minutes it
    takes.
    """
    tell = progress or (lambda what: None)
    before, machine = load(), this_machine(plan.threads or cores())
    wanted = planned(subjects, plan)
    keys = [key for one in wanted for key in one.all_keys()]
    earlier = read_baseline(baseline, machine, keys) if baseline else None
    with contextlib.ExitStack() as stack:
        found = [candidate for one in wanted for candidate in candidates(one, stack, tell)]
        if split_of is not None:
            found = scored(found, split_of, tell)
        rows, conditions, interruption = _measure(found, plan, before, tell)
    comparison = _compared(rows, earlier, allowed) if earlier else None
    return Benchmark(machine, conditions, tuple(rows), includes(rows), comparison, interruption)


def includes(rows: Sequence[Row]) -> str:
    """What a time includes, in one sentence."""
    inside = {"float32": "normalized before", "uint8": "normalized by the file", "unit": "normalized by the file"}
    said = " and ".join(dict.fromkeys(f"{row.key.input}, {inside[row.key.input]}" for row in rows))
    return (
        f"A time is of one batch from a NumPy array ({said}) to logits in another: with the copies in and out, without "
        "decoding pictures."
    )


def _measure(
    found: Sequence[Candidate], plan: Plan, before: float | None, tell: Progress
) -> tuple[list[Row], Conditions, KeyboardInterrupt | None]:
    """All rows with their times, batch after batch, and how the machine was meanwhile."""
    rows, pixels = [candidate.row for candidate in found], bundled_images()
    places = [
        [at for at, candidate in enumerate(found) if candidate.row.key.batch == batch and candidate.file is not None]
        for batch in dict.fromkeys(plan.batches)
    ]
    waiting, done, left = [some for some in places if some], list[Group](), plan.time_limit_s
    while waiting and not any(group.interruption for group in done):
        some = waiting[0]
        group = Group([found[at] for at in some], pixels, tell)
        group.measure(left / len(waiting))
        for at, row in zip(some, group.rows, strict=True):
            rows[at] = row
        left = max(0.0, left - group.seconds)
        done.append(group)
        waiting = waiting[1:]
    conditions = Conditions(
        load=before,
        steal=max((group.steal for group in done if group.steal is not None), default=None),
        others=max((group.others for group in done if group.others is not None), default=None),
        drift=_drift(rows),
        seconds=sum(group.seconds for group in done),
        in_time=bool(done) and all(group.in_time for group in done),
    )
    return rows, conditions, next((group.interruption for group in done if group.interruption), None)


def _drift(rows: Sequence[Row]) -> float | None:
    """How far a tenth of the turns or more is off from the middle turn of its row, as a share; of the typical row."""
    found = []
    for row in rows:
        medians = np.array(row.turn_medians)
        if len(medians) > 1:
            middle = float(np.median(medians))
            found.append(float(np.percentile(np.abs(medians - middle), 90)) / middle)
    return float(np.median(found)) if found else None


def _compared(rows: Sequence[Row], earlier: Baseline, allowed: float) -> Comparison:
    return earlier.compare({row.key: row.turn_medians for row in rows}, allowed)
