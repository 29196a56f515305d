"""ExecuTorch on the CPU: a `.pte` program, with the backends that it was lowered for."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..networks.preprocess import Images
from ..system.outside import MAX_MODEL_BYTES, read_regular
from . import Missing, Runtime, unreadable
from .pytorch import as_tensor
from .threads import asked_threads

_BACKEND = "XnnpackBackend"


class ExecuTorch(Runtime):
    """The method `forward` of a program, which takes batches of any size up to its largest."""

    name = "executorch"

    def __init__(self, path: Path) -> None:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime as Programs
        from executorch.runtime import Verification

        threads = asked_threads()
        if threads:
            portable_lib._unsafe_reset_threadpool(threads)  # before anything runs on it
        data = read_regular(path, MAX_MODEL_BYTES)
        try:
            # kept: the method reads the program's memory
            self._program = Programs.get().load_program(data, verification=Verification.InternalConsistency)
            self._method = self._program.load_method("forward")
            self._largest = int(self._method.metadata.input_tensor_meta(0).sizes()[0])
            if self._largest < 1:
                raise ValueError("it takes no images")
        except Exception as error:
            raise unreadable(path, self.name, error) from error
        ran = "XNNPACK" if _BACKEND.encode() in data else "its own kernels"
        self.provider = f"CPU, ExecuTorch {importlib.metadata.version('executorch')}, {ran}"

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`."""
        parts = [images[start : start + self._largest] for start in range(0, len(images), self._largest)]
        # copies: the next run may reuse its memory
        return np.concatenate([np.array(self._method.execute([as_tensor(part)])[0]) for part in parts])


def open_cpu(path: Path) -> ExecuTorch:
    """Load the program at `path`."""
    return ExecuTorch(path)


def missing_cpu() -> Missing | None:
    """What is missing to run ExecuTorch here."""
    if importlib.util.find_spec("executorch") is None:
        return Missing("executorch is not installed", "`pip install 'cifar-export[executorch]'`.")
    return None
