"""Golden vectors: inputs, and the logits that every runtime must return for them, in ONNX's test-data convention."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import from_os_error
from ..formats.onnx_choices import Precision
from ..formats.ports import OUTPUT, as_fed, input_port
from ..formats.test_data import data_set, write_files
from ..gate.forward import Inputs
from ..gate.inputs import input_sets
from ..gate.standard import simulated, standard
from ..networks.preprocess import Images, Pixels, as_variant
from ..networks.resnet import with_input
from ..networks.zoo import InputVariant
from ..runtimes.pytorch import Reference
from ..weights.core import Weights, build_network
from .artifact import Artifact

# Four test images, black, white, a checkerboard and noise: eight, so that the batch is none that anyone hard-wires.
_CHOSEN = {"real": (0, 1, 2, 3), "extremes": (0, 7, 8), "noise": (0,)}
# Tolerance in units in the last place of the largest logit. Measured on trained and seeded networks of four depths:
# PyTorch and ONNX Runtime are off by 9 at most, with weights rounded to TF32 by 3,600 and more. Unlike the gate's bound
# it is the same on every machine, as a file must be.
TOLERANCE_ULPS = 64


class Golden(NamedTuple):
    """Images, the logits expected of them, float32 (images, classes), and the largest absolute error allowed."""

    images: Images
    logits: NDArray[np.float32]
    atol: float


def golden_vectors(
    weights: Weights, variant: InputVariant, precision: Precision = "float32"
) -> tuple[Images, NDArray[np.float32]]:
    """Eight images in that input variant and their logits, float32 (8, classes): float64 on the CPU, rounded once.

    In a reduced precision they are those of its float64 simulation.
    """
    images = as_variant(_pixels(), variant, weights.normalization)
    inner = build_network(weights) if precision == "float32" else simulated(weights, precision)
    network = with_input(inner.double(), variant, weights.normalization).eval()
    return images, Reference(network).logits(images).astype(np.float32)


def _pixels() -> Pixels:
    sets = input_sets()
    return np.concatenate([sets[name][list(places)] for name, places in _CHOSEN.items()])


def tolerance(logits: NDArray[np.float32]) -> float:
    """The largest absolute error of a correct float32 runtime on golden vectors with these logits."""
    return TOLERANCE_ULPS * float(np.spacing(np.abs(logits).max()))


def tolerance_in(precision: Precision, weights: Weights, variant: InputVariant, logits: NDArray[np.float32]) -> float:
    """`tolerance` for files in that precision: in a reduced one, what the gate allows a runtime.

    Raises `InvalidInput` for int8 without grids.
    """
    if precision == "float32":
        return tolerance(logits)
    inputs = Inputs({"golden": _pixels()}, variant, weights.normalization)
    held = standard(weights, variant, precision, [], inputs, lambda what: None)
    # rounded, because the last digits are the machine's
    return float(f"{held.bounds['golden'].allowed:.4g}")


def fitting_vectors(artifact: Artifact) -> tuple[Images, NDArray[np.float32]]:
    """The golden vectors of `artifact`, in the batch size and layout that it takes."""
    images, logits = golden_vectors(artifact.weights, artifact.input, artifact.precision)
    if artifact.choices is None:
        return images, logits
    choices = artifact.choices
    logits = logits if choices.batch is None else logits[np.arange(choices.batch) % len(logits)]
    return as_fed(images, choices.batch, choices.layout, choices.io), logits.astype(choices.io)


def write_golden(artifact: Artifact, folder: Path) -> tuple[Path, ...]:
    """Write golden vectors for `artifact` to `folder`, as `golden_files` says: all of them, or none.

    Returns the paths. Raises `InvalidInput` or `Unavailable` for what the file system refuses.
    """
    try:
        data = artifact.path.read_bytes()
    except OSError as error:
        raise from_os_error(error, f"read {artifact.path}") from error
    return write_files(golden_files(artifact, folder, data))


def golden_files(artifact: Artifact, folder: Path, data: bytes) -> dict[Path, bytes]:
    """The golden vectors for `artifact`, whose file holds `data`, by path: `folder`/test_data_set_0.

    Beside those of an ONNX file go a copy of it, model.onnx, and data.json with the tolerances, so that the folder is
    a test case for ONNX's backend tests. The bytes depend on the weights and the file only.
    """
    images, logits = fitting_vectors(artifact)
    beside: dict[str, bytes] = {}
    if artifact.format == "onnx":
        limits: dict[str, Any] = {
            "atol": tolerance_in(artifact.precision, artifact.weights, artifact.input, logits),
            "rtol": 0.0,
        }
        beside = {"model.onnx": data, "data.json": (json.dumps(limits, sort_keys=True) + "\n").encode()}
    return data_set(folder, {input_port(artifact.input).name: images}, {OUTPUT: logits}, beside)
