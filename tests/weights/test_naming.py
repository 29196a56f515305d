"""Names and leftovers of other people's checkpoints end in the same network, and what was changed is said."""

from __future__ import annotations

import argparse
import pathlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import prune

from cifar_export.errors import InvalidInput
from cifar_export.networks.resnet import build
from cifar_export.networks.zoo import NETWORKS, Normalization
from cifar_export.weights.core import Weights, fresh_network
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

RESNET20 = NETWORKS["cifar10_resnet20"]
NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
STATE = random_weights(RESNET20, 0).state


def load(content: object, folder: Path, **options: Any) -> Weights:
    path = folder / "checkpoint.pt"
    torch.save(content, path, **options)
    return load_weights(RESNET20, str(path), NORMALIZATION)


def equal(weights: Weights, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(weights.state[key], tensor) for key, tensor in state.items())


PREFIXES = ["module.", "model.", "_orig_mod.", "backbone.", "_module.", "_fsdp_wrapped_module."]


@pytest.mark.parametrize("prefix", [*PREFIXES, "encoder.q.", "module._orig_mod.net.", "a.b.c."])
def test_any_common_prefix_is_removed_and_said(prefix: str, tmp_path: Path) -> None:
    weights = load({prefix + key: tensor for key, tensor in STATE.items()}, tmp_path)
    assert equal(weights, STATE)
    assert weights.changes == (f"dropped the prefix {prefix}",)


def test_wrappers_inside_of_names_are_removed(tmp_path: Path) -> None:
    def wrapped(key: str) -> str:
        return "_fsdp_wrapped_module." + key.replace("layer2.", "layer2._fsdp_wrapped_module.").replace(
            "layer3.0.", "layer3.0._checkpoint_wrapped_module."
        )

    weights = load({wrapped(key): tensor for key, tensor in STATE.items()}, tmp_path)
    assert equal(weights, STATE)
    assert "_checkpoint_wrapped_module." in weights.changes[0]


def counted(state: dict[str, Any]) -> dict[str, Any]:
    layers = {key.rpartition(".")[0] for key in state}
    return state | {f"{layer}.total_{what}": torch.zeros(1) for layer in layers for what in ("ops", "params")}


LEFT: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "profiler": (lambda: counted(STATE) | {"total_ops": torch.zeros(1)}, "dropped counters of a profiler ("),
    "criterion": (lambda: STATE | {"criterion.weight": torch.ones(10)}, "dropped the loss (criterion.weight)"),
    "prefixed": (
        lambda: {f"model.{key}": t for key, t in STATE.items()} | {"criterion.weight": torch.ones(10)},
        "dropped the loss (criterion.weight)",
    ),
    "optimizer": (
        lambda: STATE | {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}},
        "dropped optimizer state (optimizer)",
    ),
    "notes": (
        lambda: STATE | {"epoch": 3, "best_acc": torch.tensor(0.9)},
        "dropped notes of the training script (epoch, best_acc)",
    ),
    "averaged": (lambda: STATE | {"n_averaged": torch.tensor(7)}, "dropped the counter of averaged updates"),
}


@pytest.mark.parametrize("kind", LEFT)
def test_leftovers_of_known_meaning_are_dropped_with_a_note(kind: str, tmp_path: Path) -> None:
    weights = load(LEFT[kind][0](), tmp_path)
    assert equal(weights, STATE)
    assert any(change.startswith(LEFT[kind][1]) for change in weights.changes), weights.changes


def test_pruned_weights_are_multiplied_by_their_masks(tmp_path: Path) -> None:
    network = fresh_network(RESNET20)
    network.load_state_dict(STATE)
    prune.l1_unstructured(network.conv1, "weight", amount=0.5)
    prune.l1_unstructured(network.fc, "weight", amount=0.3)
    weights = load(network.state_dict(), tmp_path)
    assert weights.changes == ("multiplied 2 pruned tensors by the mask of each",)
    zeros = int((weights.state["conv1.weight"] == 0).sum())
    assert zeros == STATE["conv1.weight"].numel() // 2
    prune.remove(network.conv1, "weight")
    prune.remove(network.fc, "weight")
    assert equal(weights, network.state_dict())


