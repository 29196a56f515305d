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
from ..networks.zoo import NetworkSpec, Normalization
from ..weights.core import Weights


@torch.no_grad()
def load(network: ResNet, spec: NetworkSpec, initial: Weights) -> None:
    """Put `initial` into the freshly initialised `network` (of `spec`), in place.

    Blocks that `initial` lacks come last in each stage, keep their fresh convolutions and begin as the identity.
    Raises `InvalidInput` where `initial` is of another data set, of a deeper network, or normalized otherwise than
    training normalizes.
    """
    _refuse_unless_usable(initial, spec)
    state: dict[str, Tensor] = network.state_dict()  # shares memory with the network
    for name, tensor in state.items():
        if name in initial.state:
            tensor.copy_(initial.state[name])
        elif name.endswith("bn2.weight"):
            tensor.zero_()


def _refuse_unless_usable(initial: Weights, network: NetworkSpec) -> None:
    given, here = initial.network, network
    if given.dataset.name != here.dataset.name:
        raise InvalidInput(f"{here.name} can't start from weights of {given.name}: they tell other classes apart.")
    refuse_deeper(given, here)
    refuse_other_normalization(initial.normalization, here)


def refuse_deeper(given: NetworkSpec, network: NetworkSpec) -> None:
    """Raise `InvalidInput` where initial weights are of a deeper network than `network`."""
    if given.model.blocks_per_stage > network.model.blocks_per_stage:
        raise InvalidInput(
            f"{network.name} can't start from {given.name}, which is deeper: networks only grow.\n"
            f"Name a model as deep as {network.model.name} or shallower with --initial-model."
        )


def refuse_other_normalization(given: Normalization, network: NetworkSpec) -> None:
    """Raise `InvalidInput` where initial weights were trained with another normalization than `network` will be."""
    here = network.dataset.normalization
    if given != here:
        raise InvalidInput(
            f"the initial weights expect images normalized with mean {list(given.mean)} and std {list(given.std)},\n"
            f"but training on {network.dataset.name} uses {list(here.mean)} and {list(here.std)}. Take other weights."
        )
