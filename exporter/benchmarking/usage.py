"""What a process and those that it started have taken of the machine: memory at its peak, time of the processor."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

_PROC = Path("/proc")


def usage() -> tuple[int | None, float]:
    """The peak of resident memory in bytes, and seconds of the processor, of this session's processes.

    Linux keeps a process's peak in `ru_maxrss` over the start of another program, so that a child of a large process
    would begin with its parent's: VmHWM does not. Where there is no /proc it is this process alone, and on Windows the
    memory is not known.
    """
    session = os.getsid(0) if hasattr(os, "getsid") else -1
    found = [_of(folder) for folder in _PROC.glob("[0-9]*") if _session(folder) == session]
    peaks, seconds = [peak for peak, _ in found], sum(spent for _, spent in found)
    if any(peaks):
        return sum(peaks), seconds
    return _own_peak(), time.process_time()


def _own_peak() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, KiB elsewhere


def _stat(folder: Path) -> list[str]:
    """The fields of /proc/PID/stat from the third on: the second is a name, which may hold anything."""
    try:
        return (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:  # it has ended
        return []


def _session(folder: Path) -> int | None:
    fields = _stat(folder)
    return int(fields[3]) if len(fields) > 3 else None


def _of(folder: Path) -> tuple[int, float]:
    fields = _stat(folder)
    seconds = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if len(fields) > 12 else 0.0
    try:
        status = (folder / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0, seconds
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), "0")
    return int(peak) * 1024, seconds
