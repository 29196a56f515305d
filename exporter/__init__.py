"""Train, export, prove and package ResNets for CIFAR-10 and CIFAR-100.

`exporter.load` gets a network by its name. Importing this package imports neither torch nor onnx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporter.release.load import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load`, imported when it is first asked for (PEP 562)."""
    if name == "load":
        from exporter.release.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
