"""The processor: its name, the instruction sets that decide how fast a network runs, and the cores to be had."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_CGROUP = Path("/sys/fs/cgroup")
# the flags that Linux prints, by what they are called; on ARM "asimd" is NEON
_SETS = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "BF16": ("avx512_bf16", "bf16"),
    "AMX": ("amx_tile",),
    "NEON": ("asimd", "neon"),
    "dot product": ("asimddp",),
    "SVE": ("sve",),
}


def processor_name() -> str:
    """The processor, as the system calls it."""
    return _line("model name") or platform.processor() or platform.machine()


def instruction_sets() -> tuple[str, ...]:
    """Those of `_SETS` that it has; none where the system does not say."""
    flags = set((_line("flags") or _line("Features")).split())
    return tuple(name for name, known in _SETS.items() if flags.intersection(known))


def cores() -> int:
    """The cores that this process may use: those it may run on, and not more than its container gets the time of."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(here, int(_quota() or here)))


def _quota() -> float | None:
    """The cores whose time the container gets, of cgroup 2 or 1; None where there is no limit or none can be read."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            numbers = " ".join((_CGROUP / name).read_text(encoding="utf-8") for name in files).split()
            quota, period = map(int, numbers)
        except (OSError, ValueError):  # "max" is no number
            continue
        return quota / period if quota > 0 and period > 0 else None
    return None


def governor() -> str | None:
    """What decides about the first core's frequency ("performance", "powersave"); None where that cannot be read."""
    try:
        return _GOVERNOR.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _line(name: str) -> str:
    """What /proc/cpuinfo says under `name` of the first core; nothing where it says nothing."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name)
    return next(found, "")
