"""A seeded network that stands where the bundled ones do, and its folder of a release: real, with few images.

As a program it builds that folder in a process of its own: `seeded_network.py INDEX OUTPUT THREADS`.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from cifar_export.accuracy.evaluation import evaluate
from cifar_export.data import Split
from cifar_export.gate.inputs import bundled_images, input_sets
from cifar_export.networks.zoo import NETWORKS
from cifar_export.release.build.network import build_network
from cifar_export.runtimes import open_runtime
from cifar_export.training.recipe import PRESETS
from cifar_export.weights.core import build_network as build_module
from cifar_export.weights.index import BundledEntry, add_to_index
from cifar_export.weights.native import save_weights
from cifar_export.weights.seeded import random_weights

SPEC = NETWORKS["cifar100_resnet20"]
VERSION = "1.2rc1"
OPSET = 17  # not the default
_FEW = 4


def test_images() -> Split:
    """128 images with seeded labels."""
    images = bundled_images()
    return Split(images, np.random.default_rng(5).integers(0, SPEC.dataset.classes, len(images)))


def bundle(folder: Path) -> BundledEntry:
    """Put seeded weights and their accuracy on `test_images`, measured in PyTorch, into an index in `folder`."""
    weights = random_weights(SPEC, 5)
    file = f"{SPEC.name}-seeded.safetensors"
    sha256 = save_weights(folder / file, weights)
    score = evaluate(open_runtime("pytorch", build_module(weights)), test_images(), weights.normalization)
    entry = BundledEntry(
        network=SPEC.name,
        model=SPEC.model.name,
        dataset=SPEC.dataset.name,
        file=file,
        sha256=sha256,
        normalization=weights.normalization,
        recipe=PRESETS["quick"].as_dict(),
        seed=5,
        metrics={"images": score.images, "top1": score.top1, "top5": score.top5},
        below_reference=True,
        provenance={"hardware": "none", "log": "never.jsonl"},
    )
    add_to_index(folder, entry)
    return entry


@contextlib.contextmanager
def bundled_in(folder: Path) -> Iterator[None]:
    """What is bundled is what stands in `folder`; parity takes four images of each set."""
    few = {name: pixels[:_FEW] for name, pixels in input_sets().items()}
    with contextlib.ExitStack() as stack:
        for module in ("weights.index", "weights.sources", "release.build.network"):
            stack.enter_context(mock.patch(f"cifar_export.{module}.bundled_folder", return_value=folder))
        for module in ("build.gate", "documents.config"):
            stack.enter_context(mock.patch(f"cifar_export.release.{module}.input_sets", return_value=few))
        yield


def build(index: Path, folder: Path, **options: Any) -> dict[str, Any]:
    """Build the network's folder with what is bundled in `index`; the measurements."""
    folder.mkdir(parents=True)
    with bundled_in(index):
        return build_network(SPEC, VERSION, folder, test_images(), **{"opset": OPSET, **options})


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    json.dump(build(Path(sys.argv[1]), Path(sys.argv[2])), sys.stdout)
