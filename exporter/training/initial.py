"""Trained weights to start from: of the network itself, of a shallower one that is grown, or of other classes.

Growing keeps the function: a block whose last batch norm has scale 0 adds nothing to its input, which a ReLU has left
without negative numbers, so the deeper network begins with the logits of the shallower one (Chen, Goodfellow, Shlens
2016, "Net2Net"; scale 0 as in Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 5.1).

Weights that tell other classes apart give their body: the last layer begins anew, and images are normalized as the body
is used to.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..networks.resnet import ResNet
from ..networks.zoo import UPSTREAM_NORMALIZATION, NetworkSpec, Normalization
from ..weights.core import Weights
from .options import NamedWeights


@torch.no_grad()
def load(network: ResNet, spec: NetworkSpec, initial: Weights) -> None:
    """Put `initial` into the freshly initialised `network` (of `spec`), in place.

    Blocks that `initial` lacks come last in each stage, keep their fresh convolutions and begin as the identity. The
    last layer stays fresh where the classes are others. Raises `InvalidInput` where `initial` is of a deeper network,
    or normalized otherwise than training normalizes.
    """
    refuse_unless_usable(initial, spec)
    fresh = ("fc.weight", "fc.bias") if has_other_classes(initial, spec) else ()
    state: dict[str, Tensor] = network.state_dict()  # shares memory with the network
    for name, tensor in state.items():
        if name in initial.state and name not in fresh:
            tensor.copy_(initial.state[name])
        elif name.endswith("bn2.weight"):
            tensor.zero_()


def has_other_classes(given: Weights | NamedWeights, network: NetworkSpec) -> bool:
    """Whether `given` tells other classes apart than `network` shall."""
    return given.network.dataset.labels != network.dataset.labels


def begun_from(network: NetworkSpec, initial: Weights | None) -> NetworkSpec:
    """`network` with the normalization that a body taken over is used to, where `initial` is of other classes."""
    if initial is None or not has_other_classes(initial, network):
        return network
    return normalized_as(network, initial.normalization)


def normalized_as(network: NetworkSpec, normalization: Normalization) -> NetworkSpec:
    """`network` on images normalized so."""
    return replace(network, dataset=replace(network.dataset, normalization=normalization))


def refuse_unless_usable(given: Weights | NamedWeights, network: NetworkSpec) -> None:
    """Raise `InvalidInput` where `network` cannot start from `given`.

    The normalization of weights that are not loaded yet is compared where it is known already.
    """
    if given.network.model.blocks_per_stage > network.model.blocks_per_stage:
        raise InvalidInput(
            f"{network.name} can't start from {given.network.name}, which is deeper: networks only grow.\n"
            f"Name a model as deep as {network.model.name} or shallower with --initial-model."
        )
    theirs, ours = given.normalization, network.dataset.normalization
    if theirs is None and given.source == "upstream":
        theirs = UPSTREAM_NORMALIZATION[given.network.dataset.name]
    if theirs not in (None, ours) and not has_other_classes(given, network):
        raise InvalidInput(
            f"the initial weights expect images normalized with mean {list(theirs.mean)} and std {list(theirs.std)},\n"
            f"but training on {network.dataset.name} uses {list(ours.mean)} and {list(ours.std)}. Take other weights."
        )
