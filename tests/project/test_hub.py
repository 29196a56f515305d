"""torch.hub finds the eight networks under the names that pytorch-cifar-models gave them."""

import re
import subprocess
import sys
import textwrap
from importlib.metadata import requires

import pytest
import torch

import hubconf
from cifar_export.errors import InvalidInput
from cifar_export.networks.zoo import NETWORKS
from cifar_export.weights.index import bundled_entries
from cifar_export.weights.sources import load_weights

from support.paths import ROOT as CHECKOUT

ROOT = str(CHECKOUT)


def test_the_entry_points_are_the_eight_networks():
    public = {name: value for name, value in vars(hubconf).items() if callable(value) and not name.startswith("_")}
    assert sorted(public) == sorted(NETWORKS)
    assert "CIFAR-100" in public["cifar100_resnet56"].__doc__


def test_the_dependencies_that_it_names_are_enough():
    """With what else this package wants out of reach, a network is loaded all the same."""
    script = """
    import sys
    lacking = sys.argv[1].split()
    sys.modules.update(dict.fromkeys(lacking))  # None: importing it fails
    import hubconf
    print(hubconf.cifar10_resnet20(pretrained=True).fc.weight.shape)
    """
    wanted = [
        re.match(r"[\w-]+", line)[0].replace("-", "_") for line in requires("cifar-export") if "extra" not in line
    ]
    names = {"onnxruntime_gpu": "onnxruntime", "pillow": "PIL"}
    lacking = {names.get(name, name) for name in wanted} - set(hubconf.dependencies)
    assert {"torchvision", "onnx", "onnxruntime", "click", "PIL"} <= lacking
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), " ".join(lacking)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[10, 64]" in done.stdout


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
