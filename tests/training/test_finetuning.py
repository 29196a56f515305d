"""Finetuning with rounded weights: nearer to float32, resumable to the same steps, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cifar_export.errors import GateFailed, InvalidInput
from cifar_export.exporting.precision import quantized
from cifar_export.networks.zoo import named, network
from cifar_export.quantization.grids import highest, integers, layers
from cifar_export.quantization.pictures import calibration_pictures
from cifar_export.quantization.simulation import Int8ResNet
from cifar_export.quantization.trainable import TrainableInt8
from cifar_export.training import finetuning
from cifar_export.training.finetuning import finetune
from cifar_export.training.options import FINETUNING
from cifar_export.weights.core import Weights, build_network
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    found = calibration_pictures("cifar10")
    assert found is not None
    return found[:300]


@pytest.fixture(scope="module")
def weights(pictures: np.ndarray) -> Weights:
    return quantized(random_weights(network("resnet8", "cifar10"), seed=1), pictures[:64])


@pytest.fixture(scope="module")
def straight(weights: Weights, pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> finetuning.Finetuned:
    return finetune(weights, pictures, 4, tmp_path_factory.mktemp("straight"))


def stop_at(step: int) -> Callable[[int, int], None]:
    def on_step(done: int, total: int) -> None:
        assert total == 12  # four epochs of three batches
        if done == step:
            raise KeyboardInterrupt

    return on_step


def test_it_computes_what_the_simulation_does(weights: Weights, pictures: np.ndarray) -> None:
    module = build_network(weights).eval()
    assert weights.grids is not None
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact = Int8ResNet(module, weights.grids)(images)
    with torch.no_grad():
        ours = TrainableInt8(module, weights.grids)(images)
    # a value at a tie goes to the other step now and then, in float32
    assert float((ours - exact).abs().mean()) < 0.02 * float(exact.std())


def test_untrained_it_is_the_calibrated_network(weights: Weights) -> None:
    module = build_network(weights).eval()
    assert weights.grids is not None
    found = TrainableInt8(module, weights.grids).found("not at all")
    ours, before = layers(module, found), layers(module, weights.grids)
    for name, layer in before.items():
        # float32 rounds a weight at a tie the other way now and then
        assert (ours[name].weight != layer.weight).mean() < 1e-3
        assert np.array_equal(ours[name].bias, layer.bias)


def test_gradients_reach_every_layer_and_stop_beyond_the_ends(weights: Weights) -> None:
    assert weights.grids is not None
    twin = TrainableInt8(build_network(weights).eval(), weights.grids)
    with torch.no_grad():
        twin.weights[0][0, 0, 0, 0] = 100.0
    twin(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert all(bool(part.grad.abs().sum() > 0) for part in (*twin.weights, *twin.biases))
    assert twin.weights[0].grad[0, 0, 0, 0] == 0


def test_it_comes_nearer_to_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "BATCH", 32)
    images = calibration_pictures("cifar100")
    assert images is not None
    weights = quantized(load_weights(named("cifar100_resnet20")))
    found = finetune(weights, images, 4, tmp_path)
    assert found.kept
    assert found.after.divergence < 0.9 * found.before.divergence
    assert found.before.images == 512
    assert found.weights.state is weights.state  # the float32 network stays what it is
    grids = found.weights.grids
    assert grids is not None
    assert grids.finetuning == "4 epochs on 512 training pictures, seed 0"
    whole = layers(build_network(weights).eval(), grids)
    assert sum(int((layer.weight != _rounded(weights, name)).sum()) for name, layer in whole.items()) > 100
    assert max(int(np.abs(layer.weight.astype(int)).max()) for layer in whole.values()) <= highest(grids.weight_bits)


def _rounded(weights: Weights, name: str) -> np.ndarray:
    from cifar_export.networks.folding import folded

    assert weights.grids is not None
    exact = folded(build_network(weights).eval())[f"{name}.weight"]
    return integers(exact, weights.grids.scales[name], weights.grids.weight_bits)


@pytest.mark.parametrize("step", [2, 3, 11])
def test_an_interrupted_one_goes_on_to_the_same_steps(
    weights: Weights,
    pictures: np.ndarray,
    straight: finetuning.Finetuned,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    monkeypatch.setattr(finetuning, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        finetune(weights, pictures, 4, tmp_path, on_step=stop_at(step))
    with pytest.raises(InvalidInput, match=r"holds a finetuning already\. Continue it with --resume"):
        finetune(weights, pictures, 4, tmp_path)
    heard: list[int] = []
    resumed = finetune(weights, pictures, 4, tmp_path, resume=True, on_step=lambda done, _: heard.append(done))
    assert heard == list(range(step + 1, 13))
    assert resumed.after == straight.after
    assert resumed.weights.grids is not None
    assert straight.weights.grids is not None
    assert resumed.weights.grids.digest() == straight.weights.grids.digest()


def test_a_checkpoint_is_written_once_in_two_minutes(
    weights: Weights, pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100_000, 50))  # 50 s pass from a look to the next, and there is another after each checkpoint
    monkeypatch.setattr(finetuning.time, "perf_counter", lambda: float(next(clock)))
    steps = []
    real = finetuning._save
    monkeypatch.setattr(finetuning, "_save", lambda *given: (steps.append(given[2]), real(*given)))
    finetune(weights, pictures, 4, tmp_path)
    assert steps == [3, 6, 9, 12]


def test_a_finetuning_of_something_else_is_not_continued(
    weights: Weights, pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        finetune(weights, pictures, 4, tmp_path, on_step=stop_at(1))
    for other, differing in (
        ((weights, pictures, 5), "epochs"),
        ((weights, pictures[1:], 4), "images"),
        ((quantized(weights_without_grids(weights), pictures[:32]), pictures, 4), "grids"),
    ):
        with pytest.raises(InvalidInput, match=f"is of another finetuning: its {differing} differ"):
            finetune(*other, tmp_path, resume=True)


def weights_without_grids(weights: Weights) -> Weights:
    return replace(weights, grids=None)


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "no step", "other tensors"])
def test_a_damaged_checkpoint_is_refused(
    weights: Weights, pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(finetuning, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        finetune(weights, pictures, 4, tmp_path, on_step=stop_at(1))
    path = tmp_path / FINETUNING
    content = torch.load(path, weights_only=True)
    if damage == "no step":
        torch.save({key: value for key, value in content.items() if key != "step"}, path)
    elif damage == "other tensors":
        torch.save(content | {"model": {"weights.0": torch.zeros(1)}}, path)
    else:
        path.write_bytes({"empty": b"", "text": b"no checkpoint", "truncated": path.read_bytes()[:4000]}[damage])
    with pytest.raises(InvalidInput) as caught:
        finetune(weights, pictures, 4, tmp_path, resume=True)
    assert "Remove it to start anew" in str(caught.value)
    assert str(caught.value).count("\n") < 2


def test_a_loss_that_is_no_number_ends_it(
    weights: Weights, pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "LEARNING_RATE", float("inf"))
    with pytest.raises(GateFailed, match=r"the loss became nan in step \d of 12"):
        finetune(weights, pictures, 4, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_did_not_come_nearer_is_not_kept(
    weights: Weights, pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "LEARNING_RATE", 50.0)
    found = finetune(weights, pictures, 1, tmp_path)
    assert not found.kept
    assert found.weights is weights
