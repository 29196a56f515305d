"""Parity of networks and of files, in every runtime: by the library and by the command."""

import json
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cifar_export.diagnosis.prove import prove
from cifar_export.errors import InvalidInput, Unavailable
from cifar_export.gate.divergence import Located
from cifar_export.gate.inputs import input_sets
from cifar_export.networks.zoo import NETWORKS
from cifar_export.runtimes import Missing, why_missing
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

CPU = ["pytorch", "torchscript", "torch-export", "onnxruntime-cpu"]


# the quick ones take the shallowest of each data set: what depth adds is more of the same
_DEPTHS = [name if name.endswith("resnet20") else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]


@pytest.mark.parametrize("name", _DEPTHS)
def test_all_eight_networks_pass_on_the_cpu_runtimes(name, monkeypatch):
    weights = random_weights(NETWORKS[name], seed=8)
    variant = "uint8" if weights.network.dataset.name == "cifar100" else "float32"
    sets = input_sets()
    if weights.network.model.name != "resnet20":  # enough for every batch size; the float64 reference is slow
        sets = {"real": sets["real"][:74], "extremes": sets["extremes"][:8]}
        monkeypatch.setattr("cifar_export.diagnosis.prove.input_sets", lambda: sets)
    report = prove(weights, variant=variant, runtimes=CPU)
    assert report.passed, report.failures
    states = {row.runtime: row.state for row in report.runtimes}
    assert states == {"pytorch": "yardstick"} | dict.fromkeys(CPU[1:], "passed")
    images = sum(len(pixels) for pixels in sets.values())
    assert all(row.images == images and row.top1_agreement == 1.0 for row in report.runtimes)


def test_parity_json_has_what_automation_reads(run, weights20_file, exported):
    file = exported("onnx", "uint8", 17).path
    result = run("parity", "resnet20", "--weights", weights20_file, "--file", file, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["passed"], document["input"]) == (0, True, "uint8")
    rows = {row["runtime"]: row for row in document["runtimes"]}
    keys = {"runtime", "provider", "state", "max_abs_error", "mean_abs_error", "top1_agreement", "images", "reason"}
    assert all(keys <= set(row) for row in rows.values())
    assert (rows["pytorch"]["state"], rows["pytorch"]["reason"]) == ("yardstick", None)
    assert (rows["onnxruntime-cpu"]["state"], rows["onnxruntime-cpu"]["provider"]) == ("passed", "CPUExecutionProvider")
    assert 0 < rows["onnxruntime-cpu"]["max_abs_error"] < document["yardstick"]["allowed"]["extremes"]
    assert set(document["yardstick"]["max_abs_error"]["pytorch"]) == {"noise", "extremes", "structured", "real"}


def test_the_table_says_its_verdict(run, weights20_file, exported):
    file = exported("onnx", "float32", 17).path
    result = run("parity", "resnet20", "--weights", weights20_file, "--file", file, "--runtime", "onnxruntime-cpu")
    assert result.exit_code == 0
    assert "onnxruntime-cpu" in result.stdout
    assert "parity passed" in result.stderr


def broken(path: Path, target: Path, change) -> Path:
    model = onnx.load(path)
    change(model)
    onnx.save(model, target)
    return target


def edit(model, name, function):
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(function(numpy_helper.to_array(tensor).copy()), name))


def nudge(array):
    array.flat[7] += 1e-2
    return array


def swap_normalization(model):
    mean, std = (
        next(t for t in model.graph.initializer if t.name == f"normalize.{n}.operand") for n in ("sub", "div_2")
    )
    mean_array, std_array = numpy_helper.to_array(mean), numpy_helper.to_array(std)
    mean.CopyFrom(numpy_helper.from_array(std_array, mean.name))
    std.CopyFrom(numpy_helper.from_array(mean_array, std.name))


def round_to_bfloat16(model):
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            bits = numpy_helper.to_array(tensor).view(np.uint32) & 0xFFFF0000
            tensor.CopyFrom(numpy_helper.from_array(bits.view(np.float32), tensor.name))


