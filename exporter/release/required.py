"""The runtimes that every released network has passed; a release names these alone, whatever else was tried."""

from __future__ import annotations

YARDSTICK = "pytorch"
GATED = ("torchscript", "torch-export", "onnxruntime-cpu")
REQUIRED = (YARDSTICK, *GATED)
JUDGE = "onnxruntime-cpu"
"""The runtime that the accuracy is measured in."""
