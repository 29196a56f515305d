"""The order of computation of the network, over whatever computes: numbers, or numbers with their rounded twins."""

from __future__ import annotations

from typing import Protocol, TypeVar

from torch import nn

from ..networks.resnet import ResNet

V = TypeVar("V")


class Arithmetic(Protocol[V]):
    """What a network is made of. `name` is that of the layer or of the value, as the ONNX graph has it."""

    def layer(self, name: str, part: nn.Module, value: V) -> V:
        """The convolution or the classifier `part`, batch norm included."""

    def relu(self, value: V) -> V:
        """Negative numbers become 0."""

    def add(self, value: V, other: V) -> V:
        """The sum."""

    def pool(self, value: V) -> V:
        """The mean of each channel, (batch, channels)."""

    def settle(self, name: str, value: V) -> V:
        """Put the value on its grid."""


def walk(network: ResNet, arithmetic: Arithmetic[V], value: V) -> V:
    """Compute `network` on normalized images, (batch, 3, 32, 32); gives logits, (batch, classes)."""
    do = arithmetic
    value = do.settle("input", value)
    value = do.settle("conv1.relu", do.relu(do.layer("conv1", network.conv1, value)))
    for stage in ("layer1", "layer2", "layer3"):
        for number, block in network.get_submodule(stage).named_children():
            name = f"{stage}.{number}"
            shortcut = value
            if isinstance(block.downsample, nn.Sequential):
                path = f"{name}.downsample.0"
                shortcut = do.settle(path, do.layer(path, block.downsample[0], value))
            inner = do.relu(do.layer(f"{name}.conv1", block.get_submodule("conv1"), value))
            inner = do.settle(f"{name}.conv1.relu", inner)
            inner = do.settle(f"{name}.conv2", do.layer(f"{name}.conv2", block.get_submodule("conv2"), inner))
            value = do.settle(f"{name}.relu", do.relu(do.add(inner, shortcut)))
    return do.layer("fc", network.fc, do.settle("avgpool", do.pool(value)))
