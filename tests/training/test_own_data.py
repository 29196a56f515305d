"""From pictures of one's own to a network and its files, by the commands that docs/own-data.md shows."""

from __future__ import annotations

import json
import re
import shlex
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cifar_export import __main__ as cli
from cifar_export import load
from cifar_export.data.folder import read_own
from cifar_export.gate.inputs import few_of_each
from cifar_export.training.log import read
from cifar_export.weights.sources import said_dataset

from support.paths import ROOT
from support.seeded_network import bundled_in
from support.shapes import LABELS, shape, write_shapes

Run = Callable[..., Result]
PAGE = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Trained:
    """A run on the shapes, and where they are."""

    shapes: Path
    run: Path
    said: str

    @property
    def weights(self) -> Path:
        return self.run / "weights.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """`resnet8` after five epochs."""
    home = tmp_path_factory.mktemp("own")
    shapes = write_shapes(home / "shapes", 100, 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_EXPORT_CACHE", str(home / "cache"))
        arguments = ["train", "resnet8", "--dataset", shapes, "--epochs", 5, "--output", home / "run", "--json"]
        done = CliRunner().invoke(cli.main, list(map(str, arguments)))
        assert done.exit_code == 0, done.stderr
        yield Trained(shapes, home / "run", done.stdout)


def test_a_network_learns_shapes_in_seconds(trained: Trained) -> None:
    said = json.loads(trained.said)
    assert said["network"] == "shapes_resnet8"
    assert said["top1"] > 90
    assert said["top5"] == 100  # there are five


def test_the_weights_say_labels_and_normalization(trained: Trained) -> None:
    dataset = said_dataset(trained.weights)
    assert not isinstance(dataset, str)
    assert dataset is not None
    assert (dataset.name, dataset.labels) == ("shapes", LABELS)
    assert dataset.normalization == read_own(trained.shapes).spec.normalization
    (start, *_) = read(trained.run / "log.jsonl")
    assert (start["images"], start["normalization"]) == (500, dataset.normalization.as_dict())


def test_its_file_knows_the_labels_and_names_the_shapes(run: Run, trained: Trained, tmp_path: Path) -> None:
    file = tmp_path / "shapes.onnx"
    done = run("onnx", "resnet8", "--weights", trained.weights, "--input", "uint8", "--output", file)
    assert done.exit_code == 0, done.stderr
    metadata = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert (json.loads(metadata["labels"]), metadata["dataset"]) == (list(LABELS), "shapes")
    rng = np.random.default_rng(7)
    pictures = []
    for index in range(len(LABELS)):
        pictures.append(tmp_path / f"{index}.png")
        Image.fromarray(shape(index, rng)).save(pictures[-1])
    for subject in ([file], ["resnet8", "--weights", trained.weights]):
        done = run("predict", subject[0], *pictures, "--top", 1, "--json", *subject[1:])
        assert done.exit_code == 0, done.stderr
        assert [answer["top"][0]["label"] for answer in json.loads(done.stdout)] == list(LABELS)


def test_it_is_evaluated_on_its_own_test_pictures(run: Run, trained: Trained) -> None:
    done = run("evaluate", "resnet8", "--dataset", trained.shapes, "--weights", trained.weights, "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["images"] == 100
    assert said["top1"] == pytest.approx(json.loads(trained.said)["top1"], abs=1.01)


def test_the_pages_commands_lead_to_a_verified_release(
    run: Run, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the run itself, which is that of `resnet8` above."""
    commands = re.findall(r"^\$ cifar-export (.*)$", PAGE[: PAGE.index("## From a trained body")], re.MULTILINE)
    assert [command.split()[0] for command in commands] == [
        *("train", "train", "evaluate", "onnx", "predict", "parity", "package", "verify")
    ]
    monkeypatch.chdir(tmp_path)
    Path("shapes").symlink_to(trained.shapes)
    Path("run").symlink_to(trained.run)
    Image.fromarray(shape(3, np.random.default_rng(1))).save("picture.png")
    said = {}
    monkeypatch.setattr("cifar_export.diagnosis.prove.input_sets", few_of_each)
    with bundled_in(tmp_path):  # fewer images for the parity of a release, too
        for command in commands:
            if command.endswith("--output run"):
                continue
            done = run(*shlex.split(command.replace("resnet20", "resnet8")))
            assert done.exit_code == 0, (command, done.stderr)
            said[command.split()[0]] = done.stdout
    assert "red disc" in said["predict"]
    assert "intact" in said["verify"]
    network = load("shapes_resnet8", "releases/1.0.0")
    assert network.config["accuracy"]["source"] == "measured"
    assert network.config["accuracy"]["top1"] > 90
    assert network.labels == LABELS
    assert (network.predict(read_own(Path("shapes")).splits["test"].images).indices == 3).mean() == pytest.approx(
        0.2, abs=0.06
    )


