"""Train, export, prove and package ResNets for CIFAR-10 and CIFAR-100.

`cifar_export.load` gets a network by its name. Importing this package imports neither torch nor onnx.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime (1.31, for one) sends telemetry, unless this is set before its import. What the user has set stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from .release.use.load import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load`, imported when it is first asked for (PEP 562)."""
    if name == "load":
        from .release.use.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
