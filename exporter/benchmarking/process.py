"""A row's process as its parent sees it: open, warm up, one turn after another."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..errors import ERRORS, GateFailed
from ..gate.isolation import Room, patience
from ..networks.preprocess import Images
from ..networks.zoo import InputVariant
from ..runtimes import RuntimeSpec
from ..runtimes.feeding import Wanted
from ..runtimes.threads import VARIABLE
from .document import StartUp

TURN_S = 0.1
"""What a turn takes about: long beside a switch of processes, short beside what changes on a machine."""
WARM_UP_S = 0.5
_WARM_UP_RUNS = 3
_MOST_RUNS = 2000


@dataclass(frozen=True)
class Opened:
    """What opening told: the provider that runs it, what it took, and the memory that was there before."""

    provider: str
    startup: StartUp
    bare_bytes: int | None


class RowProcess:
    """The process that opens `file` in a runtime and times it on `images`, on so many threads. A context manager.

    `wanted`: how an ONNX file takes its images. Each method raises `GateFailed` where the process dies or is silent
    for longer than the runtime's patience, and what the runtime raises.
    """

    def __init__(
        self,
        spec: RuntimeSpec,
        file: Path,
        variant: InputVariant,
        images: Images,
        threads: int,
        wanted: Wanted | None = None,
    ) -> None:
        self._spec, self._file, self._variant, self._images = spec, file.resolve(), variant, images
        self._wanted = wanted
        self._room = Room("benchmarking.worker", {**os.environ, VARIABLE: str(threads)})
        self._runs = 1
        self._spent = 0.0
        self._copies: list[tuple[float, float]] = []
        self.peak_bytes: int | None = None
        self.own_seconds = 0.0
        """Seconds of the processor that its turns have taken."""

    def __enter__(self) -> Self:
        self._room.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._room.__exit__(kind, error, trace)

    def open(self) -> Opened:
        """Start the process and let it run its first batch."""
        images = self._room.folder / "images.npy"
        np.save(images, self._images, allow_pickle=False)
        reply = self._ask(
            {
                "open": self._spec.open,
                "reads": self._spec.reads,
                "library": self._spec.library,
                "subject": str(self._file),
                "variant": self._variant,
                "images": str(images),
                "wanted": dataclasses.astuple(self._wanted) if self._wanted else None,
            },
            0.0,
        )
        if reply["shape"][:1] != [len(self._images)]:
            raise GateFailed(
                f"{self._spec.name} returns logits of shape {reply['shape']} for {len(self._images)} images."
            )
        startup = StartUp(reply["import_s"], reply["load_s"], reply["first_s"])
        return Opened(str(reply["provider"]), startup, reply["bare_bytes"])

    def warm_up(self) -> int:
        """Run it until it has settled, and decide how many runs are a turn; the runs that this took."""
        seconds: list[float] = []
        runs = _WARM_UP_RUNS
        while runs:
            seconds += self._time(runs)
            left = WARM_UP_S - sum(seconds)
            runs = min(_MOST_RUNS, int(left / seconds[-1])) if left > 0 else 0
        typical = float(np.median(seconds[len(seconds) // 2 :]))
        self._runs = min(_MOST_RUNS, max(1, round(TURN_S / typical)))
        self._copies, self.own_seconds = [], 0.0
        return len(seconds)

    def turn(self) -> list[float]:
        """The seconds of each run of one turn."""
        return self._time(self._runs)

    @property
    def copies(self) -> tuple[float, float] | None:
        """Median seconds of copying images to a device and logits back; None for what has none."""
        if not self._copies:
            return None
        into, out = np.median(np.asarray(self._copies), axis=0)
        return float(into), float(out)

    def _time(self, runs: int) -> list[float]:
        reply = self._ask({"runs": runs}, 10 * TURN_S + 10 * WARM_UP_S)
        self._copies += [(into, out) for into, out in reply["copies"]]
        self.peak_bytes = reply["peak_bytes"]
        self.own_seconds += reply["cpu_s"] - self._spent
        self._spent = reply["cpu_s"]
        seconds: list[float] = reply["seconds"]
        return seconds

    def _ask(self, job: dict[str, Any], more_s: float) -> dict[str, Any]:
        reply = self._room.ask(job, patience(self._spec, len(self._images)) + more_s)
        if isinstance(reply, str):
            raise GateFailed(reply)
        if "error" in reply:
            code, message = reply["error"]
            raise ERRORS[code](message)
        return reply
