"""What the rooms pass around: a network's trained numbers, with where they come from and how to feed them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ..networks.resnet import ResNet, build
from ..networks.zoo import NetworkSpec, Normalization
from ..quantization.grids import Grids
from ..system.torch_state import plain, untouched_random_generator


@dataclass(frozen=True)
class Weights:
    """The numbers of one network and their provenance.

    `state` has exactly the keys and shapes of `ResNet.state_dict()`: contiguous CPU tensors that share no memory,
    float32 and finite (`num_batches_tracked`: int64). `normalization` is what the network was trained with.
    `source` is "bundled", "upstream", "file", "random" or "trained". `sha256` is that of the file they came from;
    for those that came from no file, of the bytes that `save_weights` would write. `recipe` and `metrics`
    ({"top1": percent, "top5": percent, ...}) are known for our own weights. `changes` says, in words for people,
    what was taken of a foreign checkpoint and rewritten to fit this architecture; `key` is what was taken where the
    file held more, `renamed` our names by theirs where layers were matched by order and shape. `grids` are what int8
    files of them are made with, where those are known.
    """

    network: NetworkSpec
    state: dict[str, Tensor]
    normalization: Normalization
    source: str
    sha256: str
    recipe: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    changes: tuple[str, ...] = ()
    key: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    grids: Grids | None = None


def fresh_network(spec: NetworkSpec) -> ResNet:
    """Make the network on the CPU in float32 without touching torch's global random generator."""
    # not on the meta device: initialising there imports 900 modules, 1.3 s
    with plain(), untouched_random_generator():
        return build(spec).float()


@functools.cache
def expected_state(spec: NetworkSpec) -> Mapping[str, Tensor]:
    """Names, shapes and dtypes of the network's state dict, as tensors on the meta device."""
    state = fresh_network(spec).state_dict()
    return MappingProxyType({key: tensor.to("meta") for key, tensor in state.items()})


def build_network(weights: Weights) -> ResNet:
    """Make the network with copies of `weights`: in eval mode, asking for no gradients, on the CPU in float32."""
    with plain():
        network = fresh_network(weights.network)
        network.load_state_dict(weights.state, strict=True)
        return network.eval().requires_grad_(False)
