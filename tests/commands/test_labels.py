"""`--labels`: a checkpoint with classes of its own is exported, proved and asked without any data set."""

import json

import onnx
import pytest
import torch
from PIL import Image

from cifar_export.networks.zoo import CIFAR10, DatasetSpec, NetworkSpec, model
from cifar_export.weights.seeded import random_weights

LABELS = ("circle", "square", "star", "große Ellipse", "猫")
SPEC = NetworkSpec(model("resnet8"), DatasetSpec("shapes", "shapes", LABELS, CIFAR10.normalization))
GIVEN = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"]


@pytest.fixture
def mine(tmp_path):
    """Options for weights of five classes."""
    torch.save({"net": random_weights(SPEC, 0).state}, tmp_path / "mine.pt")
    (tmp_path / "shapes.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    return ["--labels", tmp_path / "shapes.txt", "--weights", tmp_path / "mine.pt"]


def test_the_file_names_the_labels(run, mine, tmp_path):
    output = tmp_path / "out.onnx"
    result = run("onnx", "resnet8", *mine, *GIVEN, "--output", output, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["parity"]["passed"] is True
    properties = {entry.key: entry.value for entry in onnx.load(output).metadata_props}
    assert json.loads(properties["labels"]) == list(LABELS)
    assert (properties["dataset"], properties["model"]) == ("shapes", "resnet8")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    found = json.loads(run("predict", output, tmp_path / "red.png", "--json").stdout)
    same = json.loads(run("predict", "resnet8", tmp_path / "red.png", *mine, *GIVEN, "--json").stdout)
    assert {guess["label"] for guess in found[0]["top"]} == set(LABELS)
    assert [guess["label"] for guess in found[0]["top"]] == [guess["label"] for guess in same[0]["top"]]


def test_the_default_name_is_that_of_the_labels(run, mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = json.loads(run("onnx", "resnet8", *mine, *GIVEN, "--no-check", "--json").stdout)["path"]
    assert path == "artifacts/exports/shapes_resnet8.onnx"


def test_parity_of_weights_and_file(run, mine, tmp_path):
    output, page = tmp_path / "out.onnx", tmp_path / "page.html"
    assert run("onnx", "resnet8", *mine, *GIVEN, "--output", output, "--no-check").exit_code == 0
    options = [*mine, *GIVEN, "--runtime", "onnxruntime-cpu", "--file", output, "--report", page]
    result = run("parity", "resnet8", *options)
    assert result.exit_code == 0, result.stderr
    assert "class 0" in page.read_text(encoding="utf-8")
    other = tmp_path / "others.txt"
    other.write_text("a\nb\nc\nd\ne\n")
    result = run("parity", "resnet8", *mine[2:], *GIVEN, "--labels", other, "--file", output)
    assert result.exit_code == 1
    assert "other labels" in result.stderr


def test_another_number_of_labels_is_exit_code_2(run, mine, tmp_path):
    (tmp_path / "shapes.txt").write_text("a\nb\n")
    result = run("onnx", "resnet8", *mine, *GIVEN)
    assert result.exit_code == 2
    assert "fc.weight has shape (5, 64), expected (2, 64)" in result.stderr
    result = run("onnx", "resnet8", *mine[2:], *GIVEN)
    assert "give --labels FILE" in result.stderr


def test_what_labels_cannot_do_is_said(run, mine, tmp_path):
    for options, message in [
        ([*mine, *GIVEN, "--dataset", "cifar10"], "--labels and --dataset both name classes"),
        (mine, "--mean R,G,B and --std R,G,B"),
        ([*mine[:2]], "not for bundled ones"),
        ([*mine, *GIVEN, "--check-accuracy", "50", "--data-dir", tmp_path], "there are no images of shapes"),
    ]:
        result = run("onnx", "resnet8", *options)
        assert result.exit_code == 2
        assert message in result.stderr
    result = run("evaluate", "resnet8", *mine, *GIVEN, "--data-dir", tmp_path)
    assert result.exit_code == 2
    assert "there are no images of shapes" in result.stderr
