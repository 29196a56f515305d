"""Runtimes that end badly or answer wrongly, for the tests of isolation: opened in the process that runtimes run in."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from cifar_export.runtimes import RUNTIMES, Runtime, RuntimeSpec
from cifar_export.runtimes.onnxruntime import CPU, Session
from cifar_export.runtimes.onnxruntime_cuda import BoundSession
from cifar_export.runtimes.threads import asked_threads

from support.paths import ROOT


def put_into_table(monkeypatch: pytest.MonkeyPatch, name: str, stand_in: str, **more: object) -> RuntimeSpec:
    """Let the class `stand_in` of this file be the runtime `name`, one of ours or a new one that reads ONNX files."""
    tests = str(ROOT / "tests")
    path = os.environ.get("PYTHONPATH", "")
    if tests not in path.split(os.pathsep):
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([tests, path]))
    spec = RUNTIMES.get(name) or RuntimeSpec(name, name, "onnx", "")
    spec = dataclasses.replace(spec, open=f"support.bad_runtimes:{stand_in}", **more)
    monkeypatch.setitem(RUNTIMES, name, spec)
    return spec


class Zeros(Runtime):
    """All logits are zero."""

    name = provider = "zeros"

    def __init__(self, path: Path) -> None:
        assert path.is_file()

    def logits(self, images):
        return np.zeros((len(images), 10), np.float32)


class Threads(Zeros):
    """Its provider says how many threads it was told to take."""

    def __init__(self, path: Path) -> None:
        self.provider = f"{asked_threads()} threads"


class Segfault(Zeros):
    def logits(self, images):
        os.kill(os.getpid(), signal.SIGSEGV)


class Exit(Zeros):
    def logits(self, images):
        os.write(2, b"a line\nthe library gave up\n")
        os._exit(3)


class Hang(Zeros):
    def logits(self, images):
        threading.Event().wait()


class Raise(Zeros):
    def logits(self, images):
        raise RuntimeError("out of cheese\nand more")


class Process(Zeros):
    """Says where it runs."""

    def logits(self, images):
        raise RuntimeError(f"this is process {os.getpid()}")


class Chatter(Zeros):
    def logits(self, images):
        print("{}")  # what a library prints to stdout is not an answer
        os.write(1, b"\n.\n")
        return super().logits(images)


class Objects(Zeros):
    def logits(self, images):
        return np.full((len(images), 10), None, dtype=object)


class NotNumbers(Zeros):
    def logits(self, images):
        return np.full((len(images), 100), np.nan, np.float32)


class Narrow(Zeros):
    def logits(self, images):
        return np.zeros((len(images), 5), np.float32)


class Misplaced(Zeros):
    def misplaced(self):
        return ("layer2.0.conv1 (Conv)", "fc (Gemm)")


class Closes(Zeros):
    """Leaves a note beside the file that it ran, when it is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.note = path.with_name("closed")

    def close(self):
        self.note.touch()


class Lies(Session):
    """ONNX Runtime, except that on the images numbered in LIES_ON it names the second best class."""

    on = tuple(map(int, os.environ.get("LIES_ON", "7 33").split()))

    def __init__(self, path: Path) -> None:
        super().__init__(path, "onnxruntime-cpu", CPU, {})
        self.at = 0

    def logits(self, images):
        logits, start = super().logits(images).copy(), self.at
        self.at += len(images)
        for image in self.on:
            if start <= image < self.at:
                row = logits[image - start]
                second, best = np.argsort(row)[-2:]
                row[[second, best]] = row[[best, second]]
        return logits


class FavorsClass5(Session):
    """ONNX Runtime, except that class 5 gets a hundred thousandth more."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "onnxruntime-cpu", CPU, {})

    def logits(self, images):
        return super().logits(images) + np.float32(1e-5) * (np.arange(10) == 5).astype(np.float32)


class Later(Session):
    """ONNX Runtime, except that it ends badly at the sixth batch of a size in a row: when it is timed, not before."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "tract", CPU, {})
        self.sizes = []

    def logits(self, images):
        self.sizes.append(len(images))
        if len(self.sizes) > 5 and len(set(self.sizes[-6:])) == 1:
            self.end()
        return super().logits(images)


class DiesLater(Later):
    def end(self):
        os.kill(os.getpid(), signal.SIGSEGV)


class HangsLater(Later):
    def end(self):
        threading.Event().wait()


class SaysThreads(Session):
    """ONNX Runtime, whose provider is how many threads it has."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "onnxruntime-cpu", CPU, {})
        self.provider = f"{self.inference.get_session_options().intra_op_num_threads} threads"


class BoundOnCpu(BoundSession):
    """The bound session of CUDA, on the CPU provider."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "bound", CPU, {})
