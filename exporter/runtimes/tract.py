"""tract, an engine in Rust, on one thread of the CPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..networks.preprocess import Images
from . import Missing, Runtime, unreadable


class Tract(Runtime):
    """A network that tract has read and optimized."""

    name = "tract"

    def __init__(self, path: Path) -> None:
        import tract

        try:
            self._network = tract.onnx().load(str(path)).into_model().into_runnable()
        except tract.TractError as error:
            raise unreadable(path, self.name, error) from error
        self.provider = f"CPU, tract {tract.version()}"

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`."""
        result: NDArray[np.float32] = self._network.run([np.ascontiguousarray(images)])[0].to_numpy()
        return result


def open_cpu(path: Path) -> Tract:
    """Load the ONNX file at `path`."""
    return Tract(path)


def missing_cpu() -> Missing | None:
    """What is missing to run tract here."""
    if importlib.util.find_spec("tract") is None:
        return Missing("tract is not installed", "`pip install 'cifar-export[tract]'`.")
    return None
