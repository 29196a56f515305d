"""The float64 reference on a device: taken where the CPU says the same, and computed on the CPU where it does not.

The CPU stands in for the GPU; the test marked `cuda` wants a real one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cifar_export.commands.reports import parity_table
from cifar_export.gate.check import check
from cifar_export.gate.inputs import bundled_images
from cifar_export.gate.report import ParityReport
from cifar_export.networks.zoo import NETWORKS
from cifar_export.runtimes import why_missing
from cifar_export.runtimes.pytorch import Reference
from cifar_export.weights.core import Weights
from cifar_export.weights.sources import load_weights

PIXELS = {"real": bundled_images()[:12], "dark": bundled_images()[:3] // 16}
DEVICE = "cpu:0"  # the CPU by another name, which goes the way of a GPU
Change = Callable[[Any, Any], Any]


@pytest.fixture(scope="module")
def trained() -> Weights:
    return load_weights(NETWORKS["cifar10_resnet20"])


@pytest.fixture
def device_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Let the device answer otherwise: with what `change` makes of images and logits."""
    exact = Reference.logits

    def plant(change: Change) -> None:
        def logits(self: Reference, images: Any) -> Any:
            right = exact(self, images)
            return change(images, right) if self.device == DEVICE else right

        monkeypatch.setattr(Reference, "logits", logits)

    return plant


def proved(weights: Weights, on: str = DEVICE, said: list[str] | None = None) -> ParityReport:
    heard = [] if said is None else said
    return check(weights, "uint8", {}, ["pytorch"], PIXELS, progress=heard.append, reference_on=on)


def test_what_the_cpu_confirms_is_the_reference(trained: Weights) -> None:
    said: list[str] = []
    report = proved(trained, said=said)
    assert report.reference == "PyTorch float64, cpu:0, checked against the CPU"
    assert report.as_dict()["reference"] == report.reference
    assert report.runtimes == proved(trained, "cpu").runtimes
    assert said[-3:] == ["pytorch, 13 of 15 images", "pytorch, 15 of 15 images", "pytorch"]
    assert "float64 reference on cpu:0, 15 of 15 images" in said


def test_another_order_of_summation_is_no_reason(trained: Weights, device_that: Callable[[Change], None]) -> None:
    device_that(lambda images, logits: logits * (1 + 8 * np.finfo(np.float64).eps))
    assert proved(trained).reference == "PyTorch float64, cpu:0, checked against the CPU"


def off_by(error: float, batch: int) -> Change:
    return lambda images, logits: logits + error * (len(images) == batch)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_device_that_is_off_at_any_size_of_batch_is_not_believed(
    trained: Weights, device_that: Callable[[Change], None], batch: int
) -> None:
    device_that(off_by(1e-10, batch))
    report = proved(trained)
    assert report.reference.startswith("PyTorch float64, CPU, because cpu:0 is off by 1.0e-10 (real)")
    assert report.runtimes == proved(trained, "cpu").runtimes


def test_a_device_that_returns_no_numbers_or_fails_is_not_believed(
    trained: Weights, device_that: Callable[[Change], None], capsys: pytest.CaptureFixture[str]
) -> None:
    device_that(lambda images, logits: logits * np.nan)
    assert "CPU, because cpu:0 is off by nan" in proved(trained).reference

    def no_memory(images: Any, logits: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory\nand more")

    device_that(no_memory)
    report = proved(trained)
    assert report.reference == "PyTorch float64, CPU, because cpu:0 fails: out of memory"
    assert report.runtimes == proved(trained, "cpu").runtimes
    parity_table(report)
    assert report.reference in capsys.readouterr().err.replace("\n", " ")


def test_a_device_that_is_not_there_is_not_believed(trained: Weights) -> None:
    report = proved(trained, "cuda:63")
    assert report.reference.startswith("PyTorch float64, CPU, because cuda:63 fails: ")


@pytest.mark.parametrize(("missing", "names"), [("there is none", ["pytorch", "pytorch-cuda"]), (None, ["pytorch"])])
def test_without_a_gpu_or_a_runtime_on_it_the_cpu_computes_it(
    trained: Weights, monkeypatch: pytest.MonkeyPatch, missing: str | None, names: list[str]
) -> None:
    monkeypatch.setattr("cifar_export.gate.standard.why_missing", lambda name: missing)
    assert check(trained, "uint8", {}, names, PIXELS).reference == "PyTorch float64, CPU"


@pytest.mark.cuda
def test_a_gpu_computes_the_same_in_float64(trained: Weights, tmp_path: Path) -> None:
    missing = why_missing("pytorch-cuda")
    if missing is not None:
        pytest.skip(f"needs an NVIDIA GPU: {missing}")
    report = check(trained, "uint8", {}, ["pytorch", "pytorch-cuda"], PIXELS)
    assert report.reference == f"PyTorch float64, {torch.cuda.get_device_name(0)}, checked against the CPU"
    assert [row.state for row in report.runtimes] == ["yardstick", "yardstick"]
