"""Weights that nobody trained: seeded numbers with which a network computes something tame but not trivial."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..networks.zoo import NetworkSpec
from ..system.files import sha256_bytes
from .core import Weights, expected_state
from .native import to_bytes

# Up to this many blocks in a stage each may add a tenth to the sum; more of them must share.
_BLOCKS = 18


def _draw(key: str, shape: tuple[int, ...], generator: np.random.Generator, share: float) -> Tensor:
    """One tensor. Convolutions keep the variance of what they read; a branch adds about a tenth of it to its sum.

    `share`: what is left of that tenth in a deep network.
    """
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if len(shape) > 1:
        values = generator.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
        if key.startswith("fc."):  # pooled features are positive and vary little: drop what they share, spread the rest
            values = 8.0 * (values - values.mean(axis=1, keepdims=True))
    elif key.endswith("running_var"):
        values = generator.uniform(0.5, 1.5, shape)
    elif key.endswith(".weight"):  # a batch norm's scale; small where a residual branch ends
        low, high = (0.1, 0.5) if key.endswith("bn2.weight") else (0.7, 1.3)
        values = generator.uniform(low, high, shape) * (share if key.endswith("bn2.weight") else 1.0)
    else:  # running means and biases
        values = generator.standard_normal(shape) * 0.1
    return torch.from_numpy(values.astype(np.float32))


def random_weights(network: NetworkSpec, seed: int) -> Weights:
    """Seeded weights with batch-norm statistics and affine parameters that are neither zero nor one.

    For tests, and for the parity of networks that nobody trained: activations of normalized images stay within a few
    tens at every depth. The same seed gives the same bytes on every machine (numpy draws, not torch). The
    normalization is that of the data set's usual recipe.
    """
    generator = np.random.default_rng(seed)
    share = min(1.0, math.sqrt(_BLOCKS / network.model.blocks_per_stage))
    state = {key: _draw(key, tuple(empty.shape), generator, share) for key, empty in expected_state(network).items()}
    normalization = network.dataset.normalization
    recipe = {"name": "random", "seed": seed}
    data = to_bytes(network, state, normalization, recipe)
    return Weights(network, state, normalization, "random", sha256_bytes(data), recipe)
