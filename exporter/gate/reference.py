"""The float64 logits that files are held against, from a GPU where there is one, which the CPU checks.

The order of sums differs between devices, and with it the last digits; everything else is the same arithmetic. So what
a GPU computes is the reference only if it is the CPU's, up to float64 rounding, on an image of each size of batch.
Otherwise the CPU computes all of it, and the report says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..errors import first_line
from ..runtimes.pytorch import Reference
from .compare import YARDSTICK_LIMIT_ULPS
from .forward import BatchFailed, Inputs, Logits, Places, Sign, forward
from .inputs import BATCH_SIZES
from .report import CPU

Begin = Callable[[str], Sign]


def on_cpu(double: nn.Module, inputs: Inputs, where: Places, begin: Begin) -> Mapping[str, Logits]:
    """The logits of `double`, a network in float64, by input set: float64 (N, classes).

    `begin` hears what is computed, and returns what is called after each batch.
    """
    return forward(Reference(double), inputs, where, begin("float64 reference"))[0]


def on_device(
    double: nn.Module, inputs: Inputs, where: Places, begin: Begin, device: str
) -> tuple[Mapping[str, Logits], str]:
    """The same, computed on `device` and checked; and what computed them in the end, with the reason if it is the CPU.

    In each input set one image of each size of batch is compared. They may differ by as many units in the last place of
    the largest logit as a float32 yardstick may in float32: 512, where another order of sums made 16 (docs/parity.md).
    """
    few = {name: _one_of_each_size(cut) for name, cut in where.items()}
    try:
        there = Reference(double, device)
        logits, _ = forward(there, inputs, where, begin(f"float64 reference on {there.device}"))
    except (BatchFailed, RuntimeError) as error:  # too little memory there, no kernel for it
        why = f"{device} fails: {first_line(error.__cause__ or error)}"
    else:
        here, _ = forward(Reference(double), inputs, {name: [rows] for name, rows in few.items()})
        problem = _beyond_rounding(here, {name: logits[name][rows] for name, rows in few.items()})
        if problem is None:
            return logits, f"{there.device}, checked against the CPU"
        why = f"{there.device} {problem}"
    return on_cpu(double, inputs, where, begin), f"{CPU}, because {why}"


def _one_of_each_size(cut: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    """The last image of the first batches, which are one of each size, and of the last one."""
    return np.unique([batch[-1] for batch in (*cut[: len(BATCH_SIZES)], cut[-1])])


def _beyond_rounding(here: Mapping[str, Logits], there: Mapping[str, Logits]) -> str | None:
    """How far `there` is from `here`, the CPU's, where float64 rounding does not explain it; else None."""
    for name, logits in here.items():
        off, allowed = np.abs(there[name] - logits).max(), YARDSTICK_LIMIT_ULPS * np.spacing(np.abs(logits).max())
        if not off <= allowed:  # NaN is not
            return f"is off by {off:.1e} ({name}), and float64 rounding explains {allowed:.1e}"
    return None
