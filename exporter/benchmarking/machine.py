"""The machine that figures are of, and whether it had something else to do meanwhile."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..gate.versions import versions
from ..system.processor import cores, governor, instruction_sets, processor_name

STEAL_LIMIT = 0.01
OTHERS_LIMIT = 0.05
DRIFT_LIMIT = 0.10
"""Shares above which the machine is called noisy. Two idle cores of a virtual machine stay well below all three."""
_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Machine:
    """Where it was measured. `threads`: what each runtime was told to take."""

    processor: str
    instruction_sets: tuple[str, ...]
    cores: int
    governor: str | None
    system: str
    threads: int
    versions: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "instruction_sets": list(self.instruction_sets), "versions": dict(self.versions)}


def this_machine(threads: int) -> Machine:
    """The one that this runs on."""
    system = f"{platform.system()} {platform.machine()}"
    return Machine(processor_name(), instruction_sets(), cores(), governor(), system, threads, versions())


@dataclass(frozen=True)
class Clock:
    """What the whole machine has spent so far, in ticks: `total`, of which `busy`, of which `steal` went elsewhere."""

    total: float
    busy: float
    steal: float


def look() -> Clock | None:
    """The machine's clock; None where the system does not tell."""
    try:
        line = _STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]
        user, nice, system, idle, iowait, irq, softirq, steal = map(float, line)
    except (OSError, ValueError, IndexError):
        return None
    busy = user + nice + system + irq + softirq
    return Clock(busy + idle + iowait + steal, busy, steal)


def load() -> float | None:
    """Processes that were ready to run, a minute's mean; None where the system does not tell."""
    with contextlib.suppress(OSError, AttributeError):
        return os.getloadavg()[0]
    return None


@dataclass(frozen=True)
class Conditions:
    """How the machine was while it measured.

    `load`: its load before. `steal`: the share of its time that the hypervisor gave to others; `others`: the share that
    other programs of it took. `drift`: how far a tenth of the turns was off from the middle turn of their row, or
    more, as a share. None is what could not be known. `seconds`: how long it measured. `in_time`: whether every ratio
    was known well enough before the time was over.
    """

    load: float | None
    steal: float | None
    others: float | None
    drift: float | None
    seconds: float
    in_time: bool

    @property
    def noise(self) -> list[str]:
        """In words, what makes it a noisy machine."""
        found = [
            (self.steal, STEAL_LIMIT, "the hypervisor gave {:.1%} of its time to others"),
            (self.others, OTHERS_LIMIT, "other programs took {:.0%} of it"),
            (self.drift, DRIFT_LIMIT, "a tenth of the turns was off by {:.0%} or more"),
        ]
        return [words.format(value) for value, limit, words in found if value is not None and value > limit]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "noise": self.noise}


def shares(before: Clock | None, after: Clock | None, own_seconds: float) -> tuple[float | None, float | None]:
    """Steal and the work of others between two looks, as shares of the machine; `own_seconds`: what we took of it."""
    if before is None or after is None or after.total <= before.total:
        return None, None
    total = after.total - before.total
    own = own_seconds * os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.0
    others = max(0.0, after.busy - before.busy - own)
    return (after.steal - before.steal) / total, others / total
