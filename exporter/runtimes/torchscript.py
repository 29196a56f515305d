"""TorchScript from a file. The file is code: the caller has made sure that it may be run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..networks.preprocess import Images
from ..system.torch_state import full_float32, torchscript_deprecations
from . import Runtime, unreadable
from .pytorch import as_tensor


class TorchScript(Runtime):
    """`torch.jit.load` on the CPU."""

    name = "torchscript"
    provider = "CPU"

    def __init__(self, path: Path) -> None:
        try:
            with torchscript_deprecations():
                self._module = torch.jit.load(path, map_location="cpu")
        except Exception as error:
            raise unreadable(path, self.name, error) from error

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`."""
        # the profiling executor would compile anew for the first batches of each size
        with torch.inference_mode(), full_float32(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            result: NDArray[np.float32] = self._module(as_tensor(images)).numpy()
        return result


def open_cpu(path: Path) -> TorchScript:
    """Load the file at `path`."""
    return TorchScript(path)
