"""The arrays that a worker's process, which runs anyone's file, hands back as .npy."""

import io

import atheris
import numpy as np
from harness import fuzz, memory_folder

with atheris.instrument_imports(include=["cifar_export.gate.compare"]):
    from cifar_export.gate.compare import Bound, compare

REFERENCE = np.zeros((2, 10))
FILE = memory_folder() / "logits.npy"


def target(data: bytes) -> None:
    FILE.write_bytes(data)
    logits = np.load(FILE, allow_pickle=False)
    if isinstance(logits, np.ndarray) and logits.nbytes < 1 << 24:
        compare("images", REFERENCE, logits, Bound(1e-5, 1e-5))


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


SEEDS = (saved(np.zeros((2, 10), np.float32)), saved(np.full((2, 10), np.nan)), saved(np.zeros(3, np.complex64)))
fuzz("arrays", target, SEEDS, (OSError, ValueError, EOFError))
