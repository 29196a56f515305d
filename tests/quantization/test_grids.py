"""Grids: whole numbers for weights and values, and their document."""

from __future__ import annotations

import base64
import copy
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifar_export.errors import InvalidInput
from cifar_export.networks.folding import folded
from cifar_export.networks.resnet import ResNet
from cifar_export.networks.zoo import NETWORKS, network
from cifar_export.quantization.calibration import calibrate
from cifar_export.quantization.document import as_document, bundled_grids, from_document
from cifar_export.quantization.grids import SCHEMES, Grid, Grids, highest, integers, layers, weight_scales
from cifar_export.quantization.pictures import calibration_pictures
from cifar_export.quantization.simulation import Int8ResNet, on_grid
from cifar_export.weights.core import build_network
from cifar_export.weights.index import bundled_entries
from cifar_export.weights.seeded import random_weights


@pytest.fixture(scope="module")
def small() -> ResNet:
    return build_network(random_weights(network("resnet8", "cifar10"), seed=1))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def grids(small: ResNet, images: torch.Tensor) -> Grids:
    return calibrate(small, images, "eight of noise")


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("scheme", SCHEMES)
@given(seed=st.integers(0, 2**32 - 1))
def test_weights_lose_at_most_half_a_step_and_stay_within_their_bits(scheme: Any, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(4, 3, 3, 3)) * 10.0 ** rng.uniform(-6, 3, (4, 1, 1, 1))
    scales = weight_scales(weight, bits, scheme)
    steps = integers(weight, scales, bits)
    assert np.abs(steps.astype(int)).max() <= highest(bits)
    wrong = np.abs(steps * scales.astype(float).reshape(-1, 1, 1, 1) - weight)
    assert (wrong <= scales.reshape(-1, 1, 1, 1) * 0.5001).all()
    if scheme == "power-of-two":
        assert (np.log2(scales) == np.rint(np.log2(scales))).all()
    if scheme == "per-tensor":
        assert len(set(scales.tolist())) == 1


def test_seven_bits_cannot_saturate_where_two_products_share_sixteen() -> None:
    assert 2 * 255 * highest(7) <= 32_767 < 2 * 255 * highest(8)


@given(
    scale=st.floats(2.0**-20, 2.0**10),
    zero=st.integers(0, 255),
    values=st.lists(st.floats(-1e6, 1e6), min_size=1),
)
def test_a_value_on_its_grid_stays_there_and_zero_is_on_every_grid(
    scale: float, zero: int, values: list[float]
) -> None:
    grid = Grid(float(np.float32(scale)), zero)
    once = on_grid(torch.tensor([*values, 0.0], dtype=torch.float64), grid)
    assert torch.equal(on_grid(once, grid), once)
    assert once[-1] == 0
    low, high = -zero * grid.scale, (255 - zero) * grid.scale
    inside = torch.tensor(values, dtype=torch.float64).clamp(low, high)
    assert ((once[:-1] - inside).abs() <= grid.scale * 0.5 + 1e-9).all()


def test_a_tie_goes_to_the_even_step() -> None:
    assert on_grid(torch.tensor([0.5, 1.5, 2.5, -0.5]), Grid(1.0, 10)).tolist() == [0, 2, 2, 0]


def test_biases_are_corrected_by_the_mean_of_what_rounding_moved(small: ResNet, grids: Grids) -> None:
    whole = layers(small, grids)
    plain = {
        name: np.rint(folded(small)[f"{name}.bias"] / (layer.scale.astype(float) * layer.input.scale))
        for name, layer in whole.items()
    }
    moved = [int(np.abs(whole[name].bias - plain[name]).max()) for name in whole]
    assert max(moved) > 0  # without the correction all are what rounding gives


def test_calibration_gives_the_same_grids_again(small: ResNet, images: torch.Tensor, grids: Grids) -> None:
    assert calibrate(small, images, "eight of noise").digest() == grids.digest()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_bias_of_a_channel_that_is_dead_fits(small: ResNet, images: torch.Tensor, scheme: Any) -> None:
    """Training leaves channels whose weights are next to nothing: in steps of theirs the bias would not fit 32 bits."""
    dead = copy.deepcopy(small)
    with torch.no_grad():
        dead.bn1.weight[3], dead.bn1.bias[3] = 1e-9, 0.5
    found = calibrate(dead, images, "x", scheme=scheme)
    assert max(int(np.abs(biases.astype(np.int64)).max()) for biases in found.biases.values()) <= 2**23
    with torch.no_grad():
        error = (Int8ResNet(dead, found)(images) - dead.double()(images.double())).abs().max()
        dead.float()
    assert error < 0.1 * float(dead(images).detach().abs().max())


def test_power_of_two_has_no_other_scale(small: ResNet, images: torch.Tensor) -> None:
    found = calibrate(small, images, "x", scheme="power-of-two")
    scales = [grid.scale for grid in found.values.values()] + [s for some in found.scales.values() for s in some]
    assert all(np.log2(scale) == round(np.log2(scale)) for scale in scales)


