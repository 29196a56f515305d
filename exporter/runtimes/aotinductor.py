"""AOTInductor: the `.pt2` program compiled to machine code for this processor, which takes half a minute.

What is loaded is compiled here, from a file that may be trusted; a package from elsewhere would be a stranger's code.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..networks.preprocess import Images
from ..system.torch_state import full_float32, tracing
from . import Missing, Runtime, unreadable
from .pytorch import as_tensor

_COMPILERS = ("g++", "clang++", "cl")


class AotInductor(Runtime):
    """A compiled and loaded package, on the CPU."""

    name = "aotinductor"
    provider = "CPU, compiled"

    def __init__(self, path: Path) -> None:
        from torch._inductor import aoti_compile_and_package, aoti_load_package

        try:
            with path.open("rb") as stream, tracing():
                program = torch.export.load(stream)
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            raise unreadable(path, self.name, error) from error
        program.example_inputs = ((_example(program),), {})  # our exports carry none
        self._folder = tempfile.TemporaryDirectory(prefix="cifar-export-")
        try:
            with tracing(), torch.no_grad():
                package = aoti_compile_and_package(program, package_path=str(Path(self._folder.name) / "model.pt2"))
                self._run = aoti_load_package(package)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the compiled package."""
        self._folder.cleanup()

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`."""
        with torch.inference_mode(), full_float32():
            result: NDArray[np.float32] = self._run(as_tensor(images)).numpy()
        return result


def _example(program: torch.export.ExportedProgram) -> torch.Tensor:
    """Two blank images of the shape and type that `program` takes."""
    name = program.graph_signature.user_inputs[0]
    value = next(node.meta["val"] for node in program.graph.nodes if node.name == name)
    return torch.zeros((2, *(int(size) for size in value.shape[1:])), dtype=value.dtype)


def open_cpu(path: Path) -> AotInductor:
    """Compile the program in the file at `path`."""
    return AotInductor(path)


def missing_cpu() -> Missing | None:
    """What is missing to compile something here."""
    chosen = os.environ.get("CXX")
    if any(shutil.which(name) for name in ([chosen] if chosen else _COMPILERS)):
        return None
    return Missing("it needs a C++ compiler", "Install g++ (Debian: apt install g++), or name one in CXX.")
