"""The rows of one batch: each in a process of its own, all alive at once, measured in turn."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..errors import CifarExportError
from ..networks.preprocess import Pixels, as_variant
from ..runtimes.feeding import wanted_by
from .candidates import Candidate
from .document import Row
from .machine import Clock, look, shares
from .process import RowProcess
from .statistics import ratio_of_medians
from .turns import Turning

Progress = Callable[[str], None]


class Group:
    """The rows of one batch, each a process, that take turns."""

    def __init__(self, candidates: Sequence[Candidate], pixels: Pixels, tell: Progress) -> None:
        self._candidates, self._pixels, self._tell = candidates, pixels, tell
        self.rows = [candidate.row for candidate in candidates]
        self.seconds, self.in_time = 0.0, False
        self.interruption: KeyboardInterrupt | None = None
        self.steal: float | None = None
        self.others: float | None = None

    def measure(self, limit_s: float) -> None:
        """Open, warm up and take turns; Ctrl-C leaves what there is so far."""
        with contextlib.ExitStack() as stack:
            turning = Turning([])
            places: list[int] = []
            processes: list[RowProcess] = []
            clock, began, parent = None, time.monotonic(), 0.0
            try:
                for place, candidate in enumerate(self._candidates):
                    process = self._begun(place, candidate, stack)
                    if process is not None:
                        places.append(place)
                        processes.append(process)
                if processes:
                    turning = Turning(processes)
                    clock, began, parent = look(), time.monotonic(), time.process_time()
                    self.in_time = turning.take(limit_s, self._shown)
            except KeyboardInterrupt as interruption:
                self.interruption = interruption
            self.seconds = time.monotonic() - began if processes else 0.0
            own = time.process_time() - parent + sum(process.own_seconds for process in processes)
            self._finish(turning, places, processes, clock, own)

    def _shown(self, turns: int, share: float) -> None:
        batch = self.rows[0].key.batch
        self._tell(f"batch {batch}: turn {turns}, {share:.0%} of the time")

    def _begun(self, place: int, candidate: Candidate, stack: contextlib.ExitStack) -> RowProcess | None:
        """The row's process, warm; None where it fails, which its row then says."""
        row, file = self.rows[place], candidate.file
        if file is None:
            return None
        self._tell(f"warming up: {row.key}")
        try:
            process = stack.enter_context(self._process(row, candidate, file))
            opened = process.open()
            row = dataclasses.replace(
                row, provider=opened.provider, startup=opened.startup, bare_bytes=opened.bare_bytes
            )
            self.rows[place] = dataclasses.replace(row, warm_up_runs=process.warm_up(), peak_bytes=process.peak_bytes)
        except CifarExportError as error:
            self.rows[place] = dataclasses.replace(row, state="failed", reason=str(error))
            return None
        return process

    def _process(self, row: Row, candidate: Candidate, file: Path) -> RowProcess:
        pixels = self._pixels[np.arange(row.key.batch) % len(self._pixels)]
        images = as_variant(pixels, candidate.variant, candidate.weights.normalization)
        wanted = wanted_by(file) if candidate.spec.reads == "onnx" else None
        return RowProcess(candidate.spec, file, candidate.variant, images, row.key.threads, wanted)

    def _finish(
        self,
        turning: Turning,
        places: Sequence[int],
        processes: Sequence[RowProcess],
        clock: Clock | None,
        own: float,
    ) -> None:
        self.steal, self.others = shares(clock, look(), own)
        first = next((turns for at, turns in enumerate(turning.turns) if turns and at not in turning.failed), None)
        for at, turns in enumerate(turning.turns):
            row = self.rows[places[at]]
            if at in turning.failed:
                row = dataclasses.replace(row, state="failed", reason=str(turning.failed[at]))
            elif turns and first:
                row = dataclasses.replace(
                    row,
                    state="measured",
                    turns=tuple(map(tuple, turns)),
                    ratio=ratio_of_medians(turns, first),
                    peak_bytes=processes[at].peak_bytes,
                    copies=processes[at].copies,
                )
            self.rows[places[at]] = row
