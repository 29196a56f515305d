"""The gate: correct float32 passes, everything else does not, and every runtime gets its row."""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from cifar_export.diagnosis.prove import prove
from cifar_export.errors import InvalidInput, Unavailable
from cifar_export.formats import FORMATS
from cifar_export.formats.metadata import contradictions, describe
from cifar_export.gate.check import check
from cifar_export.gate.compare import Bound, bound, compare
from cifar_export.gate.inputs import bundled_images, input_sets, plan
from cifar_export.gate.report import ParityReport
from cifar_export.networks.preprocess import as_variant
from cifar_export.networks.zoo import CIFAR10, NETWORKS, Normalization
from cifar_export.runtimes import Missing, why_missing
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.paths import ROOT

CPU = ["pytorch", "torchscript", "torch-export", "onnxruntime-cpu"]


@pytest.mark.parametrize("name", NETWORKS)
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
    assert "parity passed" in result.stdout


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


@pytest.mark.parametrize("text", ["[0.4914,", "[" * 100_000], ids=["cut", "deep"])
def test_damaged_metadata_does_not_make_a_file_foreign(weights20, exported, tmp_path, text):
    def damage(model):
        next(entry for entry in model.metadata_props if entry.key == "mean").value = text

    file = broken(exported("onnx", "float32", 17).path, tmp_path / "damaged.onnx", damage)
    facts = FORMATS["onnx"].load().inspect(file)
    (problem,) = contradictions(facts.metadata, describe(weights20, "float32", checked=True))
    assert problem.startswith("metadata says mean: '[")
    assert len(problem) < 300


def test_shuffled_labels_fail(weights20, exported, tmp_path):
    def shuffle(model):
        entry = next(entry for entry in model.metadata_props if entry.key == "labels")
        entry.value = json.dumps(json.loads(entry.value)[::-1])

    file = broken(exported("onnx", "float32", 17).path, tmp_path / "labels.onnx", shuffle)
    report = prove(weights20, file=file, runtimes=["onnxruntime-cpu"])
    assert report.failures == ["metadata says labels: other labels or another order"]


def test_a_crashing_runtime_is_a_row_not_the_end(weights20, exported, monkeypatch):
    from cifar_export.runtimes import torchscript

    files = {"onnx": exported("onnx", "uint8", 17).path, "torchscript": exported("torchscript", "uint8").path}

    def crash(self, images):
        raise RuntimeError("out of cheese\nand more")

    monkeypatch.setattr(torchscript.TorchScript, "logits", crash)
    report = check(weights20, "uint8", files, ["torchscript", "onnxruntime-cpu"], {"real": bundled_images()[:8]})
    crashed, other = report.runtimes
    assert (crashed.state, crashed.reason) == ("failed", "crashed: RuntimeError: out of cheese")
    assert other.state == "passed"
    assert not report.passed


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


def test_a_report_in_which_nothing_was_gated_does_not_pass():
    report = ParityReport("cifar10_resnet20", "float32", "0" * 64, {}, {}, ())
    assert not report.passed
    assert report.failures == ["no runtime was compared with the reference"]


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
    assert result.exit_code in (1, 2)
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


# The gate itself.


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.floats(1.5, 1000.0))
def test_errors_beyond_the_bound_never_pass_and_smaller_ones_do(seed, factor):
    rng = np.random.default_rng(seed)
    reference = rng.normal(0, 10, (20, 10))
    yardstick = (reference + rng.normal(0, 1e-6, reference.shape)).astype(np.float32)
    limit = bound(reference, [yardstick])
    assert compare("x", reference, yardstick, limit).passed
    wrong = reference.copy()
    wrong.flat[rng.integers(wrong.size)] += factor * limit.allowed
    assert not compare("x", reference, wrong.astype(np.float32), limit).passed


def test_a_reduced_precision_yardstick_opens_no_gate():
    """A PyTorch that computes in TF32 has a large error itself: the bound it would give is refused."""
    reference = np.random.default_rng(0).normal(0, 10, (20, 10))
    tf32 = (reference.astype(np.float32).view(np.uint32) & 0xFFFFE000).view(np.float32)
    result = compare("x", reference, tf32, bound(reference, [tf32]))
    assert "is no float32 error: reduced precision is on" in result.problem


