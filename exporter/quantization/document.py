"""Grids as a JSON document: in the files of quantized weights, and beside the code for the bundled networks."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable
from importlib import resources
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput, Unavailable
from .grids import LEVELS, SCHEMES, WEIGHT_BITS, Grid, Grids

FOLDER = "grids"
"""In this package: `<network>.json`, for the bundled weights."""
Read = TypeVar("Read")
_MOST_WEIGHTS = 2**20  # of a layer; the largest of the ResNets of CIFAR has 36,864


def as_document(grids: Grids) -> dict[str, Any]:
    """The document. Law: `from_document(as_document(grids))` equals `grids`."""
    return {
        **grids.described(),
        "values": {name: [grid.scale, grid.zero] for name, grid in grids.values.items()},
        "layers": {
            name: {
                "scales": grids.scales[name].tolist(),
                "biases": grids.biases[name].tolist(),
                **({"moved": _packed(grids.moved[name])} if grids.moved else {}),
            }
            for name in grids.scales
        },
        "sha256": grids.digest(),
    }


def from_document(document: Any) -> Grids:
    """The grids. Raises `InvalidInput` for anything that `as_document` did not write."""
    try:
        bits, scheme, calibration = (document[key] for key in ("weight_bits", "scheme", "calibration"))
        if bits not in WEIGHT_BITS or scheme not in SCHEMES or not isinstance(calibration, str):
            raise ValueError("unknown weight_bits, scheme or calibration")
        values = {str(name): _grid(*pair) for name, pair in document["values"].items()}
        layers = document["layers"]
        scales = {
            name: np.array([_scale(one) for one in layer["scales"]], np.float32) for name, layer in layers.items()
        }
        biases = {name: np.array(layer["biases"], np.int32) for name, layer in layers.items()}
        moved = {name: _unpacked(layer["moved"]) for name, layer in layers.items() if "moved" in layer}
        grids = Grids(values, scales, biases, bits, scheme, calibration, moved, document.get("finetuning"))
        if grids.digest() != document["sha256"]:
            raise ValueError("its sha256 is another")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, zlib.error) as error:
        raise InvalidInput(f"the grids are damaged ({error}). Quantize the network again.") from error
    return grids


def bundled_grids(network: str, weights_sha256: str) -> Grids | None:
    """The grids that come with cifar-export for those weights; None where there are none.

    Raises `Unavailable` for a damaged installation.
    """
    return _bundled(network, weights_sha256, from_document)


def recorded_accuracy(network: str, weights_sha256: str, precision: str) -> dict[str, dict[str, float]]:
    """What files of those bundled weights in that reduced precision were measured to have, by runtime.

    Each has `top1` and `top5` in percent of the data set's test images. Empty where nothing was recorded. Raises
    `Unavailable` for a damaged installation.
    """

    def read(document: Any) -> dict[str, dict[str, float]]:
        found = document.get("accuracy", {}).get(precision, {})
        return {str(runtime): {key: float(one[key]) for key in ("top1", "top5")} for runtime, one in found.items()}

    return _bundled(network, weights_sha256, read) or {}


def _bundled(network: str, weights_sha256: str, read: Callable[[Any], Read]) -> Read | None:
    """What `read` takes from the document of those weights; None where there is none."""
    path = resources.files(__package__) / FOLDER / f"{network}.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        document = json.loads(text)
        return read(document) if document["weights_sha256"] == weights_sha256 else None
    except (InvalidInput, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable(f"{path} is damaged: {error}. Install cifar-export again.") from error


def _packed(moved: NDArray[np.int8]) -> str:
    """Steps as text: nearly all are 0, so that they take a tenth of their size."""
    return base64.b64encode(zlib.compress(moved.tobytes(), 9)).decode()


def _unpacked(text: str) -> NDArray[np.int8]:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(base64.b64decode(text, validate=True), _MOST_WEIGHTS)
    if not unpacking.eof:
        raise ValueError("the moved steps of a layer do not end")
    return np.frombuffer(data, np.int8)


def _scale(number: object) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number) or number <= 0:
        raise ValueError(f"a scale is {number!r:.40}")
    return cast(float, number)


def _grid(scale: object, zero: object) -> Grid:
    if isinstance(zero, bool) or not isinstance(zero, int) or not 0 <= zero <= LEVELS:
        raise ValueError(f"a zero point is {zero!r:.40}")
    return Grid(float(_scale(scale)), zero)
