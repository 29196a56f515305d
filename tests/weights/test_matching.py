"""The same network under other names is matched by order and shape, where that is unique, and refused where not."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from cifar_export.errors import InvalidInput
from cifar_export.networks.zoo import NETWORKS, Normalization
from cifar_export.weights.core import Weights, build_network
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

RESNET20 = NETWORKS["cifar10_resnet20"]
NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
STATE = random_weights(RESNET20, 0).state
State = dict[str, Any]


def load(state: State, folder: Path) -> Weights:
    torch.save(state, folder / "checkpoint.pt")
    return load_weights(RESNET20, str(folder / "checkpoint.pt"), NORMALIZATION)


def renamed(*pairs: tuple[str, str]) -> State:
    state: State = {}
    for key, tensor in STATE.items():
        for old, new in pairs:
            key = re.sub(old, new, key)
        state[key] = tensor
    return state


def flat(key: str) -> str:
    """`layers_2n.1.conv1` and so on: the names that a loop gives."""
    return re.sub(r"^layer(\d)\.", lambda found: f"layers_{2 ** int(found[1])}n.", key)


NAMES: dict[str, Callable[[], State]] = {
    "stem": lambda: renamed((r"^conv1\.", "conv."), (r"^bn1\.", "bn.")),
    "stages": lambda: renamed((r"^layer(\d)", r"stage_\1"), (r"^conv1\.", "conv_1."), (r"^bn1\.", "bn_1.")),
    "sequential": lambda: renamed((r"^conv1\.", "conv1.0."), (r"^bn1\.", "conv1.1."), (r"^fc\.", "output.")),
    "block": lambda: {flat(key): tensor for key, tensor in STATE.items()},
    "basic": lambda: renamed((r"\.conv(\d)\.", r".residual.\1.c."), (r"\.bn(\d)\.", r".residual.\1.n.")),
    "head": lambda: renamed((r"^fc\.", "classifier.1."), (r"downsample", "skip")),
    "prefixed": lambda: {f"net.body.{key}": t for key, t in renamed((r"^conv1\.", "stem."), (r"^bn1", "norm")).items()},
}


@pytest.mark.parametrize("kind", NAMES)
def test_other_names_end_in_the_same_network(kind: str, tmp_path: Path) -> None:
    weights = load(NAMES[kind](), tmp_path)
    assert all(torch.equal(weights.state[key], tensor) for key, tensor in STATE.items())
    assert re.search(r"matched \d+ layers by order and shape \(.* is ", "; ".join(weights.changes))
    assert set(weights.renamed.values()) == set(STATE)


class Grouped(nn.Module):
    """A block that registers its convolutions before its norms, and its shortcut first of all."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        if inputs != outputs:
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs))
        self.a1 = nn.Conv2d(inputs, outputs, 3, 1 if inputs == outputs else 2, 1, bias=False)
        self.a2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.n1, self.n2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)


class GroupedNetwork(nn.Module):
    """resnet20 with such blocks in one list; its classifier is registered before them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.last = nn.Linear(64, 10)
        widths = [16] * 4 + [32] * 3 + [64] * 3
        self.blocks = nn.ModuleList(Grouped(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_norm(self.first(x)).relu()
        for block in self.blocks:
            out = block.n2(block.a2(block.n1(block.a1(x)).relu()))
            x = (out + (block.skip(x) if hasattr(block, "skip") else x)).relu()
        return self.last(x.mean((2, 3)))


@torch.no_grad()
def test_another_order_of_registration_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = GroupedNetwork()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.3, 1)
    images = torch.randn(3, 3, 32, 32)
    weights = load(theirs.state_dict(), tmp_path)
    assert torch.allclose(build_network(weights)(images), theirs.eval()(images), atol=1e-4, rtol=1e-4)


def swapped(state: State, first: str, second: str) -> State:
    """The same entries with two modules' places exchanged."""
    exchanged = {first: second, second: first}
    order = []
    for key in state:
        layer, _, leaf = key.rpartition(".")
        order.append(f"{exchanged.get(layer, layer)}.{leaf}")
    return {key: state[key] for key in order}


NOT_UNIQUE: dict[str, Callable[[], State]] = {
    "numbers descend": lambda: swapped(NAMES["stages"](), "stage_1.0.conv1", "stage_1.0.conv2"),
    "sorted as text": lambda: dict(
        sorted(renamed((r"^layer1\.2", "layer1.10"), (r"^fc", "out"), (r"^conv1", "conv")).items())
    ),
    "a layer more": lambda: NAMES["stem"]() | {"extra.weight": torch.zeros(10, 64), "extra.bias": torch.zeros(10)},
    "another kind": lambda: NAMES["stem"]() | {"squeeze.alpha": torch.zeros(3)},
    "no bias": lambda: {key: t for key, t in NAMES["head"]().items() if key != "classifier.1.bias"},
    "a norm less": lambda: {key: t for key, t in NAMES["stem"]().items() if not key.startswith("bn.")},
}


