"""CIFAR-10 and CIFAR-100 on disk: read them (`reader`), get them (`fetch`), and say what stands there (`check`)."""

from .reader import Split, load_split

__all__ = ["Split", "load_split"]
