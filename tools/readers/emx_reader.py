"""emx-onnx-cgen: the graph as C, as for a microcontroller, compiled by this machine's compiler and run."""

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import Run, main

CLASSES = 10


def open_model(path: str) -> Run:
    """The function `net` of the library that the C file becomes."""
    folder = Path(tempfile.mkdtemp())
    tool = Path(sys.executable).with_name("emx-onnx-cgen")
    subprocess.run([tool, "compile", "--model-name", "net", Path(path).resolve(), "net.c"], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "net.c", "-o", "net.so", "-lm"], cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "net.so"))
    weights = folder / "net.bin"
    library.net_load.restype = ctypes.c_bool
    if weights.is_file() and not library.net_load(str(weights).encode()):
        raise SystemExit("the C file does not find its weights")
    numbers = np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")
    library.net.argtypes = [numbers, numbers]

    def run(images: Any) -> Any:
        logits = np.zeros((1, CLASSES), np.float32)
        library.net(np.ascontiguousarray(images), logits)
        return logits

    return run


main(open_model)
