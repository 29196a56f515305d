"""The runtimes that every released network has passed; a release names these alone, whatever else was tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..formats.onnx_choices import Precision

YARDSTICK = "pytorch"
GATED = ("torchscript", "torch-export", "onnxruntime-cpu")
REQUIRED = (YARDSTICK, *GATED)
JUDGE = "onnxruntime-cpu"
"""The runtime that the accuracy is measured in."""


@dataclass(frozen=True)
class Wanted:
    """What a release has files of, too: reduced precisions and further formats (`layout.FURTHER`).

    `budget`: the points of top-1 that each reduced precision may lose; None for `accuracy.reduction.BUDGET`.
    """

    precisions: tuple[Precision, ...] = ()
    budget: float | None = None
    formats: tuple[str, ...] = ()


NOTHING_MORE = Wanted()
"""The files of `layout.MODELS` alone."""
