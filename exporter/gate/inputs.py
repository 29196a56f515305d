"""The images that every parity run sees, and how they are cut into batches.

Four sets of uint8 images, the same in every run on every machine:

| set | images | what it is for |
|---|---|---|
| `noise` | 74 | uniform random pixels: every channel, every position |
| `extremes` | 32 | all black, all white, single channels, checkerboards, binary noise: the ends of the valid range |
| `structured` | 32 | gradients, stripes, discs, single bright pixels: what a wrong layout or padding shows on |
| `real` | 128 | CIFAR-10 test images (cifar10-test-128.json says which) |

Logits are compared, not scored, so the real images serve both data sets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from ..networks.preprocess import Pixels
from ..networks.zoo import IMAGE_SIZE

BATCH_SIZES = (1, 2, 7, 64)
FEW = 16  # the gate's multiple was measured with ten; parity and releases take all
_SIZE = IMAGE_SIZE


def input_sets() -> dict[str, Pixels]:
    """All four sets, uint8 (N, 32, 32, 3) RGB each. Raises `InvalidInput` where the bundled images are damaged."""
    return {"noise": _noise(), "extremes": _extremes(), "structured": _structured(), "real": bundled_images()}


def few_of_each() -> dict[str, Pixels]:
    """`FEW` images of each set, spread evenly over it: what a single export is proved on."""
    return {name: full[np.linspace(0, len(full) - 1, FEW).astype(np.intp)] for name, full in input_sets().items()}


def bundled_images() -> Pixels:
    """The 128 bundled CIFAR-10 test images, uint8 (128, 32, 32, 3)."""
    from PIL import Image

    folder = resources.files(__package__)
    with (folder / "cifar10-test-128.png").open("rb") as stream:
        sprite = np.asarray(Image.open(stream).convert("RGB"))
    rows, columns = sprite.shape[0] // _SIZE, sprite.shape[1] // _SIZE
    tiles = sprite.reshape(rows, _SIZE, columns, _SIZE, 3).transpose(0, 2, 1, 3, 4)
    images = np.ascontiguousarray(tiles.reshape(-1, _SIZE, _SIZE, 3))
    note = json.loads((folder / "cifar10-test-128.json").read_text(encoding="utf-8"))
    if hashlib.sha256(images.tobytes()).hexdigest() != note["pixels_sha256"]:
        raise InvalidInput("the bundled test images are damaged. Install cifar-export again.")
    return images


def plan(count: int, larger: Sequence[int] = ()) -> list[NDArray[np.intp]]:
    """Which images of a set of `count` make up each batch: 1, 2, 7, then 64 at a time, so that all come once.

    The dynamic batch is tested, not promised. Each of `larger` is one more batch of that size, the set repeated.
    """
    sizes = iter(BATCH_SIZES)
    cut, start = [], 0
    while start < count:
        size = next(sizes, BATCH_SIZES[-1])
        cut.append(np.arange(start, min(start + size, count)))
        start += size
    return cut + [np.arange(size) % count for size in larger]


def _noise() -> Pixels:
    count = sum(BATCH_SIZES)
    return np.random.default_rng(0).integers(0, 256, (count, _SIZE, _SIZE, 3), dtype=np.uint8)


def _extremes() -> Pixels:
    corners = [[255 * (corner >> bit & 1) for bit in range(3)] for corner in range(8)]  # black, white, pure colors
    images = [np.full((_SIZE, _SIZE, 3), corner) for corner in corners]
    y, x = np.mgrid[:_SIZE, :_SIZE]
    for period in (1, 2, 4, 8, 16):
        board = (x // period + y // period) % 2 * 255
        images += [np.repeat(board[..., None], 3, axis=2), 255 - np.repeat(board[..., None], 3, axis=2)]
    binary = np.random.default_rng(1).integers(0, 2, (32 - len(images), _SIZE, _SIZE, 3)) * 255
    return np.concatenate([np.stack(images), binary]).astype(np.uint8)


def _structured() -> Pixels:
    y, x = np.mgrid[:_SIZE, :_SIZE] / (_SIZE - 1)
    planes = [x, y, (x + y) / 2, 1 - x, 1 - y, x * y]  # gradients
    planes += [(np.sin(2 * np.pi * f * x) + 1) / 2 for f in (1, 3, 7)]  # stripes, upright and flat
    planes += [(np.sin(2 * np.pi * f * y) + 1) / 2 for f in (1, 3, 7)]
    planes += [((x - a) ** 2 + (y - b) ** 2 < r).astype(float) for a, b, r in ((0.5, 0.5, 0.1), (0.2, 0.7, 0.03))]
    images = [np.repeat(plane[..., None], 3, axis=2) for plane in planes]
    for channel, plane in enumerate((planes[0], planes[1], planes[2])):  # one gradient a channel: layout and order
        image = np.zeros((_SIZE, _SIZE, 3))
        image[..., channel] = plane
        images.append(image)
    for row, column in ((0, 0), (0, 31), (31, 0), (31, 31), (0, 16), (16, 0), (15, 15), (16, 16)):  # padding, stride
        image = np.zeros((_SIZE, _SIZE, 3))
        image[row, column] = 1.0
        images.append(image)
    rng = np.random.default_rng(2)
    while len(images) < 32:  # smooth color blobs
        coarse = rng.random((4, 4, 3))
        images.append(np.kron(coarse, np.ones((8, 8, 1))))
    return np.round(np.stack(images) * 255).astype(np.uint8)
