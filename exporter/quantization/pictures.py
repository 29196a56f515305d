"""The training pictures that come with cifar-export, to calibrate int8 networks on."""

from __future__ import annotations

import hashlib
import json
from importlib import resources

import numpy as np

from ..errors import Unavailable
from ..networks.preprocess import Pixels
from ..networks.zoo import IMAGE_SIZE

COUNT = 512
NAMES = {"cifar10": "cifar10-train-512", "cifar100": "cifar100-train-512"}


def calibration_pictures(dataset: str) -> Pixels | None:
    """512 training pictures of that data set, uint8 (512, 32, 32, 3); None for one that is not CIFAR's.

    Raises `Unavailable` for a damaged installation.
    """
    if dataset not in NAMES:
        return None
    from PIL import Image

    folder, name, side = resources.files(__package__), NAMES[dataset], IMAGE_SIZE
    try:
        with (folder / f"{name}.webp").open("rb") as stream:
            sprite = np.asarray(Image.open(stream).convert("RGB"))
        tiles = sprite.reshape(sprite.shape[0] // side, side, sprite.shape[1] // side, side, 3).transpose(0, 2, 1, 3, 4)
        images = np.ascontiguousarray(tiles.reshape(-1, side, side, 3))
        note = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        intact = hashlib.sha256(images.tobytes()).hexdigest() == note["pixels_sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise Unavailable(f"the pictures of {dataset} are damaged ({error}). Install cifar-export again.") from error
    if not intact:
        raise Unavailable(f"the pictures of {dataset} are not those of the release. Install cifar-export again.")
    return images
