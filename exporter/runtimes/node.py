"""ONNX Runtime's JavaScript builds, native and WebAssembly, in Node.js: `examples/logits.mjs` runs the model.

They are found in a source checkout whose examples have their npm packages; a wheel brings no JavaScript.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..networks.preprocess import Images
from ..system.checkout import CHECKOUT
from . import Missing, Runtime, unreadable

_EXAMPLES = CHECKOUT / "examples"
_FOLDERS = {"onnxruntime-node": "node", "onnxruntime-web": "web"}
_LENGTH = struct.Struct("<I")


class NodeSession(Runtime):
    """A Node.js process that answers batches until it is closed."""

    def __init__(self, path: Path, package: str) -> None:
        self.name = package
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            ["node", str(_EXAMPLES / "logits.mjs"), package, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        try:
            about = json.loads(self._receive())
        except BaseException as error:
            self.close()
            if not isinstance(error, RuntimeError):
                raise
            raise unreadable(path, package, error) from error
        self.provider = f"{about['provider']}, {package} {about['version']}"

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`."""
        data = np.ascontiguousarray(images).tobytes()
        stdin = self._process.stdin
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it died: what it said is read next
                stdin.write(_LENGTH.pack(len(data)) + data)
                stdin.flush()
        return np.frombuffer(self._receive(), dtype="<f4").astype(np.float32).reshape(len(images), -1)

    def _receive(self) -> bytes:
        head = self._read(_LENGTH.size)
        return self._read(_LENGTH.unpack(head)[0])

    def _read(self, count: int) -> bytes:
        data = self._process.stdout.read(count) if self._process.stdout is not None else b""
        if len(data) == count:
            return data
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        self.close()
        raise RuntimeError(lines[-1] if lines else f"node ended with exit code {self._process.returncode}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def open_node(path: Path) -> NodeSession:
    """Load the ONNX file at `path` in onnxruntime-node, on the CPU."""
    return NodeSession(path, "onnxruntime-node")


def open_web(path: Path) -> NodeSession:
    """Load the ONNX file at `path` in onnxruntime-web: the WebAssembly that browsers run, one thread."""
    return NodeSession(path, "onnxruntime-web")


def missing_node() -> Missing | None:
    """What is missing to run onnxruntime-node here."""
    return _missing("onnxruntime-node")


def missing_web() -> Missing | None:
    """What is missing to run onnxruntime-web here."""
    return _missing("onnxruntime-web")


def _missing(package: str) -> Missing | None:
    if not (_EXAMPLES / "logits.mjs").is_file():
        return Missing("its runner, examples/logits.mjs, is in the source checkout only", "Run it from there.")
    if shutil.which("node") is None:
        return Missing("Node.js is not installed", "Install it, then `make examples-setup`.")
    if not (_EXAMPLES / _FOLDERS[package] / "node_modules" / package).is_dir():
        return Missing(f"the npm package {package} is not installed", "`make examples-setup` does it.")
    return None
