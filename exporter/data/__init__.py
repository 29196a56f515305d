"""CIFAR-10 and CIFAR-100 on disk: read them (`reader`), get them (`fetch`), and say what stands there (`check`)."""

from .reader import load_split
from .split import Split

__all__ = ["Split", "load_split"]