@pytest.mark.parametrize("bad", [np.zeros((3, 9), np.float32), np.zeros((3, 10)), np.zeros((30,), np.float32)])
def test_logits_of_another_shape_or_type_fail(bad):
    reference = np.ones((3, 10))
    result = compare("x", reference, bad, bound(reference, [reference.astype(np.float32)]))
    assert result.problem.startswith("logits are ")


def test_images_with_a_clear_margin_are_counted():
    reference = np.zeros((4, 10))
    reference[:3, 3] = 1e-3  # the float64 margin of three images
    logits = reference.astype(np.float32)
    logits[2, 4] = 1.1e-3
    wide, narrow = (compare("x", reference, logits, Bound(1e-3, 0.0, allowed, True)) for allowed in (1.2e-3, 4.9e-4))
    assert (wide.clear, wide.agreeing, wide.passed) == (0, 3, True)
    assert (narrow.clear, narrow.agreeing, narrow.problem) == (3, 3, "error 1.1e-03 exceeds 4.9e-04")


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 0.2))
def test_an_error_within_the_bound_changes_no_clear_class(seed, allowed):
    """Why the gate asks nothing of the classes: errors of almost the bound, each where it hurts most."""
    rng = np.random.default_rng(seed)
    reference = rng.normal(0, 1, (50, 10))
    worst = np.full_like(reference, 0.999 * allowed)
    np.put_along_axis(worst, reference.argmax(axis=1)[:, None], -0.999 * allowed, axis=1)
    logits = (reference + worst).astype(np.float32)
    result = compare("x", reference, logits, Bound(float(np.abs(reference).max()), 0.0, allowed, True))
    clear = np.partition(reference, -2, axis=1)
    clear = clear[:, -1] - clear[:, -2] > 2 * allowed
    assert result.clear == clear.sum()
    assert (logits.argmax(axis=1) == reference.argmax(axis=1))[clear].all()


# The inputs.


def test_input_sets_are_what_the_documentation_says():
    sets = input_sets()
    assert {name: len(pixels) for name, pixels in sets.items()} == {
        "noise": 74, "extremes": 32, "structured": 32, "real": 128,
    }  # fmt: skip
    assert all(pixels.dtype == np.uint8 and pixels.shape[1:] == (32, 32, 3) for pixels in sets.values())
    assert (sets["extremes"].min(), sets["extremes"].max()) == (0, 255)
    assert set(np.unique(sets["extremes"])) == {0, 255}
    assert all(len(np.unique(pixels, axis=0)) >= len(pixels) - 1 for pixels in sets.values())


def test_input_sets_do_not_depend_on_the_process():
    again = input_sets()
    assert all(np.array_equal(pixels, again[name]) for name, pixels in input_sets().items())


def test_batches_come_in_all_sizes_and_lose_nothing():
    cut = plan(200)
    assert [len(batch) for batch in cut] == [1, 2, 7, 64, 64, 62]
    assert np.array_equal(np.concatenate(cut), np.arange(200))


@given(st.lists(st.floats(0.05, 0.95), min_size=6, max_size=6))
def test_normalized_images_are_the_formula(values):
    normalization = Normalization(tuple(values[:3]), tuple(values[3:]))
    pixels = bundled_images()[:2]
    images = as_variant(pixels, "float32", normalization)
    assert (images.dtype, images.shape, images.flags.c_contiguous) == (np.float32, (2, 3, 32, 32), True)
    expected = (pixels[1, 5, 9, 2] / 255 - normalization.mean[2]) / normalization.std[2]
    assert images[1, 2, 5, 9] == np.float32(expected)
    assert as_variant(pixels, "uint8", normalization) is pixels


@pytest.mark.data
def test_bundled_images_are_the_ones_of_the_test_set(cifar_data):
    from cifar_export.data import load_split

    note = json.loads((ROOT / "exporter/gate/cifar10-test-128.json").read_text())
    official = load_split(cifar_data, CIFAR10, "test").images[note["indices"]]
    assert np.array_equal(official, bundled_images())
