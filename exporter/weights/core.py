"""What the rooms pass around: a network's trained numbers, with where they come from and how to feed them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from exporter.resnet import ResNet, build
from exporter.zoo import NetworkSpec, Normalization


@dataclass(frozen=True)
class Weights:
    """The numbers of one network and their provenance.

    `state` has exactly the keys and shapes of `ResNet.state_dict()`: contiguous CPU tensors that share no memory,
    float32 and finite (`num_batches_tracked`: int64). `normalization` is what the network was trained with.
    `source` is "bundled", "upstream", "file", "random" or "trained". `sha256` is that of the file they came from;
    for those that came from no file, of the bytes that `save_weights` would write. `recipe` and `metrics`
    ({"top1": percent, "top5": percent, ...}) are known for our own weights. `changes` says, in words for people,
    what was rewritten to fit a foreign checkpoint to this architecture.
    """

    network: NetworkSpec
    state: dict[str, Tensor]
    normalization: Normalization
    source: str
    sha256: str
    recipe: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    changes: tuple[str, ...] = ()


def empty_network(spec: NetworkSpec) -> ResNet:
    """Make the network with shapes but no numbers (meta device): instant, and no random generator is touched."""
    with torch.device("meta"):
        return build(spec)


def expected_state(spec: NetworkSpec) -> dict[str, Tensor]:
    """Names, shapes and dtypes of the network's state dict, as tensors on the meta device."""
    return dict(empty_network(spec).state_dict())


def build_network(weights: Weights) -> ResNet:
    """Make the network with copies of `weights`: in eval mode, asking for no gradients, on the CPU in float32."""
    network = empty_network(weights.network)
    network.load_state_dict({key: tensor.clone() for key, tensor in weights.state.items()}, strict=True, assign=True)
    return network.eval().requires_grad_(False)
