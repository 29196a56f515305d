"""The arrays that a worker's process, which runs anyone's file, hands back as .npy."""

import io

import atheris
import numpy as np
from harness import fuzz, memory_folder

from cifar_export.errors import CifarExportError

with atheris.instrument_imports(include=["cifar_export.gate.compare"]):
    from cifar_export.gate.compare import Bound, compare
    from cifar_export.system.arrays import read_array

REFERENCE = np.zeros((2, 10))
FILE = memory_folder() / "logits.npy"


def target(data: bytes) -> None:
    FILE.write_bytes(data)
    logits = read_array(FILE)
    if logits.nbytes < 1 << 24:
        compare("images", REFERENCE, logits, Bound(1e-5, 1e-5, True))


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


SEEDS = (saved(np.zeros((2, 10), np.float32)), saved(np.full((2, 10), np.nan)), saved(np.zeros(3, np.complex64)))
fuzz("arrays", target, SEEDS, (CifarExportError,))
