"""The first wrong node of a float16 file: named where there is one, and none where every node rounds as it should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result

from cifar_export.diagnosis.locate_half import locate_half
from cifar_export.exporting.artifact import export
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.gate.inputs import few_of_each
from cifar_export.networks.preprocess import Pixels
from cifar_export.networks.zoo import NETWORKS, InputVariant
from cifar_export.weights.core import Weights
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.planting import Change, edit, node, plant

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def trained() -> Weights:
    return load_weights(NETWORKS["cifar10_resnet20"])


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return np.concatenate([images[:4] for images in few_of_each().values()])


@pytest.fixture(scope="module")
def file(trained: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(trained, tmp_path_factory.mktemp("float16"))


def written(weights: Weights, folder: Path, variant: InputVariant = "float32", **choices: object) -> Path:
    chosen = OnnxChoices(precision="float16", **choices)  # type: ignore[arg-type]
    output = folder / f"{variant}.onnx"
    return export(weights, "onnx", variant=variant, choices=chosen, output=output, checked=False).path


@pytest.mark.parametrize(
    ("variant", "choices"),
    [
        ("float32", {"layout": "nhwc", "pooling": "average"}),
        ("uint8", {"opset": 13, "pooling": "reduce-mean", "classifier": "matmul"}),
        ("unit", {"batch": 3}),
        ("float32", {"io": "float16"}),
        ("uint8", {"io": "float16", "classifier": "matmul"}),
    ],
)
def test_a_file_as_it_is_written_diverges_nowhere(
    trained: Weights, pixels: Pixels, tmp_path: Path, variant: InputVariant, choices: dict[str, object]
) -> None:
    assert locate_half(trained, written(trained, tmp_path, variant, **choices), variant, pixels).divergence is None


@pytest.mark.parametrize("seed", range(3))
def test_files_of_seeded_networks_diverge_nowhere(seed: int, pixels: Pixels, tmp_path: Path) -> None:
    weights = random_weights(NETWORKS["cifar100_resnet20"], seed)
    assert locate_half(weights, written(weights, tmp_path), "float32", pixels).divergence is None


def reads(name: str, part: int, value: str) -> Change:
    """Let the node of that name read another value."""

    def change(model: onnx.ModelProto) -> None:
        node(model, name).input[part] = value

    return change


def one_step_of_one_weight(weights: np.ndarray) -> np.ndarray:
    """The largest weight, a step of float16 off."""
    largest = np.abs(weights).argmax()
    weights.flat[largest] = np.nextafter(weights.flat[largest], np.float16(0))
    return weights


@pytest.mark.parametrize(
    ("change", "named", "said"),
    [
        (
            edit("layer2.1.conv2.weight", one_step_of_one_weight),
            "layer2.1.conv2",
            "layer2.1.conv2.weight is not the network's",
        ),
        (
            edit("conv1.bias", lambda bias: bias * np.float16(1.01)),
            "conv1",
            "conv1.bias is not the network's",
        ),
        (
            reads("layer1.1.add", 1, "layer1.1.conv2"),
            "layer1.1.add",
            "it reads layer1.1.conv2, not layer1.0.relu",
        ),
        (reads("flatten", 0, "layer3.2.relu"), "flatten", "its output has another shape"),
        (edit("fc.bias", lambda bias: bias[::-1]), "fc", "fc.bias is not the network's"),
        (
            edit("layer3.0.downsample.0.weight", lambda weights: weights * np.float16(np.nan)),
            "layer3.0.downsample.0",
            "NaN or infinite values",
        ),
    ],
    ids=["one step of one weight", "a hundredth of a bias", "shortcut", "flatten", "classifier", "NaN"],
)
def test_the_node_is_named_and_what_is_wrong_with_it(
    trained: Weights, file: Path, pixels: Pixels, tmp_path: Path, change: Change, named: str, said: str
) -> None:
    found = locate_half(trained, plant(file, tmp_path / "a.onnx", change), "float32", pixels).divergence
    assert found is not None
    assert found.node == named
    assert said in found.reason


def test_parity_names_the_node(run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_export.diagnosis.prove.input_sets", few_of_each)
    wrong = plant(file, tmp_path / "a.onnx", edit("layer1.2.conv1.bias", lambda bias: bias + np.float16(0.5)))
    done = run("parity", "resnet20", "--file", wrong, "--runtime", "onnxruntime-cpu", "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)["divergence"]
    assert (found["node"], found["op"], found["kind"]) == ("layer1.2.conv1", "Conv", "numbers")
    assert [weight["name"] for weight in found["weights"] if weight["differs"]] == ["layer1.2.conv1.bias"]
