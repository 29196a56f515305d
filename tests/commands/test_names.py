"""One way to name a network everywhere, and nothing guessed of a stranger's file."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import Result

from cifar_export.exporting.artifact import export
from cifar_export.exporting.sidecar import sidecar_path
from cifar_export.networks.zoo import NETWORKS
from cifar_export.system.files import sha256_file
from cifar_export.weights.core import Weights
from cifar_export.weights.native import save_weights
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.paths import ROOT

Run = Callable[..., Result]
PICTURE = ROOT / "examples" / "samples" / "ship.png"
CPU = ("--runtime", "onnxruntime-cpu")


@pytest.fixture(scope="module")
def bundled_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of bundled weights."""
    path = tmp_path_factory.mktemp("named") / "a.onnx"
    return export(load_weights(NETWORKS["cifar100_resnet20"]), "onnx", output=path, checked=False).path


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of normalized images that says nothing of itself."""
    path = tmp_path_factory.mktemp("foreign") / "theirs.onnx"
    export(random_weights(NETWORKS["cifar10_resnet20"], 0), "onnx", output=path, checked=False)
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    return path


def test_a_networks_name_says_its_data_set(run: Run, tmp_path: Path) -> None:
    done = run("onnx", "cifar100_resnet20", "--output", tmp_path / "a.onnx", "--no-check", "--json")
    assert done.exit_code == 0, done.stderr
    assert run("onnx", "cifar100_resnet20", "--dataset", "cifar100", "--output", tmp_path / "b.onnx", "--no-check")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    refused = run("onnx", "cifar100_resnet20", "--dataset", "cifar10", "--output", tmp_path / "c.onnx")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "cifar100_resnet20 says cifar100, and --dataset says cifar10. Leave --dataset away." in refused.stderr


def test_a_file_of_bundled_weights_says_all_that_parity_needs(run: Run, bundled_file: Path) -> None:
    done = run("parity", bundled_file, *CPU, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["network"] == "cifar100_resnet20"
    for option, value, said in (
        ("--dataset", "cifar10", "a.onnx says cifar100, and --dataset says cifar10"),
        ("--file", bundled_file, "both name a file"),
        ("--std", "0.1,0.1,0.1", "and the options say mean [0.1, 0.1, 0.1] and std [0.1, 0.1, 0.1]"),
    ):
        mean = ["--mean", "0.1,0.1,0.1"] if option == "--std" else []
        refused = run("parity", bundled_file, *CPU, option, value, *mean)
        assert refused.exit_code == 2
        assert said in refused.stderr


def test_a_file_of_other_weights_needs_them(run: Run, weights20_file: Path, exported: Callable[..., object]) -> None:
    file = exported("onnx", "float32", 17).path  # type: ignore[attr-defined]
    refused = run("parity", file, *CPU)
    assert refused.exit_code == 2
    assert f"of a file with sha256 {sha256_file(weights20_file)}. Add --weights PATH." in refused.stderr
    assert run("parity", file, "--weights", weights20_file, *CPU).exit_code == 0


def test_the_folder_of_a_run_is_a_network(run: Run, weights20: Weights, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    save_weights(folder / "weights.safetensors", weights20)
    done = run("onnx", folder, "--output", tmp_path / "a.onnx", "--json")
    assert done.exit_code == 0, done.stderr
    answer = run("predict", folder, PICTURE, "--json", "--top", 1)
    assert answer.exit_code == 0, answer.stderr
    assert answer.stdout.count('"label"') == 1
    assert "holds several networks. Name one: " in run("onnx", tmp_path).stderr
    assert "it has no weights.safetensors" in run("onnx", tmp_path / "run" / "..").stderr + run("onnx", ROOT).stderr
    refused = run("onnx", folder, "--weights", "other.pt")
    assert refused.exit_code == 2
    assert "Leave --weights away" in refused.stderr


def test_what_is_not_there_or_cannot_be_is_wrong_usage(run: Run, bundled_file: Path, tmp_path: Path) -> None:
    packed = tmp_path / "a.onnx.gz"
    packed.write_bytes(gzip.compress(bundled_file.read_bytes()))
    (tmp_path / "notes.txt").write_text("")
    for subject, said in (
        ("resnet21", "no model 'resnet21', and no network, file or folder of that name"),
        (tmp_path / "x.onnx", "x.onnx', and no network, file or folder of that name"),
        (packed, "is packed. Unpack it"),
        (tmp_path / "notes.txt", "not an exported file by its name"),
    ):
        for command in ("evaluate", "parity"):
            done = run(command, subject)
            assert (done.exit_code, done.stdout) == (2, "")
            assert said in done.stderr
    done = run("onnx", bundled_file)
    assert done.exit_code == 2
    assert "is exported already" in done.stderr


def test_a_strangers_file_is_classified_with_what_its_user_says(run: Run, foreign: Path, tmp_path: Path) -> None:
    labels = tmp_path / "letters.txt"
    labels.write_text("\n".join("abcdefghij"))
    normalization = ["--mean", "0.49,0.48,0.45", "--std", "0.2,0.2,0.2"]
    for options, said in (
        ([], "does not say its classes. Add --dataset, or --labels FILE"),
        (["--dataset", "cifar10"], "does not say how its images are normalized. Add --mean"),
        (["--dataset", "cifar10", "--weights", "bundled"], "--weights is for a network"),
    ):
        refused = run("predict", foreign, PICTURE, *options)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert said in refused.stderr
    by_name, by_labels = (
        json.loads(run("predict", foreign, PICTURE, *options, *normalization, "--json").stdout)
        for options in (["--dataset", "cifar10"], ["--labels", labels])
    )
    places = [guess["index"] for guess in by_name[0]["top"]]
    assert [guess["label"] for guess in by_labels[0]["top"]] == ["abcdefghij"[place] for place in places]


def test_no_normalization_is_guessed_for_a_strangers_file(run: Run, foreign: Path) -> None:
    for command in ("evaluate", "parity"):
        refused = run(command, "resnet20", "--file", foreign)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "does not say how its images are normalized, and guessing costs accuracy" in refused.stderr
        unnamed = run(command, foreign, "--dataset", "cifar10")
        assert (unnamed.exit_code, unnamed.stdout) == (2, "")
        assert "does not say how its images are normalized, and guessing costs accuracy" in unnamed.stderr


def test_code_beside_a_releases_sums_is_vouched_for(run: Run, weights20: Weights, tmp_path: Path) -> None:
    path = tmp_path / "model.torchscript.pt"
    export(weights20, "torchscript", variant="uint8", output=path, checked=False)
    sidecar_path(path).unlink()
    assert run("predict", path, PICTURE).exit_code == 2
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(f"{'0' * 64}  other.pt\n{sha256_file(path)}  model.torchscript.pt\n")
    done = run("predict", path, PICTURE)
    assert done.exit_code == 0, done.stderr
    sums.write_text(f"{'0' * 64}  model.torchscript.pt\n")
    assert run("predict", path, PICTURE).exit_code == 2
    shutil.rmtree(tmp_path)
