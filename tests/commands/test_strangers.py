"""ONNX files of others: run by what their users say, proved only against their weights, and nothing guessed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import Result
from onnx import TensorProto, helper

from cifar_export.exporting.artifact import export
from cifar_export.networks.zoo import Normalization, named
from cifar_export.weights.core import Weights
from cifar_export.weights.seeded import random_weights

from support.schemas import checker
from support.shapes import LABELS, write_shapes

Run = Callable[..., Result]
SPEC = named("cifar10_resnet8")
CPU = ("--runtime", "onnxruntime-cpu")
SAID = ("--mean", "0.49,0.48,0.45", "--std", "0.2,0.2,0.2")
Change = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def weights() -> Weights:
    given = Normalization((0.49, 0.48, 0.45), (0.2, 0.2, 0.2))
    return Weights(SPEC, random_weights(SPEC, 4).state, given, "file", "0" * 64)


@pytest.fixture(scope="module")
def theirs(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A file that says nothing of itself, of an input variant, changed by a function."""
    folder = tmp_path_factory.mktemp("theirs")

    def make(name: str = "theirs", variant: Any = "float32", change: Change | None = None) -> Path:
        path = folder / f"{name}.onnx"
        if not path.exists():
            export(weights, "onnx", variant=variant, output=path, checked=False)
            model = onnx.load(path)
            del model.metadata_props[:]
            if change is not None:
                change(model)
            onnx.save(model, path)
        return path

    return make


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of ten classes: five are not there, but have labels."""
    folder = write_shapes(tmp_path_factory.mktemp("data") / "shapes", 1, 4)
    for number in range(10 - len(LABELS)):
        home = folder / "train" / f"none {number}"
        home.mkdir()
        (home / "0.png").write_bytes(next((folder / "train" / LABELS[0]).iterdir()).read_bytes())
    return folder


def fixed(model: onnx.ModelProto) -> None:
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def opened(model: onnx.ModelProto) -> None:
    for place, dim in enumerate(model.graph.input[0].type.tensor_type.shape.dim):
        dim.dim_param = f"side{place}"


def channels_first(model: onnx.ModelProto) -> None:
    """Pixels, uint8 (batch, 3, 32, 32)."""
    graph = model.graph
    last = graph.input[0].name
    nodes = [helper.make_node("Transpose", ["first"], [last], perm=[0, 2, 3, 1]), *graph.node]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("first", TensorProto.UINT8, ["batch", 3, 32, 32]))
    del graph.node[:]
    graph.node.extend(nodes)


def test_it_is_scored_by_what_its_user_says_in_any_form(
    run: Run, theirs: Callable[..., Path], shapes: Path, tmp_path: Path
) -> None:
    forms: list[tuple[Path, list[str]]] = [
        (theirs(), [*SAID]),
        (theirs("one", change=fixed), [*SAID]),
        (theirs("open", change=opened), [*SAID, "--layout", "nchw"]),
        (theirs("unit", "unit"), ["--input", "unit"]),
        (theirs("pixels", "uint8"), []),
        (theirs("first", "uint8", channels_first), ["--layout", "nchw"]),
    ]
    answers = []
    for file, said in forms:
        done = run("evaluate", file, "--dataset", shapes, *said, "--json")
        assert done.exit_code == 0, done.stderr
        answers.append(json.loads(done.stdout))
    assert {answer["images"] for answer in answers} == {20}
    assert len({(answer["top1"], answer["top5"]) for answer in answers}) == 1
    assert "a foreign file, theirs.onnx" in run("evaluate", theirs(), "--dataset", shapes, *SAID).stdout


def test_what_is_not_said_or_contradicts_the_file_is_refused(
    run: Run, theirs: Callable[..., Path], tmp_path: Path
) -> None:
    labels = tmp_path / "ten.txt"
    labels.write_text("\n".join("abcdefghij"))
    ten = ("--dataset", "cifar10")
    for command, file, options, said in [
        ("evaluate", theirs(), [*SAID], "does not say its classes. Add --dataset, or --labels FILE"),
        ("evaluate", theirs(), [*ten], "does not say how its images are normalized"),
        ("evaluate", theirs(), [*SAID, "--labels", labels], "there are no images of ten, only its labels"),
        ("evaluate", theirs(), [*SAID, *ten, "--labels", labels], "both name classes"),
        ("evaluate", theirs(), [*SAID, *ten, "--all-runtimes"], "needs the weights of"),
        ("evaluate", theirs(), [*SAID, *ten, "--weights", "random"], "Add --weights PATH"),
        ("evaluate", theirs("pixels", "uint8"), [*SAID, *ten], "which it normalizes itself. Leave --mean and --std"),
        ("evaluate", theirs("open", change=opened), [*SAID, *ten], "Say --layout nchw or nhwc"),
        ("onnx", theirs(), [], "is exported already. Name a network, or the folder of a run"),
        ("package", theirs(), ["--version", "1.0.0"], "is exported already. Name a network with --weights"),
        ("predict", theirs(), [Path(__file__).parent, *SAID, "--dataset", "cifar10"], "no pictures in this folder"),
        ("parity", theirs(), [*SAID, "--file", theirs()], "both name a file"),
        ("evaluate", theirs(), [*SAID, "--file", theirs()], "both name a file"),
        ("parity", theirs(), [], "does not say how its images are normalized"),
        ("parity", theirs(), [*SAID, "--key", "ema"], "--key is for weights"),
        ("parity", theirs(), [*SAID, "--report", tmp_path / "a.html"], "needs the weights of"),
        ("parity", theirs(), [*SAID, "--layout", "nhwc"], "which is not nhwc of 32×32"),
        ("parity", theirs(), [*SAID, "--runtime", "torchscript"], "torchscript does not read theirs.onnx"),
        ("parity", "resnet20", ["--layout", "nhwc"], "--layout is for an ONNX file of somebody else"),
        ("predict", "resnet20", [theirs(), "--layout", "nhwc"], "--layout is for an ONNX file of somebody else"),
    ]:
        refused = run(command, file, *options)
        assert (refused.exit_code, refused.stdout) == (2, ""), (options, refused.stderr)
        assert said in refused.stderr


def test_without_its_weights_nothing_is_proved(run: Run, theirs: Callable[..., Path], tmp_path: Path) -> None:
    two = (*CPU, "--runtime", "onnx-reference")
    done = run("parity", theirs(), *SAID, *two, "--json")
    assert done.exit_code == 1
    first, *_, last = done.stderr.splitlines()
    assert first.startswith("note: the weights of ")
    assert "cannot be compared with PyTorch" in first
    assert last == "error: nothing was proved. Add --weights PATH for a proof."
    document = json.loads(done.stdout)
    checker("differences-1")(document)
    assert document["proved"] is False
    cpu, reference = document["runtimes"]
    assert (cpu["runtime"], cpu["state"], cpu["max_abs_difference"], cpu["images"]) == (CPU[1], "first", 0, 266)
    assert (reference["state"], reference["top1_agreement"], reference["images"]) == ("reported", 1, 32)
    assert 0 < reference["max_abs_difference"] < 1e-3
    few = tmp_path / "few.txt"
    few.write_text("a\nb\n")
    wrong = run("parity", theirs("one", change=fixed), *SAID, *CPU, "--labels", few)
    assert wrong.exit_code == 1
    assert "error: onnxruntime-cpu: returns 10 classes, not 2" in wrong.stderr
    assert "nothing was proved" in wrong.stderr


def test_with_its_weights_it_is_proved_whatever_its_depth(
    run: Run, weights: Weights, theirs: Callable[..., Path], tmp_path: Path
) -> None:
    torch.save({"net": weights.state, "ema": random_weights(SPEC, 5).state}, tmp_path / "theirs.pt")
    given = ["--weights", tmp_path / "theirs.pt", *SAID, *CPU, "--json"]
    assert "Choose one with --key" in run("parity", theirs(), *given).stderr
    done = run("parity", theirs(), *given, "--key", "net")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["network"] == "cifar10_resnet8"
    other = run("parity", theirs(), *given, "--key", "ema")
    assert (other.exit_code, json.loads(other.stdout)["passed"]) == (1, False)
    torch.save({"a": torch.zeros(3)}, tmp_path / "theirs.pt")
    assert "theirs.pt" in run("parity", theirs(), *given).stderr


def test_pixels_are_turned_and_not_reshaped(theirs: Callable[..., Path]) -> None:
    from cifar_export.formats.onnx_layout import laid_out
    from cifar_export.runtimes import open_runtime

    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    with (
        laid_out(theirs("first", "uint8", channels_first), "nchw") as copy,
        open_runtime(CPU[1], copy) as turned,
        open_runtime(CPU[1], theirs("pixels", "uint8")) as plain,
    ):
        assert np.array_equal(turned.logits(images), plain.logits(images))
    assert not copy.exists()
