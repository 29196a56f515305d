"""Our own weight files: what is saved comes back, and the bytes depend on nothing but the content."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cifar_export.errors import InvalidInput
from cifar_export.networks.zoo import NETWORKS, Normalization
from cifar_export.system.files import sha256_file
from cifar_export.weights.core import Weights, build_network
from cifar_export.weights.native import save_weights
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.paths import ROOT

RESNET20 = NETWORKS["cifar10_resnet20"]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights(RESNET20, 0)


def test_saved_weights_come_back_whole(weights: Weights, tmp_path: Path) -> None:
    full = dataclasses.replace(
        weights,
        normalization=Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        recipe={"name": "quick", "epochs": 30},
        metrics={"top1": 91.2, "top5": 99.6},
    )
    path = tmp_path / "new folder" / "weights.safetensors"
    digest = save_weights(path, full)
    loaded = load_weights(RESNET20, str(path))
    assert digest == sha256_file(path) == loaded.sha256
    assert loaded.source == "file"
    assert (loaded.normalization, loaded.recipe, loaded.metrics) == (full.normalization, full.recipe, full.metrics)
    assert loaded.changes == ()
    assert list(loaded.state) == list(full.state)
    for key, tensor in full.state.items():
        assert loaded.state[key].dtype == tensor.dtype
        assert torch.equal(loaded.state[key], tensor)


def test_the_bytes_are_the_same_in_every_process_and_folder(weights: Weights, tmp_path: Path) -> None:
    here = save_weights(tmp_path / "here.safetensors", weights)
    program = (
        "import sys; from pathlib import Path; from cifar_export.networks.zoo import NETWORKS\n"
        "from cifar_export.weights.native import save_weights; from cifar_export.weights.seeded import random_weights\n"
        "w = random_weights(NETWORKS['cifar10_resnet20'], 0); print(w.sha256, save_weights(Path(sys.argv[1]), w))"
    )
    there = tmp_path / "elsewhere" / "another name.safetensors"
    root = ROOT
    result = subprocess.run(
        [sys.executable, "-c", program, str(there)], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == [here, here]
    assert weights.sha256 == here
    assert there.read_bytes() == (tmp_path / "here.safetensors").read_bytes()


def test_the_order_of_dictionaries_does_not_change_the_bytes(weights: Weights, tmp_path: Path) -> None:
    first = dataclasses.replace(weights, metrics={"top1": 1.0, "top5": 2.0})
    backwards = dict(reversed(weights.state.items()))
    second = dataclasses.replace(weights, state=backwards, metrics={"top5": 2.0, "top1": 1.0})
    assert save_weights(tmp_path / "1", first) == save_weights(tmp_path / "2", second)


def test_saving_leaves_an_older_file_alone_when_it_fails(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"older")
    with pytest.raises(ValueError, match="JSON"):
        save_weights(path, dataclasses.replace(weights, metrics={"top1": float("nan")}))
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_another_network_is_refused_by_name(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, weights)
    with pytest.raises(InvalidInput, match=r"holds cifar10_resnet20, not cifar100_resnet20\. Ask for `resnet20 --data"):
        load_weights(NETWORKS["cifar100_resnet20"], str(path))
    with pytest.raises(InvalidInput, match="holds cifar10_resnet20, not cifar10_resnet56"):
        load_weights(NETWORKS["cifar10_resnet56"], str(path), weights.normalization)


def test_a_given_normalization_overrides_and_drops_figures_that_another_one_gave(
    weights: Weights, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, dataclasses.replace(weights, metrics={"top1": 91.0}))
    other = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    overridden = load_weights(RESNET20, str(path), other)
    assert (overridden.normalization, overridden.metrics) == (other, None)
    assert load_weights(RESNET20, str(path), weights.normalization).metrics == {"top1": 91.0}


@pytest.mark.parametrize("name", NETWORKS)
def test_random_weights_make_tame_networks_that_tell_images_apart(name: str) -> None:
    network = build_network(random_weights(NETWORKS[name], 3))
    peaks: list[float] = []
    for module in network.modules():
        module.register_forward_hook(lambda module, args, output: peaks.append(float(output.abs().max())))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = network(torch.cat([images, torch.full((1, 3, 32, 32), 2.5), torch.full((1, 3, 32, 32), -2.5)]))
    assert max(peaks) < 100
    assert logits.shape == (6, NETWORKS[name].dataset.classes)
    assert logits[:4].std(0).mean() > 0.05
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:  # nothing that an exporter could fold away unnoticed
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert all(values.std() > 0.01 for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var))


def test_random_weights_follow_their_seed_and_leave_torch_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (random_weights(RESNET20, seed) for seed in (1, 1, 2))
    build_network(first)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.sha256 == again.sha256 != other.sha256


def test_a_built_network_is_in_eval_mode_without_gradients_and_owns_its_numbers(weights: Weights) -> None:
    network = build_network(weights)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    original = weights.state["fc.bias"].clone()
    network.fc.bias.add_(1.0)
    assert torch.equal(weights.state["fc.bias"], original)


def test_building_is_strict(weights: Weights) -> None:
    state = {key: tensor for key, tensor in weights.state.items() if key != "fc.bias"}
    with pytest.raises(RuntimeError, match=r"fc\.bias"):
        build_network(dataclasses.replace(weights, state=state))
