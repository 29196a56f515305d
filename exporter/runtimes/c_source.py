"""C source, compiled here and called in this process, image by image. It is code: the caller has made sure of it."""

from __future__ import annotations

import _ctypes
import ctypes
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..networks.preprocess import Images
from ..system.outside import MAX_MODEL_BYTES, read_regular
from . import Missing, Runtime, unreadable

_COMPILERS = ("cc", "gcc", "clang")
# no fused multiply-add: it is as good, but the result would depend on the processor
_FLAGS = ("-std=c99", "-O2", "-ffp-contract=off", "-w", "-shared", "-fPIC")
_FUNCTION = re.compile(rb"^void model\([^\n]*\[(\d{1,6})\]\) \{$", re.MULTILINE)
_PATIENCE_S = 300.0  # the largest network takes 20


class CompiledC(Runtime):
    """The function `model` of a compiled file."""

    name = "c"

    def __init__(self, path: Path) -> None:
        found = _FUNCTION.search(read_regular(path, MAX_MODEL_BYTES))
        if found is None:
            raise unreadable(path, self.name, ValueError("it has no function `void model(image, logits)`"))
        self._classes = int(found[1])
        compiler = _compiler()
        self.provider = f"CPU, {Path(compiler[0]).name}"
        self._library: ctypes.CDLL | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="cifar-export-")
        built = Path(self._folder.name) / "model.so"
        try:
            command = [*compiler, *_FLAGS, "-o", str(built), str(path.absolute()), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S)
            if done.returncode:
                raise ValueError(
                    _cause(done.stderr) or f"`{compiler[0]}` compiles nothing here (exit code {done.returncode})"
                )
            self._library = ctypes.CDLL(str(built))
            self._model = self._library.model
        except BaseException as error:
            self.close()
            if isinstance(error, (ValueError, OSError, AttributeError, subprocess.TimeoutExpired)):
                raise unreadable(path, self.name, error) from error
            raise
        self._model.restype = None

    def close(self) -> None:
        """Unload the compiled function, and remove it."""
        if self._library is not None:
            _ctypes.dlclose(self._library._handle)
            self._library = None
        self._folder.cleanup()

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`."""
        # the function returns without a word where memory is short
        result = np.full((len(images), self._classes), np.nan, np.float32)
        for image, row in zip(np.ascontiguousarray(images), result, strict=True):
            self._model(ctypes.c_void_p(image.ctypes.data), ctypes.c_void_p(row.ctypes.data))
        return result


def _cause(said: str) -> str:
    """The first error of what a compiler said, without the name of the file."""
    found = re.search(r"error: .*", said)
    return found[0].strip() if found else said.partition("\n")[0]


def _compiler() -> list[str]:
    """The command that compiles: $CC, or the first of the usual names that is installed; empty where none is."""
    chosen = shlex.split(os.environ.get("CC", ""))
    return chosen or [name for name in _COMPILERS if shutil.which(name)][:1]


def open_cpu(path: Path) -> CompiledC:
    """Compile the C file at `path`."""
    return CompiledC(path)


def missing_cpu() -> Missing | None:
    """What is missing to compile something here."""
    compiler = _compiler()
    if compiler and shutil.which(compiler[0]):
        return None
    return Missing("it needs a C compiler", "Install gcc (Debian: apt install gcc), or name one in CC.")
