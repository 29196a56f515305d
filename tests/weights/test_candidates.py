"""Which of several state dicts in a checkpoint is taken: the only one, or the one that was named; never a guess."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cifar_export.errors import InvalidInput
from cifar_export.networks.zoo import NETWORKS, Normalization
from cifar_export.weights.core import Weights
from cifar_export.weights.foreign import Reading
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

RESNET20 = NETWORKS["cifar10_resnet20"]
NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
RAW, AVERAGE = random_weights(RESNET20, 0).state, random_weights(RESNET20, 1).state


def load(content: object, folder: Path, key: str | None = None) -> Weights:
    path = folder / "checkpoint.pt"
    torch.save(content, path)
    return load_weights(RESNET20, str(path), NORMALIZATION, reading=Reading(key))


def equal(weights: Weights, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(weights.state[key], tensor) for key, tensor in state.items())


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Any]:
    return {prefix + key: tensor for key, tensor in state.items()}


BESIDE = {
    "a number": {"state_dict": RAW, "epoch": 3, "best_acc": torch.tensor(91.7)},
    "a vector": {"net": RAW, "confusion": torch.zeros(10), "epoch": 1},
    "optimizer": {"model": RAW, "optimizer": {"state": {0: {"momentum_buffer": RAW["conv1.weight"]}}}},
    "named optimizer": {"model": RAW, "optim_state": {"conv1.weight": {"exp_avg": RAW["conv1.weight"]}}},
    "state": {"state": {"model": RAW, "epoch": 3}},
    "module": {"module": RAW, "dp_world_size": 1},
    "ema alone": {"ema": AVERAGE | RAW, "epoch": 3},
    "unheard of": {"my_resnet": RAW, "epoch": torch.tensor(3)},
    "deep": {"checkpoint": {"trainer": {"net": RAW}}},
}


@pytest.mark.parametrize("kind", BESIDE)
def test_a_wrapper_is_descended_into_whatever_stands_beside(kind: str, tmp_path: Path) -> None:
    weights = load(BESIDE[kind], tmp_path)
    assert equal(weights, RAW)
    assert weights.key is not None
    assert weights.changes[0] == f"took {weights.key}"


SEVERAL = {
    "timm": ({"state_dict": RAW, "state_dict_ema": AVERAGE}, "state_dict", "state_dict_ema"),
    "model_ema": ({"model": RAW, "model_ema": AVERAGE}, "model", "model_ema"),
    "ema_state_dict": ({"model": RAW, "ema_state_dict": under("module.", AVERAGE)}, "model", "ema_state_dict"),
    "nested": ({"model": RAW, "ema": {"decay": 0.99, "shadow": AVERAGE}}, "model", "ema.shadow"),
    "distilled": ({"student": RAW, "teacher": AVERAGE}, "student", "teacher"),
    "prefixes": (
        {"state_dict": under("student.", RAW) | under("teacher.", AVERAGE)},
        "state_dict.student",
        "state_dict.teacher",
    ),
    "a prefix beside": (
        {"state_dict": RAW | under("model_ema.module.", AVERAGE)},
        "state_dict",
        "state_dict.model_ema.module",
    ),
    "bare": (under("net.", RAW) | under("ema.", AVERAGE), "net", "ema"),
    "bare and a prefix": (RAW | under("ema.", AVERAGE), ".", "ema"),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_are_listed_and_the_key_chooses(kind: str, tmp_path: Path) -> None:
    content, raw, average = SEVERAL[kind]
    with pytest.raises(InvalidInput) as caught:
        load(content, tmp_path)
    assert f"several state dicts ({raw}, {average})" in str(caught.value)
    assert f"--key {raw}" in str(caught.value)
    assert equal(load(content, tmp_path, raw), RAW)
    weights = load(content, tmp_path, average)
    assert equal(weights, AVERAGE)
    assert weights.key == average


def test_an_average_kept_as_a_list_is_not_overlooked(tmp_path: Path) -> None:
    content = {"model": RAW, "ema": {"decay": 0.99, "shadow_params": list(AVERAGE.values())}}
    with pytest.raises(InvalidInput, match=r"several state dicts \(model, ema\.shadow_params\)"):
        load(content, tmp_path)
    assert equal(load(content, tmp_path, "model"), RAW)
    with pytest.raises(InvalidInput, match="a list of tensors, which bear no names"):
        load(content, tmp_path, "ema.shadow_params")


def test_a_key_that_names_nothing_lists_what_there_is(tmp_path: Path) -> None:
    content = {"model": RAW, "model_ema": AVERAGE, "note": "x"}
    for wrong in ("ema", "note", "model.nothing", ""):
        with pytest.raises(InvalidInput, match=r"no state dict under --key .*It holds model, model_ema\."):
            load(content, tmp_path, wrong)
    with pytest.raises(InvalidInput, match=r"outer holds several state dicts \(outer\.model, outer\.ema\)"):
        load({"outer": {"model": RAW, "ema": AVERAGE}, "inner": {"net": RAW}}, tmp_path, "outer")
    assert equal(load({"outer": {"model": RAW}, "inner": {"net": AVERAGE}}, tmp_path, "inner"), AVERAGE)


def test_a_file_that_is_the_state_dict_itself_is_the_root(tmp_path: Path) -> None:
    weights = load(RAW, tmp_path, ".")
    assert (weights.key, weights.changes) == (None, ())
    assert equal(weights, RAW)


def test_what_a_key_names_is_judged_as_it_is(tmp_path: Path) -> None:
    part = {key: tensor for key, tensor in AVERAGE.items() if not key.startswith("conv1")}
    with pytest.raises(InvalidInput, match=r"1 missing key \(conv1\.weight\)"):
        load({"model": RAW, "half": part}, tmp_path, "half")


def test_a_key_is_for_files_alone() -> None:
    with pytest.raises(InvalidInput, match="--key and --shortcut are for a file"):
        load_weights(RESNET20, "bundled", reading=Reading("ema"))


def test_mappings_that_hold_themselves_or_one_another_many_times_end(tmp_path: Path) -> None:
    content: dict[str, Any] = {"net": RAW}
    content["self"] = content
    with pytest.raises(InvalidInput, match=r"several state dicts \(net, self\.net, "):
        load(content, tmp_path)
    assert load(content, tmp_path, "net").key == "net"
    nested: dict[str, Any] = {"x": 1}
    for _ in range(6):
        nested = {f"k{number}": nested for number in range(200)}
    assert load({"net": RAW, "other": nested}, tmp_path).key == "net"
    nested = {"net": RAW}
    for _ in range(3):
        nested = {f"k{number}": nested for number in range(200)}
    with pytest.raises(InvalidInput, match=r"several state dicts .* and 88 more"):
        load(nested, tmp_path)


def test_a_prefix_of_thousands_of_parts_is_no_traceback(tmp_path: Path) -> None:
    assert equal(load(under("a." * 3000, RAW), tmp_path), RAW)