def test_the_pages_program_lays_out_what_torchvision_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        classes = ("T-shirt/top", "Trouser")

        def __init__(self, folder: str, train: bool, download: bool) -> None:
            assert (folder, download) == ("downloads", True)
            self._count = 4 if train else 2

        def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
            return ((Image.new("L", (28, 28), 50 * number), number % 2) for number in range(self._count))

    datasets = types.ModuleType("torchvision.datasets")
    datasets.FashionMNIST = Fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFAR_EXPORT_CACHE", str(tmp_path / "cache"))
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(program, {})
    found = read_own(Path("fashion"))
    assert found.spec.labels == ("T-shirt-top", "Trouser")
    assert (found.spec.train_images, found.spec.test_images) == (4, 2)


def test_a_file_of_ones_own_is_scored_by_what_it_says_itself(run: Run, trained: Trained, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    assert run("onnx", trained.run, "--input", "uint8", "--no-check", "--output", file).exit_code == 0
    done = run("evaluate", file, "--dataset", trained.shapes, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["top1"] > 90
    model = onnx.load(file)
    (labels,) = (entry for entry in model.metadata_props if entry.key == "labels")
    labels.value = json.dumps(LABELS[::-1])
    onnx.save(model, file)
    refused = run("evaluate", file, "--dataset", trained.shapes)
    assert (refused.exit_code, refused.stdout) == (2, "")


def test_what_cannot_be_trained_on_ones_own_pictures_is_said(run: Run, trained: Trained, tmp_path: Path) -> None:
    for network, options, said in (
        (
            "resnet8",
            ["--recipe", "distill"],
            "recipe distill learns from bundled networks, and there are none of shapes",
        ),
        ("cifar10_resnet8", [], "cifar10_resnet8 says cifar10, and --dataset says"),
    ):
        refused = run("train", network, "--dataset", trained.shapes, *options, "--output", tmp_path / "run")
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert said in refused.stderr
    assert not (tmp_path / "run").exists()


def test_the_folder_of_a_run_is_scored_on_the_pictures_of_its_own_labels_only(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    renamed = tmp_path / "other name"
    renamed.symlink_to(trained.shapes)
    done = run("evaluate", trained.run, "--dataset", renamed)
    assert done.exit_code == 0, done.stderr
    assert "shapes_resnet8" in done.stdout  # as the weights say
    for options, said in (
        ([], "Name the folder of its pictures with --dataset"),
        (["--dataset", "cifar10"], "says shapes, with 5 classes, and --dataset says cifar10"),
        (["--labels", trained.shapes / "x"], "says its classes itself. Leave --labels away"),
    ):
        refused = run("evaluate", trained.run, *options)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert said in refused.stderr


def test_other_classes_than_the_weights_have_are_refused(run: Run, trained: Trained, tmp_path: Path) -> None:
    other = write_shapes(tmp_path / "other", 1, 1)
    (other / "train" / "red disc").rename(other / "train" / "disc")
    (other / "test" / "red disc").rename(other / "test" / "disc")
    for dataset in (other, "cifar10"):
        arguments = ["--dataset", dataset, "--weights", trained.weights, "--output", tmp_path / "a.onnx"]
        done = run("onnx", "resnet8", *arguments)
        assert done.exit_code == 2
        assert "holds shapes_resnet8, which tells 5 classes apart" in done.stderr
        assert "without --dataset" in done.stderr


def test_a_run_goes_on_with_the_same_pictures_only(run: Run, trained: Trained, tmp_path: Path) -> None:
    shapes = write_shapes(tmp_path / "shapes", 4, 1)
    begin = ["train", "resnet8", "--dataset", shapes, "--epochs", 1, "--output", tmp_path / "run"]
    assert run(*begin).exit_code == 0
    for split in ("train", "test"):
        (shapes / split / "red disc").rename(shapes / split / "rot")
    refused = run(*begin, "--resume")
    assert refused.exit_code == 2
    assert "training images' sha256" in refused.stderr


def test_a_first_try_and_a_frozen_body(run: Run, trained: Trained, tmp_path: Path) -> None:
    arguments = ["--dataset", trained.shapes, "--initial-weights", trained.weights, "--epochs", 1, "--freeze-body"]
    done = run("train", "resnet8", *arguments, "--limit", 50, "--output", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["top1"] > 90
    (start, *_) = read(tmp_path / "run" / "log.jsonl")
    assert (start["images"], start["freeze_body"]) == (50, True)
    alone = run("train", "resnet8", "--dataset", trained.shapes, "--freeze-body", "--output", tmp_path / "other")
    assert alone.exit_code == 2
    assert "Add --initial-weights" in alone.stderr


def test_a_bundled_body_begins_a_network_of_ones_own(run: Run, trained: Trained, tmp_path: Path) -> None:
    arguments = ["--dataset", trained.shapes, "--initial-weights", "bundled", "--epochs", 1, "--limit", 64]
    done = run("train", "resnet20", *arguments, "--output", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    assert "the body is that of cifar100_resnet20" in done.stderr


@pytest.mark.parametrize("command", ["onnx", "evaluate", "train", "parity"])
def test_a_data_set_that_is_none_is_wrong_usage(run: Run, tmp_path: Path, command: str) -> None:
    done = run(command, "resnet20", "--dataset", "cifar11")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "'cifar11' is not one of 'cifar10', 'cifar100', nor the folder of a data set" in done.stderr
    done = run(command, "resnet20", "--dataset", tmp_path)
    assert done.exit_code == 2
    assert "there is no train folder in it" in done.stderr
