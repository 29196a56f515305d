"""Runtimes that end badly, for the tests of isolation: opened by name, in the process that runtimes run in."""

import os
import signal
import threading
from pathlib import Path

import numpy as np

from cifar_export.runtimes import Runtime


class Zeros(Runtime):
    """All logits are zero."""

    name = provider = "zeros"

    def __init__(self, path: Path) -> None:
        assert path.is_file()

    def logits(self, images):
        return np.zeros((len(images), 10), np.float32)


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


class Misplaced(Zeros):
    def misplaced(self):
        return ("layer2.0.conv1 (Conv)", "fc (Gemm)")
