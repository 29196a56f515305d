"""What a parity run ran on: the versions of everything that computes."""

from __future__ import annotations

import importlib.metadata
import platform

from ..system.version import __version__

PACKAGES = (
    "torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "opencv-python-headless",
    "opencv-python",
    "tract",
    "ai-edge-litert",
    "executorch",
)


def versions() -> dict[str, str]:
    """Version by name: this package, Python, the system, and those of `PACKAGES` that are installed."""
    found = {
        "cifar-export": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
