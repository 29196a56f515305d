"""PyTorch as the yardstick: float32 in full, whatever the program around it has set, which gets it back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from cifar_export.runtimes.pytorch import Eager, Reference, full_float32


def settings() -> list[str]:
    backends = torch.backends
    return [holder.fp32_precision for holder in (backends.cudnn.conv, backends.cuda.matmul, *mkldnn())]


def mkldnn() -> tuple[object, ...]:
    return torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul


@pytest.fixture
def reduced() -> Iterator[list[str]]:
    """A program that lets PyTorch compute in TF32 and bfloat16 wherever it may."""
    holders = (torch.backends.cudnn.conv, torch.backends.cuda.matmul, *mkldnn())
    before = [holder.fp32_precision for holder in holders]
    try:
        for holder, precision in zip(holders, ("tf32", "tf32", "bf16", "bf16"), strict=True):
            holder.fp32_precision = precision
        yield settings()
    finally:
        for holder, precision in zip(holders, before, strict=True):
            holder.fp32_precision = precision


class Spy(torch.nn.Module):
    """Takes down the settings under which it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen = settings()
        return images.flatten(1)[:, :10]


def test_a_network_runs_in_full_float32_and_the_program_keeps_its_settings(reduced: list[str]) -> None:
    assert reduced == ["tf32", "tf32", "bf16", "bf16"]
    spy = Spy().eval()
    Eager(spy, "cpu").logits(np.zeros((2, 3, 32, 32), np.float32))
    assert spy.seen == ["ieee"] * 4
    assert settings() == reduced


def test_settings_come_back_after_an_error_too(reduced: list[str]) -> None:
    def fail() -> None:
        with full_float32():
            assert settings() == ["ieee"] * 4
            raise RuntimeError("out of cheese")

    with pytest.raises(RuntimeError, match="out of cheese"):
        fail()
    assert settings() == reduced


def test_the_reference_is_float64() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).double().eval()
    images = np.random.default_rng(0).normal(size=(2, 3, 2, 2)).astype(np.float32)
    logits = Reference(network).logits(images)
    weight, bias = (parameter.detach().numpy() for parameter in network.parameters())
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, images.reshape(2, 12).astype(np.float64) @ weight.T + bias, rtol=1e-12)
