"""What the scripts beside this one share: images in, one by one, logits and versions out.

    python READER.py MODEL.onnx IMAGES.npy LOGITS.npy PACKAGE...

Runs in a virtual environment of the reader's own, so it needs nothing but NumPy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

Run = Callable[[Any], Any]


def main(open_model: Callable[[str], Run]) -> None:
    """Open the model by `open_model`, run every image alone, write the logits, print the packages' versions."""
    model, images, logits, *packages = sys.argv[1:]
    run = open_model(model)
    batches = np.load(images)[:, np.newaxis]
    np.save(logits, np.concatenate([np.asarray(run(batch), np.float32).reshape(1, -1) for batch in batches]))
    sys.stdout.write(json.dumps({package: version(package) for package in packages}) + "\n")
