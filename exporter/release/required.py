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
    """The reduced precisions that a release has files of, too, and the points of top-1 that each of them may lose.

    `budget`: None for `accuracy.reduction.BUDGET`.
    """

    precisions: tuple[Precision, ...] = ()
    budget: float | None = None


NOTHING_MORE = Wanted()
"""float32 files alone."""
