"""torch.export's `.pt2` from a file. Loading one may unpickle: the caller has made sure that it may be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..networks.preprocess import Images
from ..system.torch_state import full_float32, tracing
from . import Runtime, unreadable
from .pytorch import as_tensor


class TorchExport(Runtime):
    """`torch.export.load(...).module()` on the CPU."""

    name = "torch-export"
    provider = "CPU"

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as stream, tracing():
                self._module = torch.export.load(stream).module()
        except Exception as error:
            raise unreadable(path, self.name, error) from error

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`."""
        with torch.inference_mode(), full_float32():
            result: NDArray[np.float32] = self._module(as_tensor(images)).numpy()
        return result


def open_cpu(path: Path) -> TorchExport:
    """Load the file at `path`."""
    return TorchExport(path)