def test_a_mask_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    state = {key: tensor for key, tensor in STATE.items() if key != "fc.weight"}
    masked = state | {"fc.weight_orig": STATE["fc.weight"], "fc.weight_mask": torch.ones(3, 64)}
    with pytest.raises(InvalidInput, match=r"fc\.weight_mask has shape \(3, 64\)"):
        load(masked, tmp_path)


def test_a_mask_of_terabytes_is_refused_before_it_is_multiplied(tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(2**40)
    with pytest.raises(InvalidInput, match=r"fc\.bias_orig has shape \(1099511627776,\)"):
        load(
            {key: t for key, t in STATE.items() if key != "fc.bias"} | {"fc.bias_orig": huge, "fc.bias_mask": huge},
            tmp_path,
        )


@pytest.mark.parametrize(
    "key",
    [
        "conv1.weight_fake_quant.scale",
        "layer1.0.conv1.activation_post_process.min_val",
        "quant.scale",
        "fc._packed_params.dtype",
        "conv1.zero_point",
    ],
)
def test_quantized_networks_are_refused_by_name(key: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="it is quantized or trained to be") as caught:
        load(STATE | {key: torch.ones(1)}, tmp_path)
    assert key in str(caught.value)
    assert "architecture" not in str(caught.value)


def test_weight_norm_is_refused_by_name(tmp_path: Path) -> None:
    network = build(RESNET20)
    torch.nn.utils.parametrizations.weight_norm(network.conv1)
    with pytest.raises(InvalidInput, match=r"parametrized \(conv1\.parametrizations\.weight\.original0\)"):
        load(network.state_dict(), tmp_path)


EXTRAS: dict[str, Any] = {
    "scalar": np.float64(91.7),
    "integer": np.int64(3),
    "array": np.arange(12.0).reshape(3, 4),
    "objects": np.array([{"a": 1}, None], dtype=object),
    "arguments": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("x"), best=np.float32(1)),
    "path": Path("/data/cifar"),
    "windows": pathlib.PureWindowsPath("C:/data"),
    "ordered": OrderedDict(a=np.float32(2)),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", EXTRAS)
def test_harmless_extras_are_read_past(kind: str, legacy: bool, tmp_path: Path) -> None:
    content = {"state_dict": STATE, "extra": EXTRAS[kind], "args": [EXTRAS[kind]]}
    weights = load(content, tmp_path, _use_new_zipfile_serialization=not legacy)
    assert equal(weights, STATE)


def test_old_names_of_numpy_and_paths_are_read_past_too(tmp_path: Path) -> None:
    """What numpy 1 and Python 3.13 write: the same pickle, other module names of the same length or not."""
    from cifar_export.weights.extras import STAND_INS

    known = {name for _, name in STAND_INS}
    assert {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "numpy.ndarray"} <= known
    assert {"pathlib.PosixPath", "pathlib._local.PosixPath", "argparse.Namespace"} <= known


def test_an_extra_in_the_place_of_a_tensor_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"fc\.bias is a NumPy array or number, not a tensor"):
        load(STATE | {"fc.bias": np.zeros(10)}, tmp_path)


def test_nothing_of_an_extra_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace with a trap: its constructor would be called by an unpickler that trusts it."""
    torch.save({"state_dict": STATE, "args": argparse.Namespace(lr=1)}, tmp_path / "c.pt")

    def trap(*_: object, **__: object) -> None:
        raise AssertionError("it was made")

    monkeypatch.setattr(argparse.Namespace, "__init__", trap)
    monkeypatch.setattr(argparse.Namespace, "__new__", trap)
    assert equal(load_weights(RESNET20, str(tmp_path / "c.pt"), NORMALIZATION), STATE)