def make_nan(array):
    array.flat[0] = np.nan
    return array


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: edit(model, "fc.weight", nudge), "exceeds"),
        (lambda model: edit(model, "layer3.1.conv2.bias", np.zeros_like), "exceeds"),
        (swap_normalization, "exceeds"),
        (round_to_bfloat16, "exceeds"),
        (lambda model: edit(model, "conv1.bias", make_nan), "NaN or infinite logits on 74 of 74 images"),
    ],
    ids=["fc weight", "bias dropped", "normalization swapped", "bfloat16 weights", "NaN"],
)
def test_a_broken_file_fails_with_exit_code_1(run, weights20_file, exported, tmp_path, change, said):
    file = broken(exported("onnx", "uint8", 17).path, tmp_path / "broken.onnx", change)
    result = run(
        "parity", "resnet20", "--weights", weights20_file, "--file", file, "--runtime", "onnxruntime-cpu", "--json"
    )
    document = json.loads(result.stdout)
    assert (result.exit_code, document["passed"]) == (1, False)
    assert said in document["runtimes"][0]["reason"]
    assert "error: onnxruntime-cpu: " in result.stderr


def test_metadata_of_other_weights_fails_even_where_the_numbers_agree(run, weights20_file, exported, tmp_path):
    def lie(model):
        next(entry for entry in model.metadata_props if entry.key == "mean").value = "[0.5, 0.5, 0.5]"

    file = broken(exported("onnx", "float32", 17).path, tmp_path / "lie.onnx", lie)
    result = run("parity", "resnet20", "--weights", weights20_file, "--file", file)
    assert result.exit_code == 1
    assert "metadata says mean: [0.5, 0.5, 0.5], not [0.4914, 0.4822, 0.4465]" in result.stderr


def test_shuffled_labels_fail(weights20, exported, tmp_path):
    def shuffle(model):
        entry = next(entry for entry in model.metadata_props if entry.key == "labels")
        entry.value = json.dumps(json.loads(entry.value)[::-1])

    file = broken(exported("onnx", "float32", 17).path, tmp_path / "labels.onnx", shuffle)
    report = prove(weights20, file=file, runtimes=["onnxruntime-cpu"])
    assert report.failures == ["metadata says labels: other labels or another order"]


def test_a_runtime_that_is_missing_is_a_row_but_one_that_was_named_is_an_error(weights20, exported, monkeypatch):
    from cifar_export.runtimes import openvino

    monkeypatch.setattr(openvino, "missing_cpu", lambda: Missing("openvino is not installed", "Install it."))
    file = exported("onnx", "float32", 17).path
    report = prove(weights20, file=file)
    (row,) = [row for row in report.runtimes if row.runtime == "openvino"]
    assert (row.state, row.images, row.reason) == ("not_run", 0, "openvino is not installed. Install it.")
    assert report.passed
    with pytest.raises(Unavailable, match=r"openvino cannot run here: openvino is not installed\. Install it\."):
        prove(weights20, file=file, runtimes=["openvino"])


def test_without_openvino_the_other_formats_are_proved(weights20, monkeypatch):
    """As after `pip install .`: the package that writes OpenVINO's files is not there either."""
    from cifar_export.runtimes import openvino

    monkeypatch.setattr(openvino, "missing_cpu", lambda: Missing("openvino is not installed", "Install it."))
    few = {"real": input_sets()["real"][:4]}
    monkeypatch.setattr("cifar_export.diagnosis.prove.input_sets", lambda: few)
    report = prove(weights20)
    states = {row.runtime: row.state for row in report.runtimes}
    assert report.passed
    assert (states["openvino-ir"], states["openvino"]) == ("not_run", "not_run")
    assert states | dict.fromkeys(CPU[1:], "passed") == states


def test_the_yardstick_alone_is_no_comparison(run, weights20_file):
    result = run("parity", "resnet20", "--weights", weights20_file, "--runtime", "pytorch")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


