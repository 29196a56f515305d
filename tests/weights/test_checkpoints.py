"""Checkpoints that others wrote: every known way of writing ends in the same network, to the bit."""

from __future__ import annotations

import io
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from cifar_export.errors import InvalidInput
from cifar_export.networks.zoo import NETWORKS, NetworkSpec, Normalization
from cifar_export.weights.core import build_network
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

RESNET20 = NETWORKS["cifar10_resnet20"]
NORMALIZATION = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
STATE = random_weights(RESNET20, 0).state
State = dict[str, Tensor]


def renamed(state: State, old: str, new: str) -> State:
    return {key.replace(old, new): tensor for key, tensor in state.items()}


def save_zip(content: object, path: Path) -> None:
    torch.save(content, path)


def save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


WRITTEN: dict[str, Callable[[State], object]] = {
    "bare": dict,
    "ordered": OrderedDict,
    "state_dict": lambda state: {"state_dict": state, "best_prec1": 91.7, "epoch": 199},
    "model": lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": torch.tensor(0.1).item()},
    "net": lambda state: {"net": state, "acc": 91.7},
    "nested": lambda state: {"state_dict": {"model": state}},
    "DataParallel": lambda state: {"module." + key: tensor for key, tensor in state.items()},
    "compiled DataParallel": lambda state: {"_orig_mod.module." + key: tensor for key, tensor in state.items()},
    "averaged": lambda state: {"n_averaged": torch.tensor(3)} | {"module." + key: t for key, t in state.items()},
    "linear": lambda state: renamed(state, "fc.", "linear."),
    "shortcut": lambda state: renamed(renamed(state, "downsample", "shortcut"), "fc.", "linear."),
    "no counters": lambda state: {k: t for k, t in state.items() if "num_batches" not in k},
    "parameters": lambda state: {k: nn.Parameter(t) if t.is_floating_point() else t for k, t in state.items()},
    "float64": lambda state: {k: t.double() if t.is_floating_point() else t for k, t in state.items()},
    "int32 counters": lambda state: {k: t if t.is_floating_point() else t.int() for k, t in state.items()},
    "channels last": lambda state: {
        k: t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t for k, t in state.items()
    },
}


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.parametrize("way", WRITTEN)
def test_known_ways_of_writing(way: str, save: Callable[[object, Path], None], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    save(WRITTEN[way](STATE), path)
    weights = load_weights(RESNET20, str(path), NORMALIZATION)
    assert weights.normalization == NORMALIZATION
    assert weights.source == "file"
    assert list(weights.state) == list(STATE)
    for key, tensor in STATE.items():
        assert torch.equal(weights.state[key], tensor), key
        assert weights.state[key].dtype == tensor.dtype
        assert weights.state[key].is_contiguous()
        assert not weights.state[key].requires_grad


def test_what_was_changed_is_said(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"module." + key: tensor for key, tensor in renamed(STATE, "fc.", "linear.").items()}, path)
    assert load_weights(RESNET20, str(path), NORMALIZATION).changes == (
        "dropped the prefix module.",
        "renamed linear to fc",
    )
    torch.save({key: t.double() if t.is_floating_point() else t for key, t in STATE.items()}, path)
    assert load_weights(RESNET20, str(path), NORMALIZATION).changes == ("converted float64 to float32",)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_floats_are_widened_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    narrow = {key: t.to(dtype) if t.is_floating_point() else t for key, t in STATE.items()}
    torch.save(narrow, tmp_path / "half.pt")
    state = load_weights(RESNET20, str(tmp_path / "half.pt"), NORMALIZATION).state
    assert state["fc.weight"].dtype == torch.float32
    assert all(torch.equal(state[key].to(tensor.dtype), tensor) for key, tensor in narrow.items())


