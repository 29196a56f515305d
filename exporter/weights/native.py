"""Our own weight files: safetensors that say which network they are and how its input is normalized.

The bytes depend on the content only. safetensors keeps `__metadata__` in a hash map whose order changes from process
to process, so everything stands in one entry, a JSON document with sorted keys.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from ..networks.zoo import DATASETS, NetworkSpec, Normalization
from ..quantization.document import as_document
from ..quantization.grids import Grids
from ..system.files import sha256_bytes, write_atomically
from .core import Weights

METADATA_KEY = "cifar-export"
SCHEMA = 1


def to_bytes(
    network: NetworkSpec,
    state: dict[str, Tensor],
    normalization: Normalization,
    recipe: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    grids: Grids | None = None,
) -> bytes:
    """Serialize to the canonical safetensors bytes: the same for the same content, in every process."""
    own = {} if network.dataset.name in DATASETS else {"labels": list(network.dataset.labels)}
    document = {
        "schema": SCHEMA,
        "model": network.model.name,
        "dataset": network.dataset.name,
        **own,
        "normalization": normalization.as_dict(),
        "recipe": recipe,
        "metrics": metrics,
        **({"quantization": as_document(grids)} if grids else {}),
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return safetensors.torch.save({key: state[key] for key in sorted(state)}, {METADATA_KEY: text})


def save_weights(path: Path, weights: Weights) -> str:
    """Write `weights` to `path` as safetensors, whole or not at all, and return the file's sha256.

    Raises `InvalidInput` or `Unavailable` for what the file system refuses.
    """
    data = to_bytes(
        weights.network, weights.state, weights.normalization, weights.recipe, weights.metrics, weights.grids
    )
    write_atomically(path, data)
    return sha256_bytes(data)