@pytest.mark.parametrize("kind", NOT_UNIQUE)
def test_what_matches_in_no_single_way_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"missing key|extra key|no CIFAR ResNet"):
        load(NOT_UNIQUE[kind](), tmp_path)


def test_norms_before_their_convolutions_are_another_network(tmp_path: Path) -> None:
    """Pre-activation ResNets have the same tensors, and compute something else."""
    state: State = {"conv1.weight": STATE["conv1.weight"]}
    for stage in (1, 2, 3):
        for block in range(3):
            ours = f"layer{stage}.{block}"
            for part in (1, 2):
                norm = {key: t for key, t in STATE.items() if key.startswith(f"{ours}.bn{part}.")}
                if stage > 1 and block == 0 and part == 1:
                    norm = {key: t[: 8 * 2 ** (stage - 1)] if t.dim() else t for key, t in norm.items()}
                state |= norm | {f"{ours}.conv{part}.weight": STATE[f"{ours}.conv{part}.weight"]}
    state |= {key.replace("layer3.2.bn2", "bn"): t for key, t in STATE.items() if key.startswith("layer3.2.bn2")}
    state |= {key: t for key, t in STATE.items() if key.startswith("fc")}
    with pytest.raises(InvalidInput, match=r"missing keys"):
        load(state, tmp_path)


def test_safetensors_keep_no_order(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(NAMES["stem"](), path)
    with pytest.raises(InvalidInput, match=r"safetensors keep none: give the \.pt or \.pth file"):
        load_weights(RESNET20, str(path), NORMALIZATION)


@torch.no_grad()
def test_biases_of_convolutions_are_folded_into_their_norms(tmp_path: Path) -> None:
    biases = {
        key.replace(".weight", ".bias"): 0.5 * torch.randn(len(tensor), generator=torch.Generator().manual_seed(0))
        for key, tensor in STATE.items()
        if tensor.dim() == 4
    }
    weights = load(STATE | biases, tmp_path)
    assert weights.changes == (f"folded the biases of {len(biases)} convolutions into their batch norms",)
    network = build_network(weights).double()
    theirs = build_network(random_weights(RESNET20, 0)).double()
    for name, bias in biases.items():
        theirs.get_submodule(name.removesuffix(".bias")).bias = nn.Parameter(bias.double())
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    assert torch.allclose(network(images), theirs(images), atol=1e-5)
    assert not torch.allclose(network(images), build_network(random_weights(RESNET20, 0)).double()(images), atol=1e-2)


def test_biases_under_other_names_are_folded_too(tmp_path: Path) -> None:
    state = renamed((r"^conv1\.", "conv."), (r"^bn1\.", "bn."))
    state = {"conv.bias": torch.ones(16)} | state
    weights = load(state, tmp_path)
    expected = STATE["bn1.running_mean"].double() - 1
    assert torch.equal(weights.state["bn1.running_mean"], expected.float())


@pytest.mark.parametrize("name", ["layer2.0.downsample.1", "block.4.skip.1"])
def test_average_pooling_before_a_shortcut_is_refused_by_name(name: str, tmp_path: Path) -> None:
    pairs = [(r"downsample\.1", "downsample.2"), (r"downsample\.0", "downsample.1")]
    if name.startswith("block"):
        pairs += [("downsample", "skip"), (r"^conv1\.", "stem.")]
    with pytest.raises(InvalidInput, match="average pooling"):
        load(renamed(*pairs), tmp_path)


def test_other_widths_stems_and_depths_are_refused_by_name(tmp_path: Path) -> None:
    def wider(tensor: Tensor, times: int) -> Tensor:
        if not tensor.dim():
            return tensor
        sizes = [size if size in (3, 10) else size * times for size in tensor.shape[:2]]
        return torch.zeros(*sizes, *tensor.shape[2:])

    wide = {key: wider(tensor, 2) for key, tensor in STATE.items()}
    for state in (wide, {f"x{key}": tensor for key, tensor in wide.items()}):
        with pytest.raises(InvalidInput, match=r"ResNet-20 of widths 32/64/128; here they are 16/32/64"):
            load(state, tmp_path)
    with pytest.raises(InvalidInput, match="its stem is a 7x7 convolution of 64 channels"):
        load(STATE | {"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path)
    deep = {f"block_{key}": tensor for key, tensor in random_weights(NETWORKS["cifar100_resnet32"], 0).state.items()}
    with pytest.raises(InvalidInput, match=r"it is a resnet32, not a resnet20. Ask for `resnet32 --dataset cifar100`"):
        load(deep, tmp_path)
