"""Train, export, prove and package ResNets for CIFAR-10 and CIFAR-100.

The names in `__all__` are the public face: they, their arguments and the attributes that their docstrings name change
only with a new major version, or, before 1.0, with a line in CHANGELOG.md. Everything else in this package may change
at any time. Importing it imports neither torch nor onnx.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime (1.31, for one) sends telemetry, unless this is set before its import. What the user has set stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from .accuracy.evaluation import Evaluation
    from .api import evaluate, export, load, parity, predict, verify
    from .errors import CifarExportError, GateFailed, InvalidInput, Unavailable
    from .exporting.artifact import Artifact
    from .gate.report import ParityReport
    from .prediction.predict import Predictions
    from .release.check.examine import Examined
    from .release.use.loaded import BundledNetwork, LoadedNetwork, ReleasedNetwork

__all__ = [
    "Artifact",
    "BundledNetwork",
    "CifarExportError",
    "Evaluation",
    "Examined",
    "GateFailed",
    "InvalidInput",
    "LoadedNetwork",
    "ParityReport",
    "Predictions",
    "ReleasedNetwork",
    "Unavailable",
    "evaluate",
    "export",
    "load",
    "parity",
    "predict",
    "verify",
]

_PLACES = {
    **dict.fromkeys(("evaluate", "export", "load", "parity", "predict", "verify"), "api"),
    **dict.fromkeys(("CifarExportError", "GateFailed", "InvalidInput", "Unavailable"), "errors"),
    **dict.fromkeys(("BundledNetwork", "LoadedNetwork", "ReleasedNetwork"), "release.use.loaded"),
    "Artifact": "exporting.artifact",
    "Evaluation": "accuracy.evaluation",
    "Examined": "release.check.examine",
    "ParityReport": "gate.report",
    "Predictions": "prediction.predict",
}


def __getattr__(name: str) -> Any:
    """A public name, imported from its room when it is first asked for (PEP 562)."""
    if name in _PLACES:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
