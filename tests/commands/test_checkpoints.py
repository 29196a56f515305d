"""What a command says of the checkpoint it was given: on the screen, in its JSON, and in the file that it writes."""

from __future__ import annotations

import json

import onnx
import pytest
import torch

from cifar_export.networks.zoo import NETWORKS
from cifar_export.weights.seeded import random_weights

GIVEN = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"]
STATE = random_weights(NETWORKS["cifar10_resnet20"], 0).state


@pytest.fixture
def checkpoint(tmp_path):
    def save(content):
        torch.save(content, tmp_path / "checkpoint.pt")
        return tmp_path / "checkpoint.pt"

    return save


def test_what_was_taken_and_converted_is_printed_and_stands_in_json_and_file(run, checkpoint, tmp_path):
    bare = {f"module.{key}": tensor for key, tensor in STATE.items() if "downsample" not in key}
    path = checkpoint({"state_dict": bare, "ema": STATE})
    output = tmp_path / "x.onnx"
    options = ["--weights", path, *GIVEN, "--key", "state_dict", "--output", output, "--no-check", "--json"]
    result = run("onnx", "resnet20", *options)
    assert result.exit_code == 0, result.stderr
    weights = json.loads(result.stdout)["weights"]
    assert weights["key"] == "state_dict"
    assert weights["changes"][:2] == ["took state_dict", "dropped the prefix module."]
    assert "padded on both sides" in weights["changes"][2]
    assert [f"weights: {change}" for change in weights["changes"]] == result.stderr.splitlines()
    properties = {entry.key: entry.value for entry in onnx.load(output).metadata_props}
    assert json.loads(properties["weights_changes"]) == weights["changes"]
    assert json.loads(output.with_name("x.onnx.json").read_text())["weights_changes"] == weights["changes"]


def test_the_names_are_listed_on_request(run, checkpoint, tmp_path):
    path = checkpoint({key.replace("fc.", "head."): tensor for key, tensor in STATE.items()})
    options = ["--weights", path, *GIVEN, "--output", tmp_path / "x.onnx", "--no-check", "--json"]
    renamed = json.loads(run("onnx", "resnet20", *options).stdout)["weights"]["renamed"]
    assert renamed["head.weight"] == "fc.weight"
    assert len(renamed) == len(STATE)


def test_several_state_dicts_are_exit_code_2_and_a_list(run, checkpoint, tmp_path):
    path = checkpoint({"model": STATE, "model_ema": STATE})
    result = run("onnx", "resnet20", "--weights", path, *GIVEN, "--output", tmp_path / "x.onnx")
    assert result.exit_code == 2
    assert "several state dicts (model, model_ema). Choose one with --key model" in result.stderr
    assert not (tmp_path / "x.onnx").exists()


def test_unchanged_weights_leave_no_mark(run, weights20_file, tmp_path):
    output = tmp_path / "x.onnx"
    result = run("onnx", "resnet20", "--weights", weights20_file, "--output", output, "--no-check", "--json")
    assert "weights:" not in result.stderr
    assert json.loads(result.stdout)["weights"]["changes"] == []
    assert "weights_changes" not in {entry.key for entry in onnx.load(output).metadata_props}


def test_a_key_of_bundled_weights_is_exit_code_2(run):
    assert run("onnx", "resnet20", "--key", "ema").exit_code == 2
