"""Make the pictures that int8 networks are calibrated on: exporter/quantization/cifar10-train-512.webp and its twin.

    python tools/make_calibration.py [--data-dir data]

512 of the 50,000 training images of each data set, spread evenly over it, as one lossless WebP of 16 rows of 32.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cifar_export.data import load_split  # noqa: E402  # of this checkout
from cifar_export.networks.zoo import DATASETS  # noqa: E402
from cifar_export.quantization.pictures import COUNT, NAMES  # noqa: E402

COLUMNS = 32
TARGET = ROOT / "exporter" / "quantization"


def main(data_dir: Path) -> None:
    """Write picture and note of both data sets."""
    for dataset, name in NAMES.items():
        split = load_split(data_dir, DATASETS[dataset], "train")
        chosen = np.linspace(0, len(split.images) - 1, COUNT).astype(np.intp)
        images = np.ascontiguousarray(split.images[chosen])
        rows = images.reshape(-1, COLUMNS, 32, 32, 3).transpose(0, 2, 1, 3, 4)
        sprite = Image.fromarray(rows.reshape(-1, COLUMNS * 32, 3))
        sprite.save(TARGET / f"{name}.webp", lossless=True, quality=100, method=6, exact=True)
        note = {
            "content": f"{COUNT} of the 50,000 {DATASETS[dataset].title} training images (Alex Krizhevsky, 2009)",
            "choice": f"numpy.linspace(0, 49999, {COUNT}), rounded down",
            "pixels_sha256": hashlib.sha256(images.tobytes()).hexdigest(),
        }
        (TARGET / f"{name}.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("CIFAR_DATA") or "data"))
    main(parser.parse_args().data_dir)