@pytest.mark.skipif(why_missing("openvino") is not None, reason="needs OpenVINO")
def test_a_runtime_that_is_only_reported_proves_nothing_alone(run, weights20_file):
    result = run("parity", "resnet20", "--weights", weights20_file, "--runtime", "openvino-default")
    assert (result.exit_code, "would only be reported" in result.stderr) == (2, True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(run, weights20_file, tmp_path):
    os.mkfifo(tmp_path / "a.onnx")
    result = run("parity", "resnet20", "--weights", weights20_file, "--file", tmp_path / "a.onnx")
    assert (result.exit_code, "not a regular file" in result.stderr) == (2, True)


@pytest.mark.parametrize("given", [True, False], ids=["a file", "a fresh export"])
def test_runtimes_run_in_a_process_of_their_own(weights20, exported, bad, monkeypatch, given):
    """So that one that dies is a row, whether the file was there or was made for the occasion."""
    few = {"real": input_sets()["real"][:2]}
    monkeypatch.setattr("cifar_export.diagnosis.prove.input_sets", lambda: few)
    monkeypatch.setattr("cifar_export.diagnosis.prove.locate", lambda *_: Located((), None))  # has tests of its own
    file = exported("onnx", "float32", 17).path if given else None
    report = prove(weights20, file=file, runtimes=bad("Process"))
    (said,) = re.findall(r"crashed: RuntimeError: this is process (\d+)$", report.failures[0])
    assert int(said) != os.getpid()


def test_a_runtime_that_does_not_read_the_file_is_wrong_usage(weights20, exported):
    with pytest.raises(InvalidInput, match=r"torchscript does not read float32-17\.onnx"):
        prove(weights20, file=exported("onnx", "float32", 17).path, runtimes=["torchscript"])


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x08\x08\x12\x07pytorch"])
def test_files_that_are_no_onnx_are_wrong_usage(run, weights20_file, tmp_path, content):
    file = tmp_path / "a.onnx"
    file.write_bytes(content)
    result = run("parity", "resnet20", "--weights", weights20_file, "--file", file)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr


def test_metadata_that_is_no_text_is_wrong_usage(run, weights20_file, exported, tmp_path):
    file = tmp_path / "a.onnx"
    data = exported("onnx", "float32", 17).path.read_bytes()
    assert data.count(b"weights_sha256") == 1
    file.write_bytes(data.replace(b"weights_sha256", b"weights_sha25\xff"))
    result = run("parity", "resnet20", "--weights", weights20_file, "--file", file)
    assert (result.exit_code, "its metadata is damaged" in result.stderr) == (2, True), result.stderr


def test_a_truncated_onnx_file_is_refused(run, weights20_file, exported, tmp_path):
    file = tmp_path / "a.onnx"
    file.write_bytes(exported("onnx", "float32", 17).path.read_bytes()[:-5000])
    result = run("parity", "resnet20", "--weights", weights20_file, "--file", file, "--json")
    assert (result.exit_code, "not an ONNX file, or a damaged one" in result.stderr) == (2, True), result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("format_name", ["torchscript", "torch-export"])
def test_files_that_are_code_are_run_only_when_vouched_for(run, weights20_file, exported, tmp_path, format_name):
    original = exported(format_name, "uint8").path
    file = tmp_path / original.name
    file.write_bytes(original.read_bytes())
    command = ["parity", "resnet20", "--weights", weights20_file, "--file", file]
    refused = run(*command)
    assert (refused.exit_code, "is code, and no sidecar" in refused.stderr) == (2, True)
    sidecar = tmp_path / f"{file.name}.json"
    sidecar.write_text((original.parent / f"{original.name}.json").read_text())
    assert run(*command).exit_code == 0
    file.write_bytes(original.read_bytes() + b"\0")
    assert "not the file that its sidecar describes" in run(*command).stderr
    file.write_bytes(original.read_bytes())
    sidecar.unlink()
    assert run(*command, "--trust-file").exit_code == 0


def test_the_input_of_a_file_is_its_own(run, weights20_file, exported):
    file = exported("onnx", "uint8", 17).path
    result = run("parity", "resnet20", "--weights", weights20_file, "--file", file, "--input", "float32")
    assert result.exit_code == 2
    assert "its input is uint8, not float32" in result.stderr


@pytest.mark.data
def test_third_party_weights_pass_on_real_images(cifar_data):
    path = cifar_data / "checkpoints" / "cifar100_resnet56-f2eff4c8.pt"
    if not path.is_file():
        pytest.skip(f"needs the third-party checkpoint {path.name} in $CIFAR_DATA/checkpoints")
    from cifar_export.data import load_split

    weights = load_weights(NETWORKS["cifar100_resnet56"], str(path))
    more = {"test": load_split(cifar_data, weights.network.dataset, "test").images[:100]}
    report = prove(weights, variant="uint8", runtimes=CPU, more_pixels=more)
    assert report.passed, report.failures
