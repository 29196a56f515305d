"""The first wrong node of an int8 file: named where there is one, and none where every node does what the grids say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result

from cifar_export.diagnosis.locate_int8 import locate_int8
from cifar_export.diagnosis.prove import prove
from cifar_export.errors import InvalidInput
from cifar_export.exporting.artifact import export
from cifar_export.exporting.precision import prepared, quantized
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.gate.inputs import bundled_images, few_of_each
from cifar_export.networks.preprocess import Pixels
from cifar_export.networks.zoo import NETWORKS, InputVariant
from cifar_export.weights.core import Weights
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.bad_runtimes import put_into_table
from support.planting import Change, edit, node, plant

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def trained() -> Weights:
    return prepared(load_weights(NETWORKS["cifar10_resnet20"]), "int8")


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return np.concatenate([images[:8] for images in few_of_each().values()])


@pytest.fixture(scope="module")
def file(trained: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(trained, tmp_path_factory.mktemp("int8"))


def written(weights: Weights, folder: Path, variant: InputVariant = "float32", **choices: object) -> Path:
    chosen = OnnxChoices(precision="int8", **choices)  # type: ignore[arg-type]
    output = folder / f"{variant}.onnx"
    return export(weights, "onnx", variant=variant, choices=chosen, output=output, checked=False).path


@pytest.mark.parametrize(
    ("variant", "choices"),
    [
        ("float32", {"layout": "nhwc", "pooling": "average"}),
        ("uint8", {"opset": 13, "pooling": "reduce-mean"}),
        ("uint8", {"batch": 3}),
        ("unit", {"batch": 64}),
    ],
)
def test_a_file_as_it_is_written_diverges_nowhere(
    trained: Weights, pixels: Pixels, tmp_path: Path, variant: InputVariant, choices: dict[str, object]
) -> None:
    assert locate_int8(trained, written(trained, tmp_path, variant, **choices), variant, pixels).divergence is None


@pytest.mark.parametrize(("bits", "scheme"), [(7, "per-tensor"), (7, "power-of-two"), (8, "per-channel")])
def test_other_grids_diverge_nowhere(pixels: Pixels, tmp_path: Path, bits: int, scheme: str) -> None:
    weights = quantized(
        random_weights(NETWORKS["cifar10_resnet20"], 4),
        bundled_images()[:32],
        weight_bits=bits,
        scheme=scheme,  # type: ignore[arg-type]
    )
    assert locate_int8(weights, written(weights, tmp_path), "float32", pixels).divergence is None


def reads(name: str, part: int, constant: str) -> Change:
    """Let the node of that name read another constant."""

    def change(model: onnx.ModelProto) -> None:
        node(model, name).input[part] = constant

    return change


def one_step_of_one_weight(steps: np.ndarray) -> np.ndarray:
    steps.flat[0] += 1 if steps.flat[0] < 64 else -1
    return steps


@pytest.mark.parametrize(
    ("change", "named", "said"),
    [
        (
            reads("layer2.0.conv1.relu.quantize", 1, "input.scale"),
            "layer2.0.conv1.relu.quantize",
            "it reads input.scale, not layer2.0.conv1.relu.scale",
        ),
        (reads("flatten.quantize", 1, "input.scale"), "flatten.quantize", "it reads input.scale, not flatten.scale"),
        (reads("layer1.1.add", 1, "layer1.1.conv2.dequantize"), "layer1.1.relu.quantize", "steps exceeds"),
        (
            edit("layer3.0.downsample.0.weight.steps", one_step_of_one_weight),
            "layer3.0.downsample.0",
            "weight.steps is not",
        ),
        (
            edit("fc.weight.scale", lambda scales: scales * np.float32(1.001)),
            "fc",
            "fc.weight.scale is not the network's",
        ),
    ],
    ids=["step", "flatten", "shortcut", "one step of one weight", "a thousandth of a scale"],
)
def test_the_node_is_named_and_what_is_wrong_with_it(
    trained: Weights, file: Path, pixels: Pixels, tmp_path: Path, change: Change, named: str, said: str
) -> None:
    found = locate_int8(trained, plant(file, tmp_path / "a.onnx", change), "float32", pixels).divergence
    assert found is not None
    assert (found.node, found.kind) == (named, "numbers")
    assert said in found.reason


def test_what_onnx_runtime_refuses_is_named(trained: Weights, file: Path, pixels: Pixels, tmp_path: Path) -> None:
    change = reads("layer1.0.conv2", 0, "nowhere")
    found = locate_int8(trained, plant(file, tmp_path / "a.onnx", change), "float32", pixels).divergence
    assert found is not None
    assert (found.node, found.kind) == ("layer1.0.conv2", "refused")


def test_without_grids_there_is_nothing_to_compare_with(file: Path, pixels: Pixels) -> None:
    with pytest.raises(InvalidInput, match="without its grids"):
        locate_int8(load_weights(NETWORKS["cifar10_resnet20"]), file, "float32", pixels)


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer images than a parity run has, for the simulation takes its time."""
    monkeypatch.setattr("cifar_export.diagnosis.prove.input_sets", few_of_each)


@pytest.mark.usefixtures("_few")
def test_parity_names_the_node(run: Run, file: Path, tmp_path: Path) -> None:
    wrong = plant(file, tmp_path / "a.onnx", edit("layer1.2.conv1.bias.steps", lambda steps: steps // 2))
    command = ("parity", "resnet20", "--file", wrong, "--runtime", "onnxruntime-cpu")
    done = run(*command, "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)["divergence"]
    assert (found["node"], found["op"], found["kind"]) == ("layer1.2.conv1", "Conv", "numbers")
    differing = [weight["name"] for weight in found["weights"] if weight["differs"]]
    assert differing == ["layer1.2.conv1.bias.steps"]


@pytest.mark.usefixtures("_few")
def test_eight_bits_that_only_a_processor_gets_wrong_are_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The runtime is wrong although each node is right."""
    weights = quantized(random_weights(NETWORKS["cifar10_resnet20"], 4), bundled_images()[:32], weight_bits=8)
    put_into_table(monkeypatch, "onnxruntime-cpu", "Zeros")
    report = prove(weights, runtimes=["onnxruntime-cpu"], file=written(weights, tmp_path))
    assert not report.passed
    assert report.divergence is None
    assert report.problems == (
        "each node of the file alone is right, but its weights have 8 bits, and processors without VNNI add their "
        "products in 16 bits that saturate. Export it with --weight-bits 7",
    )
