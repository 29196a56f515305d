"""Trained weights to start from: of the network itself, or of a shallower one that is grown.

Growing keeps the function: a block whose last batch norm has scale 0 adds nothing to its input, which a ReLU has left
without negative numbers, so the deeper network begins with the logits of the shallower one (Chen, Goodfellow, Shlens
2016, "Net2Net"; scale 0 as in Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 5.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..networks.resnet import ResNet
from ..networks.zoo import UPSTREAM_NORMALIZATION, NetworkSpec
from ..weights.core import Weights
from .options import NamedWeights


@torch.no_grad()
def load(network: ResNet, spec: NetworkSpec, initial: Weights) -> None:
    """Put `initial` into the freshly initialised `network` (of `spec`), in place.

    Blocks that `initial` lacks come last in each stage, keep their fresh convolutions and begin as the identity.
    Raises `InvalidInput` where `initial` is of another data set, of a deeper network, or normalized otherwise than
    training normalizes.
    """
    refuse_unless_usable(initial, spec)
    state: dict[str, Tensor] = network.state_dict()  # shares memory with the network
    for name, tensor in state.items():
        if name in initial.state:
            tensor.copy_(initial.state[name])
        elif name.endswith("bn2.weight"):
            tensor.zero_()


def refuse_unless_usable(given: Weights | NamedWeights, network: NetworkSpec) -> None:
    """Raise `InvalidInput` where `network` cannot start from `given`.

    The normalization of weights that are not loaded yet is compared where it is known already.
    """
    if given.network.dataset.name != network.dataset.name:
        raise InvalidInput(
            f"{network.name} can't start from weights of {given.network.name}: they tell other classes apart."
        )
    if given.network.model.blocks_per_stage > network.model.blocks_per_stage:
        raise InvalidInput(
            f"{network.name} can't start from {given.network.name}, which is deeper: networks only grow.\n"
            f"Name a model as deep as {network.model.name} or shallower with --initial-model."
        )
    theirs, ours = given.normalization, network.dataset.normalization
    if theirs is None and given.source == "upstream":
        theirs = UPSTREAM_NORMALIZATION[given.network.dataset.name]
    if theirs not in (None, ours):
        raise InvalidInput(
            f"the initial weights expect images normalized with mean {list(theirs.mean)} and std {list(theirs.std)},\n"
            f"but training on {network.dataset.name} uses {list(ours.mean)} and {list(ours.std)}. Take other weights."
        )
