"""Faults planted in int8 and float16 files: each is refused; files as they are written pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cifar_export.diagnosis.locate_half import locate_half
from cifar_export.diagnosis.locate_int8 import locate_int8
from cifar_export.errors import InvalidInput
from cifar_export.exporting.precision import prepared, quantized
from cifar_export.formats.onnx_choices import OnnxChoices, Precision
from cifar_export.formats.onnx_graph import onnx_model
from cifar_export.gate.check import check
from cifar_export.gate.inputs import bundled_images, few_of_each
from cifar_export.gate.report import ParityReport
from cifar_export.networks.zoo import NETWORKS
from cifar_export.weights.core import Weights, build_network
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

Change = Callable[[onnx.ModelProto], None]
JUDGE = "onnxruntime-cpu"


@pytest.fixture(scope="module")
def trained() -> Weights:
    return prepared(load_weights(NETWORKS["cifar10_resnet20"]), "int8")


def _judged(weights: Weights, precision: Precision, folder: Path, change: Change | None = None) -> ParityReport:
    """The gate's report on a file of `weights`, changed."""
    model = onnx_model(build_network(weights), "n", OnnxChoices(precision=precision), weights.grids)
    if change is not None:
        change(model)
    file = folder / "model.onnx"
    file.write_bytes(model.SerializeToString())
    return check(weights, "float32", {"onnx": file}, [JUDGE], few_of_each(), precision=precision)


def _constant(name: str, change: Callable[[Any], Any]) -> Change:
    """Replace the constant called `name`."""

    def plant(model: onnx.ModelProto) -> None:
        (tensor,) = (one for one in model.graph.initializer if one.name == name)
        before = numpy_helper.to_array(tensor)
        after = np.asarray(change(before.copy())).astype(before.dtype)
        assert not np.array_equal(before, after)
        tensor.CopyFrom(numpy_helper.from_array(after, name))

    return plant


def _bfloat16(numbers: Any) -> Any:
    """float16 numbers with the seven bits of mantissa that bfloat16 has."""
    return (numbers.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _read_as(value: str, part: int, name: str) -> Change:
    """Let DequantizeLinear of `value` read another constant than QuantizeLinear."""

    def plant(model: onnx.ModelProto) -> None:
        (node,) = (one for one in model.graph.node if one.name == f"{value}.dequantize")
        node.input[part] = name

    return plant


# a fault, and the node that is to be named for it
FAULTS: dict[str, tuple[Change, str]] = {
    "another zero point": (_read_as("layer2.1.conv2", 2, "layer1.0.conv2.zero_point"), "layer2.1.conv2.dequantize"),
    "a zero point of none": (_read_as("input", 2, "conv1.relu.zero_point"), "input.dequantize"),
    "one scale for all channels": (
        _constant("layer2.0.conv1.weight.scale", lambda a: np.full_like(a, a.max())),
        "layer2.0.conv1",
    ),
    "scales in another order": (_constant("layer3.2.conv2.weight.scale", lambda a: a[::-1]), "layer3.2.conv2"),
    "the scale of another value": (_read_as("layer1.1.relu", 1, "layer3.0.relu.scale"), "layer1.1.relu.dequantize"),
    "a bias on another grid": (_constant("layer1.2.conv1.bias.steps", lambda a: a // 2), "layer1.2.conv1"),
    "a bias without its correction": (_constant("fc.bias.steps", lambda a: a * 1.2), "fc"),
    "weights of another sign": (_constant("conv1.weight.steps", lambda a: -a), "conv1"),
    "a weight a step off everywhere": (
        _constant("layer3.1.conv1.weight.steps", lambda a: np.clip(a + 1, -64, 64)),
        "layer3.1.conv1",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_int8_file_with_a_fault_is_refused(fault: str, trained: Weights, tmp_path: Path) -> None:
    change, node = FAULTS[fault]
    report = _judged(trained, "int8", tmp_path, change)
    assert not report.passed
    (failure,) = report.failures
    assert failure.startswith(f"{JUDGE}: ")
    assert " exceeds " in failure
    found = locate_int8(trained, tmp_path / "model.onnx", "float32", few_of_each()["real"]).divergence
    assert found is not None
    assert (found.node, found.kind) == (node, "numbers")
    said = " is not the network's" if any("steps" in one.name for one in found.weights) else "it reads "
    assert said in found.reason


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_a_file_as_it_is_written_passes(precision: Precision, trained: Weights, tmp_path: Path) -> None:
    report = _judged(trained, precision, tmp_path)
    assert report.failures == []
    assert report.as_dict()["precision"] == precision


@pytest.mark.parametrize(
    ("change", "node"),
    [
        (_constant("layer2.0.conv1.weight", lambda a: _bfloat16(a)), "layer2.0.conv1"),
        (_constant("layer3.2.conv2.bias", lambda a: a + np.float16(0.05)), "layer3.2.conv2"),
        (_constant("fc.weight", lambda a: a[::-1]), "fc"),
    ],
    ids=["bfloat16 weights", "a bias that moved", "rows in another order"],
)
def test_a_float16_file_with_a_fault_is_refused(change: Change, node: str, trained: Weights, tmp_path: Path) -> None:
    assert not _judged(trained, "float16", tmp_path, change).passed
    found = locate_half(trained, tmp_path / "model.onnx", "float32", few_of_each()["real"]).divergence
    assert found is not None
    assert (found.node, found.kind) == (node, "numbers")


def test_kernels_that_saturate_are_refused(trained: Weights, tmp_path: Path) -> None:
    """What processors without VNNI do to weights of 8 bits, in the one layer where it is worst: sums are cut off."""
    eight = quantized(trained_floats(trained), bundled_images()[:64], weight_bits=8)
    grids = eight.grids
    assert grids is not None

    def saturating(model: onnx.ModelProto) -> None:
        # pairs of products that cannot exceed 32,767: as if the larger weight of each pair were smaller
        _constant("layer2.1.conv1.weight.steps", lambda a: np.clip(a, -64, 64))(model)

    assert _judged(eight, "int8", tmp_path).passed
    assert not _judged(eight, "int8", tmp_path, saturating).passed


def trained_floats(weights: Weights) -> Weights:
    return replace(weights, grids=None)


def test_an_int8_file_cannot_be_checked_without_its_grids(trained: Weights, tmp_path: Path) -> None:
    model = onnx_model(build_network(trained), "n", OnnxChoices(precision="int8"), trained.grids)
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidInput, match="cannot be checked without its grids"):
        check(trained_floats(trained), "float32", {"onnx": file}, [JUDGE], few_of_each(), precision="int8")


def test_a_runtime_that_reads_no_int8_is_not_run(trained: Weights, tmp_path: Path) -> None:
    model = onnx_model(build_network(trained), "n", OnnxChoices(precision="int8"), trained.grids)
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    names = ["opencv", "pytorch", JUDGE]
    report = check(trained, "float32", {"onnx": file}, names, few_of_each(), precision="int8")
    states = {row.runtime: (row.state, row.reason) for row in report.runtimes}
    assert states["opencv"] == states["pytorch"] == ("not_run", "it runs no int8 files")
    assert states[JUDGE] == ("passed", None)


@pytest.mark.parametrize("seed", range(6))
def test_correct_files_of_seeded_networks_pass(seed: int, tmp_path: Path) -> None:
    spec = NETWORKS["cifar10_resnet20"]
    weights = quantized(random_weights(spec, seed), bundled_images()[:32])
    assert _judged(weights, "int8", tmp_path).failures == []
