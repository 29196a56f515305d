"""Depths beside the four: listed, exported untrained, trained, proved and packaged like the others."""

import contextlib
import json
import shutil
from unittest import mock

import onnx
import pytest

from cifar_export import load
from cifar_export.gate.inputs import few_of_each
from cifar_export.networks.zoo import NETWORKS, named
from cifar_export.release.check.verify import verify
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support import seeded_network
from support.shapes import write_shapes


def test_models_lists_the_eight_and_what_was_given(run):
    rows = json.loads(run("models", "resnet110", "resnet8", "--json").stdout)
    names = [row["network"] for row in rows]
    assert set(names) == {
        *NETWORKS,
        *(f"{data}_{name}" for data in ("cifar10", "cifar100") for name in ("resnet8", "resnet110")),
    }
    deep = rows[names.index("cifar10_resnet110")]
    assert round(deep["parameters"] / 1e6, 1) == 1.7  # He et al. 2016, table 6
    assert (deep["weights"], deep["sha256"], deep["top1"], deep["reference"]) == (None, None, None, None)
    lines = run("models", "resnet110").stdout.splitlines()
    assert sum("resnet" in line for line in lines) == len(NETWORKS) + 2


def test_a_depth_out_of_the_family_is_exit_code_2(run):
    result = run("onnx", "resnet18")
    assert result.exit_code == 2
    assert "no model 'resnet18'" in result.stderr
    assert "N = 6n + 2" in result.stderr


def test_what_nobody_trained_is_refused_with_what_there_is(run):
    for source in ("bundled", "upstream"):
        result = run("onnx", "resnet110", "--weights", source)
        assert result.exit_code == 2
        assert "--weights random" in result.stderr


@pytest.mark.parametrize("model", ["resnet8", pytest.param("resnet110", marks=pytest.mark.slow)])
def test_random_weights_are_exported_and_pass_parity(run, model, tmp_path):
    options = ["--weights", "random", "--seed", 3, "--json"]
    result = run("onnx", model, *options, "--output", tmp_path / "a.onnx")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["parity"]["passed"] is True
    assert document["weights"]["source"] == "random"
    assert document["weights"]["sha256"] == random_weights(named(f"cifar10_{model}"), 3).sha256
    assert "weights: untrained: random numbers of seed 3" in result.stderr
    convolutions = [node for node in onnx.load(tmp_path / "a.onnx").graph.node if node.op_type == "Conv"]
    assert len(convolutions) == int(model[6:]) - 1 + 2  # and the projections


def test_the_seed_is_for_random_weights_alone(run, tmp_path):
    output = ["--output", tmp_path / "a.onnx", "--no-check"]
    assert run("onnx", "resnet20", "--seed", 3, *output).exit_code == 2
    assert not (tmp_path / "a.onnx").exists()
    first = json.loads(run("onnx", "resnet8", "--weights", "random", *output, "--json").stdout)
    other = json.loads(run("onnx", "resnet8", "--weights", "random", "--seed", 1, *output, "--json").stdout)
    assert first["weights"]["sha256"] != other["weights"]["sha256"]


def test_another_depth_trains_and_its_weights_load(run, write_cifar, tmp_path, monkeypatch):
    from cifar_export.networks import zoo

    small = write_cifar(tmp_path / "data", zoo.CIFAR10, train=40, test=20)
    monkeypatch.setitem(zoo.DATASETS, "cifar10", small)
    options = ["--data-dir", tmp_path / "data", "--epochs", 1, "--output", tmp_path / "run", "--device", "cpu"]
    result = run("train", "resnet8", *options)
    assert result.exit_code == 0, result.stderr
    weights = load_weights(named("cifar10_resnet8"), str(tmp_path / "run" / "weights.safetensors"))
    assert weights.recipe["name"] == "quick"


@pytest.mark.parametrize("name", ["cifar100_resnet8", pytest.param("cifar100_resnet110", marks=pytest.mark.slow)])
def test_another_depth_is_packaged_without_published_figures(name, tmp_path):
    (tmp_path / "index").mkdir()
    with mock.patch.object(seeded_network, "SPEC", named(name)):
        seeded_network.bundle(tmp_path / "index")
        seeded_network.build(tmp_path / "index", tmp_path / name)
    assert verify(tmp_path / name).problems == []
    config = json.loads((tmp_path / name / "config.json").read_text())
    assert (config["network"], config["accuracy"]["reference"]) == (name, None)
    card = (tmp_path / name / "README.md").read_text()
    assert "Nobody has published figures for this network" in card
    assert "CIFAR-pretrained-models" not in card
    shutil.rmtree(tmp_path / name)


_TRAIN = "train resnet110 --dataset shapes --limit 64 --epochs 1"


@pytest.mark.slow
def test_resnet110_trains_exports_passes_parity_and_is_released(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFAR_EXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("cifar_export.diagnosis.prove.input_sets", few_of_each)
    write_shapes(tmp_path / "shapes", 20, 4)
    for command in (
        # one step from nothing leaves batch norm's averages useless; this way the new blocks begin as the identity
        f"{_TRAIN} --initial-weights bundled --initial-model cifar100_resnet56 --output run",
        "onnx run --output a.onnx",
        "parity a.onnx --weights run/weights.safetensors --runtime onnxruntime-cpu",
        "package run --dataset shapes --version 1.0.0 --output releases",
        "verify releases/1.0.0 --deep",
    ):
        few = seeded_network.bundled_in(tmp_path) if command.startswith("package") else contextlib.nullcontext()
        with few:  # images for the parity of a release
            result = run(*command.split())
        assert result.exit_code == 0, (command, result.stderr)
    network = load("shapes_resnet110", "releases/1.0.0")
    assert (network.config["model"], network.config["accuracy"]["images"]) == ("resnet110", 20)
