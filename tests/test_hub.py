"""torch.hub finds the eight networks under the names that pytorch-cifar-models gave them."""

import importlib.util
from pathlib import Path

import pytest
import torch

import hubconf
from exporter.errors import InvalidInput
from exporter.weights import load_weights
from exporter.weights_index import bundled_entries
from exporter.zoo import NETWORKS

ROOT = str(Path(__file__).resolve().parent.parent)


def test_the_entry_points_are_the_eight_networks():
    public = {name: value for name, value in vars(hubconf).items() if callable(value) and not name.startswith("_")}
    assert sorted(public) == sorted(NETWORKS)
    assert "CIFAR-100" in public["cifar100_resnet56"].__doc__
    assert all(importlib.util.find_spec(name) for name in hubconf.dependencies)


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar100_resnet56"])
def test_without_pretrained_a_fresh_network_comes_ready_to_run(name):
    network = torch.hub.load(ROOT, name, source="local")
    assert not network.training
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, NETWORKS[name].dataset.classes)


@pytest.mark.parametrize("name", sorted(bundled_entries()))
def test_pretrained_networks_have_the_bundled_weights_and_say_their_normalization(name):
    network = torch.hub.load(ROOT, name, source="local", pretrained=True, progress=False)
    weights = load_weights(NETWORKS[name])
    assert all(torch.equal(value, weights.state[key]) for key, value in network.state_dict().items())
    assert network.normalization == weights.normalization
    assert network.fc.weight.requires_grad


def test_a_checkpoint_of_ones_own_loads_too(weights20_file, weights20):
    network = torch.hub.load(ROOT, "cifar10_resnet20", source="local", pretrained=True, weights=str(weights20_file))
    assert torch.equal(network.fc.weight, weights20.state["fc.weight"])


def test_weights_that_are_named_are_loaded_whatever_pretrained_says(weights20_file, weights20):
    network = torch.hub.load(ROOT, "cifar10_resnet20", source="local", weights=str(weights20_file))
    assert torch.equal(network.fc.weight, weights20.state["fc.weight"])
    with pytest.raises(InvalidInput, match="no/such/file"):
        torch.hub.load(ROOT, "cifar10_resnet20", source="local", weights="no/such/file.pt")