def test_safetensors_of_others(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    safetensors.torch.save_file(STATE, path, {"format": "pt"})
    with pytest.raises(InvalidInput, match="--mean R,G,B and --std R,G,B"):
        load_weights(RESNET20, str(path))
    assert torch.equal(load_weights(RESNET20, str(path), NORMALIZATION).state["fc.bias"], STATE["fc.bias"])


def test_a_file_of_the_upstream_table_has_a_known_normalization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses
    import hashlib

    path = tmp_path / "renamed.pt"
    torch.save(STATE, path)
    with pytest.raises(InvalidInput, match="normalization"):
        load_weights(RESNET20, str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(NETWORKS, RESNET20.name, dataclasses.replace(RESNET20, upstream_sha256=digest[:8]))
    with pytest.raises(InvalidInput, match="normalization"):  # eight digits are no proof
        load_weights(RESNET20, str(path))
    monkeypatch.setitem(NETWORKS, RESNET20.name, dataclasses.replace(RESNET20, upstream_sha256=digest))
    assert load_weights(RESNET20, str(path)).normalization.mean == (0.4914, 0.4822, 0.4465)


def test_views_of_one_buffer_are_fine_while_they_do_not_overlap(tmp_path: Path) -> None:
    flat = torch.cat([t.flatten() for t in STATE.values() if t.is_floating_point()])
    state, start = dict(STATE), 0
    for key, tensor in STATE.items():
        if tensor.is_floating_point():
            state[key] = flat[start : start + tensor.numel()].view(tensor.shape)
            start += tensor.numel()
    pair = torch.stack([STATE["fc.bias"], STATE["fc.bias"]], 1)  # interleaved, and not contiguous
    state["fc.bias"] = pair[:, 0]
    torch.save(state, tmp_path / "flat.pt")
    loaded = load_weights(RESNET20, str(tmp_path / "flat.pt"), NORMALIZATION).state
    assert all(torch.equal(loaded[key], tensor) for key, tensor in STATE.items())
    assert len({tensor.untyped_storage().data_ptr() for tensor in loaded.values()}) == len(loaded)


def test_nothing_is_printed_and_no_warning_leaks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_legacy(STATE, tmp_path / "old.pth")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_weights(RESNET20, str(tmp_path / "old.pth"), NORMALIZATION)
    assert caught == []
    assert capfd.readouterr() == ("", "")


class OptionABlock(nn.Module):
    """A block as in He et al. 2016, option A: every second pixel, zero channels on both sides."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.pad = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.pad:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return functional.relu(out + x)


class OptionANetwork(nn.Module):
    """The reference: written apart from the project's network, with the names of akamaster/pytorch_resnet_cifar10."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        n = spec.model.blocks_per_stage
        self.layer1 = nn.Sequential(*(OptionABlock(16, 16, 1) for _ in range(n)))
        self.layer2 = nn.Sequential(OptionABlock(16, 32, 2), *(OptionABlock(32, 32, 1) for _ in range(n - 1)))
        self.layer3 = nn.Sequential(OptionABlock(32, 64, 2), *(OptionABlock(64, 64, 1) for _ in range(n - 1)))
        self.linear = nn.Linear(64, spec.dataset.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(x))))))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


@torch.no_grad()
def assert_option_a_agrees(path: Path, state: State, spec: NetworkSpec) -> None:
    reference = OptionANetwork(spec).eval()
    reference.load_state_dict(state, strict=False)
    weights = load_weights(spec, str(path), NORMALIZATION)
    assert weights.changes[-1].startswith("wrote option-A shortcuts as 1x1 convolutions, channels padded on both sides")
    images = 2 * torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    network = build_network(weights)
    assert torch.equal(network(images), reference(images))
    exact = reference.double()(images.double())
    error = (network.double()(images.double()) - exact).abs().max() / exact.abs().max()
    assert error < 1e-7  # the identity batch norm is 1 to within float32, so not to within float64


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar100_resnet56"])
def test_option_a_becomes_projections_without_changing_an_output(name: str, tmp_path: Path) -> None:
    spec = NETWORKS[name]
    state = {key: t for key, t in random_weights(spec, 5).state.items() if "downsample" not in key}
    state = renamed(state, "fc.", "linear.")
    path = tmp_path / "option-a.th"
    save_legacy({"state_dict": {"module." + key: t for key, t in state.items()}, "best_prec1": 91.7}, path)
    assert_option_a_agrees(path, state, spec)


@pytest.mark.data
def test_option_a_of_a_published_checkpoint(cifar_data: Path) -> None:
    path = cifar_data / "checkpoints" / "resnet20-12fca82f.th"
    if not path.is_file():
        pytest.skip(f"needs {path} of akamaster/pytorch_resnet_cifar10")
    state = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)["state_dict"]
    assert_option_a_agrees(path, {key.removeprefix("module."): t for key, t in state.items()}, RESNET20)
