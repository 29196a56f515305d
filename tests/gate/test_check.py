"""Every runtime gets its row."""

from typing import Any

import numpy as np
import pytest

from cifar_export.gate.check import check
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.zoo import network
from cifar_export.weights.seeded import random_weights


def test_a_crashing_runtime_is_a_row_not_the_end(weights20, exported, monkeypatch):
    from cifar_export.runtimes import torchscript

    files = {"onnx": exported("onnx", "uint8", 17).path, "torchscript": exported("torchscript", "uint8").path}

    def crash(self, images):
        raise RuntimeError("out of cheese\nand more")

    monkeypatch.setattr(torchscript.TorchScript, "logits", crash)
    report = check(weights20, "uint8", files, ["torchscript", "onnxruntime-cpu"], {"real": bundled_images()[:8]})
    crashed, other = report.runtimes
    assert (crashed.state, crashed.reason) == ("failed", "crashed: RuntimeError: out of cheese")
    assert other.state == "passed"
    assert not report.passed


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_who_waits_hears_how_many_images_the_reference_has_seen(precision: Any) -> None:
    weights, heard = random_weights(network("resnet8", "cifar10"), seed=1), []
    pixels = {"noise": np.zeros((70, 32, 32, 3), np.uint8)}
    check(weights, "float32", {}, ["pytorch"], pixels, precision=precision, progress=heard.append)
    said = [line for line in heard if line.startswith("float64")]
    assert len(said) > 2
    assert said[0] in ("float64 reference", "float64 simulation of float16")
    assert said[-1] == "float64 reference, 70 of 70 images"
