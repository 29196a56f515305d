"""Sizes of the networks, counted from the networks: equal to what is published."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cifar_export.networks.counting import size_of
from cifar_export.networks.resnet import build
from cifar_export.networks.zoo import NETWORKS, network

# parameters in M, multiply-adds in M, as published for CIFAR-10 by chenyaofo/CIFAR-pretrained-models
PUBLISHED = {
    "cifar10_resnet20": (0.27, 40.81), "cifar10_resnet32": (0.46, 69.12), "cifar10_resnet44": (0.66, 97.44),
    "cifar10_resnet56": (0.85, 125.75), "cifar100_resnet20": (0.28, 40.82), "cifar100_resnet32": (0.47, 69.13),
    "cifar100_resnet44": (0.66, 97.44), "cifar100_resnet56": (0.86, 125.75),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_are_the_published_ones(name):
    size = size_of(NETWORKS[name])
    assert (round(size.parameters / 1e6, 2), round(size.multiply_adds / 1e6, 2)) == PUBLISHED[name]


@pytest.mark.parametrize("model", ["resnet8", "resnet20", "resnet110"])
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_sizes_are_what_torch_counts(model, dataset):
    spec = network(model, dataset)
    with torch.device("meta"):
        module = build(spec).eval()
        image = torch.empty(1, 3, 32, 32)
    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(image)
    size = size_of(spec)
    assert size.parameters == sum(p.numel() for layer in layers for p in layer.parameters())
    assert size.multiply_adds == counter.get_total_flops() // 2


@pytest.mark.parametrize("name", NETWORKS)
def test_depth_is_the_number_of_weighted_layers_on_the_main_path(name):
    network = build(NETWORKS[name])
    layers = [key for key, value in network.named_parameters() if value.ndim in (2, 4) and "downsample" not in key]
    assert len(layers) == NETWORKS[name].model.depth
