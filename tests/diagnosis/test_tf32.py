"""Whether a TorchScript file computes in full float32; the CPU, which has no TF32, stands in for a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cifar_export.diagnosis import tf32 as room
from cifar_export.diagnosis.tf32 import tf32
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.zoo import network
from cifar_export.runtimes import why_missing
from cifar_export.weights.core import Weights
from cifar_export.weights.seeded import random_weights

PIXELS = {"real": bundled_images()[:10]}


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights(network("resnet8", "cifar10"), seed=0)


def rounded(weights: Weights) -> Weights:
    """The weights as TF32 takes them: ten bits behind the point."""
    state = {name: part.clone() for name, part in weights.state.items()}
    for name, part in state.items():
        if part.ndim == 4:
            state[name] = (part.view(torch.int32) + 0x1000 & ~0x1FFF).view(torch.float32)
    return replace(weights, state=state)


def test_a_file_in_full_float32_is_told_from_one_in_tf32(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.backends.cudnn.conv.fp32_precision
    full = tf32(weights, "float32", PIXELS, "cpu")
    assert full.is_off
    assert 0 < full.file.share_of_allowed <= 1
    subject = room.Subject
    monkeypatch.setattr(room, "Subject", lambda given, variant: subject(rounded(given), variant))
    reduced = tf32(weights, "float32", PIXELS, "cpu")
    assert not reduced.is_off
    assert reduced.file.share_of_allowed > 10
    assert torch.backends.cudnn.conv.fp32_precision == before


def test_a_file_that_returns_no_number_is_none_in_full_float32(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(weights, state=weights.state | {"fc.bias": torch.full((10,), torch.nan)})
    subject = room.Subject
    monkeypatch.setattr(room, "Subject", lambda given, variant: subject(broken, variant))
    assert not tf32(weights, "uint8", {**PIXELS, "last": PIXELS["real"][:2]}, "cpu").is_off


@pytest.mark.cuda
def test_on_a_gpu_the_file_keeps_to_float32_where_the_network_does_not(weights: Weights) -> None:
    missing = why_missing("pytorch-cuda")
    if missing is not None:
        pytest.skip(f"needs an NVIDIA GPU: {missing}")
    found = tf32(weights, "float32", PIXELS, "cuda:0")
    assert found.is_off
    if torch.cuda.get_device_capability(0) >= (8, 0):  # the first ones that have TF32
        assert found.network.share_of_allowed > 1