def test_grids_of_another_network_are_refused(grids: Grids) -> None:
    deeper = build_network(random_weights(network("resnet14", "cifar10"), seed=1))
    with pytest.raises(InvalidInput, match="those of another network"):
        layers(deeper, grids)


# The document.


def test_the_document_is_the_grids(grids: Grids) -> None:
    again = from_document(json.loads(json.dumps(as_document(grids))))
    assert again.digest() == grids.digest()
    assert again.values == dict(grids.values)


@pytest.fixture(scope="module")
def tuned(small: ResNet, grids: Grids) -> Grids:
    """As finetuning leaves them: every second weight a step higher."""
    moved = {name: (np.arange(layer.weight.size) % 2).astype(np.int8) for name, layer in layers(small, grids).items()}
    return replace(grids, moved=moved, finetuning="by a test")


def test_moved_steps_are_the_weights_and_stand_in_the_document(small: ResNet, grids: Grids, tuned: Grids) -> None:
    before, after = layers(small, grids), layers(small, tuned)
    for name, layer in after.items():
        rounded = before[name].weight.reshape(-1).astype(int)
        expected = np.clip(rounded + np.arange(rounded.size) % 2, -64, 64)
        assert np.array_equal(layer.weight.reshape(-1), expected)
    again = from_document(json.loads(json.dumps(as_document(tuned))))
    assert again.digest() == tuned.digest() != grids.digest()
    assert all(np.array_equal(layers(small, again)[name].weight, layer.weight) for name, layer in after.items())
    assert "finetuning" not in as_document(grids)
    assert tuned.described()["finetuning"] == "by a test"


def test_steps_of_another_network_are_refused(small: ResNet, tuned: Grids) -> None:
    for moved in ({**tuned.moved, "fc": np.zeros(3, np.int8)}, {"conv1": tuned.moved["conv1"]}):
        with pytest.raises(InvalidInput, match="those of another network"):
            layers(small, replace(tuned, moved=moved))


@pytest.mark.parametrize(
    "text",
    ["?", "", 7, None, "AAAA", base64.b64encode(zlib.compress(b"\0" * 2**21)).decode()],
    ids=["no base64", "empty", "number", "null", "not compressed", "endless"],
)
def test_damaged_steps_are_refused_in_one_line(tuned: Grids, text: object) -> None:
    document = copy.deepcopy(as_document(tuned))
    document["layers"]["fc"]["moved"] = text
    with pytest.raises(InvalidInput, match=r"^the grids are damaged \(.*\)\. Quantize the network again\.$"):
        from_document(document)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("values"),
        lambda d: d["values"].update({"input": [0.0, 3]}),
        lambda d: d["values"].update({"input": [float("nan"), 3]}),
        lambda d: d["values"].update({"input": [1e400, 3]}),
        lambda d: d["values"].update({"input": [1.0, 256]}),
        lambda d: d["values"].update({"input": [1.0, True]}),
        lambda d: d["values"].update({"input": 7}),
        lambda d: d["layers"]["fc"]["scales"].__setitem__(0, -1.0),
        lambda d: d["layers"]["fc"]["biases"].__setitem__(0, 2**40),
        lambda d: d["layers"]["fc"]["biases"].__setitem__(0, "x"),
        lambda d: d["layers"]["fc"]["biases"].__setitem__(0, 12345),
        lambda d: d.update(weight_bits=3),
        lambda d: d.update(scheme="none"),
        lambda d: d.update(layers=[]),
        lambda d: d.update(sha256="0" * 64),
    ],
)
def test_a_damaged_document_is_refused_in_one_line(change: Callable[[Any], None], grids: Grids) -> None:
    document = copy.deepcopy(as_document(grids))
    change(document)
    with pytest.raises(InvalidInput, match=r"^the grids are damaged \(.*\)\. Quantize the network again\.$"):
        from_document(document)


@pytest.mark.parametrize("document", [None, 3, [], "x", {}])
def test_what_is_no_document_is_refused(document: object) -> None:
    with pytest.raises(InvalidInput, match="the grids are damaged"):
        from_document(document)


# What comes with cifar-export.


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_bundled_network_has_the_grids_of_its_weights(name: str) -> None:
    found = bundled_grids(name, bundled_entries()[name].sha256)
    assert found is not None, "its weights changed: run tools/bundle_grids.py"
    assert (found.weight_bits, found.scheme) == (7, "per-channel")
    assert bundled_grids(name, "0" * 64) is None


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_pictures_are_there(name: str) -> None:
    pictures = calibration_pictures(name)
    assert pictures is not None
    assert (pictures.shape, pictures.dtype) == ((512, 32, 32, 3), np.uint8)
    assert calibration_pictures("mine") is None


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_pictures_are_training_pictures(name: str, cifar_data: Any) -> None:
    from cifar_export.data import load_split
    from cifar_export.networks.zoo import DATASETS

    train = load_split(cifar_data, DATASETS[name], "train").images
    chosen = np.linspace(0, len(train) - 1, 512).astype(int)
    assert np.array_equal(calibration_pictures(name), train[chosen])
