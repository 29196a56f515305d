"""`onnx --check-accuracy`: a file appears under its name only if it is as accurate as was asked."""

import json

import numpy as np
import pytest

from cifar_export.data import Split
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.zoo import NETWORKS
from cifar_export.runtimes import open_runtime
from cifar_export.weights.core import build_network
from cifar_export.weights.seeded import random_weights

SPEC = NETWORKS["cifar10_resnet20"]


@pytest.fixture
def three_of_four(monkeypatch):
    """A test set whose labels are what seeded weights answer, but for every fourth image."""
    from cifar_export import data
    from cifar_export.networks.preprocess import as_variant

    pixels = bundled_images()[:40]
    weights = random_weights(SPEC, 0)
    with open_runtime("pytorch", build_network(weights)) as runtime:
        labels = runtime.logits(as_variant(pixels, "float32", weights.normalization)).argmax(1)
    labels = np.where(np.arange(40) % 4 == 0, (labels + 1) % 10, labels)
    monkeypatch.setattr(data, "load_split", lambda folder, dataset, part: Split(pixels, labels))


@pytest.fixture
def onnx(run, tmp_path, weights20_file):
    def call(*options):
        output = tmp_path / "a.onnx"
        return run("onnx", "resnet20", "--weights", weights20_file, "--output", output, "--no-check", *options), output

    return call


def test_a_file_that_is_accurate_enough_appears_with_its_figure(onnx, three_of_four):
    result, output = onnx("--check-accuracy", 75, "--json")
    assert result.exit_code == 0, result.stderr
    accuracy = json.loads(result.stdout)["accuracy"]
    assert (accuracy["top1"], accuracy["images"]) == (75.0, 40)
    assert output.is_file()
    assert "top-1 75.00 % on 40 images" in onnx("--check-accuracy", "74.99")[0].stdout


def test_a_file_that_is_not_is_exit_code_1_and_leaves_the_older_one(onnx, three_of_four, tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"older")
    result, output = onnx("--check-accuracy", 75.01)
    assert result.exit_code == 1
    assert "top-1 is 75.00 % on 40 images, not 75.01 % or more. Nothing was written." in result.stderr
    assert output.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.parametrize("options", [["--batch", 8], ["--layout", "nhwc"], ["--input", "uint8"], ["--input", "unit"]])
def test_every_way_of_writing_is_measured(onnx, three_of_four, options):
    assert onnx("--check-accuracy", 75, *options)[0].exit_code == 0


def test_no_data_set_is_exit_code_3_and_nothing_is_asked_without_the_option(onnx, tmp_path):
    result, output = onnx("--check-accuracy", 75, "--data-dir", tmp_path / "none")
    assert result.exit_code == 3
    assert not output.exists()
    assert json.loads(onnx("--json")[0].stdout)["accuracy"] is None
    assert onnx("--check-accuracy", 101)[0].exit_code == 2


@pytest.mark.data
def test_the_wrong_shortcut_of_a_published_checkpoint_is_noticed(run, cifar_data, tmp_path):
    """Both files pass parity, which compares with the converted network; one has the published accuracy."""
    path = cifar_data / "checkpoints" / "resnet20-12fca82f.th"
    if not path.is_file():
        pytest.skip(f"needs {path} of akamaster/pytorch_resnet_cifar10")
    given = ["--weights", path, "--mean", ".485,.456,.406", "--std", ".229,.224,.225", "--data-dir", cifar_data]
    output = ["--check-accuracy", 91.7, "--output", tmp_path / "a.onnx"]
    wrong = run("onnx", "resnet20", *given, *output, "--shortcut", "pad-end")
    assert (wrong.exit_code, (tmp_path / "a.onnx").exists()) == (1, False)
    assert "--shortcut" in wrong.stderr
    assert run("onnx", "resnet20", *given, *output, "--shortcut", "pad-both").exit_code == 0
