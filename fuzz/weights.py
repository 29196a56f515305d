"""Files of weights: safetensors with our metadata, and PyTorch's checkpoints, down to a network that could run."""

import io

import atheris
import torch
from harness import fuzz, memory_folder

with atheris.instrument_imports(include=["cifar_export.weights"]):
    from cifar_export.weights.sources import load_weights

from cifar_export.errors import CifarExportError
from cifar_export.networks.zoo import CIFAR10, Accuracy, ModelSpec, NetworkSpec, Normalization
from cifar_export.weights.native import to_bytes
from cifar_export.weights.seeded import random_weights

SPEC = NetworkSpec(ModelSpec("resnet8", 1), CIFAR10, Accuracy(0.0, 0.0), "")
NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
FILE = memory_folder() / "weights.pt"


def target(data: bytes) -> None:
    FILE.write_bytes(data)
    load_weights(SPEC, str(FILE), NORMALIZATION)


def saved(content: object, **options: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


weights = random_weights(SPEC, 0)
small = {"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}
SEEDS = (
    to_bytes(SPEC, weights.state, weights.normalization),
    to_bytes(SPEC, small, weights.normalization),
    saved(small),
    saved({"state_dict": small, "epoch": 3, "best_acc": torch.tensor(1.0)}),
    saved(small, _use_new_zipfile_serialization=False),
)
fuzz("weights", target, SEEDS, (CifarExportError,))
