"""A small data set that a network learns in seconds: shapes, each of a color of its own, on noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LABELS = ("blue cross", "cyan ring", "green bar", "red disc", "yellow square")
COLORS = ((40, 60, 230), (30, 200, 210), (40, 190, 60), (220, 40, 40), (230, 210, 40))


def shape(label: int, rng: np.random.Generator, side: int = 32) -> NDArray[np.uint8]:
    """One picture, uint8 (side, side, 3)."""
    y, x = np.mgrid[:side, :side] / side - rng.uniform(0.35, 0.65, (2, 1, 1))
    size = rng.uniform(0.18, 0.32)
    radius = np.hypot(x, y)
    masks = (
        (np.abs(x) < size / 4) | (np.abs(y) < size / 4),
        (radius < size) & (radius > size * 0.6),
        np.abs(y) < size / 3,
        radius < size,
        np.maximum(np.abs(x), np.abs(y)) < size,
    )
    pixels = rng.integers(60, 160, (side, side, 3))
    pixels[masks[label]] = np.array(COLORS[label]) + rng.integers(-20, 21, 3)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_shapes(folder: Path, train: int, test: int, side: int = 32) -> Path:
    """`train` and `test` pictures of each label, as PNG files by label; the same in every process."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for index, label in enumerate(LABELS):
            home = folder / split / label
            home.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(shape(index, rng, side)).save(home / f"{number:04}.png")
    return folder
