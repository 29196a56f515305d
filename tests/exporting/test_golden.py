"""Golden vectors: what others' tools accept as a test case, and what a correct runtime returns."""

import json
import re
import subprocess
import sys
import unittest
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.base
import onnxruntime
import pytest
from onnx import numpy_helper

from cifar_export.exporting.golden import golden_vectors, tolerance, write_golden
from cifar_export.runtimes import open_runtime

from support.paths import ROOT
from support.planting import edit, edit_all, keep_mantissa_bits, node, nudge, plant

# a warning of onnx's test runner about onnx itself
THEIRS = pytest.mark.filterwarnings("ignore:onnx.version is deprecated:DeprecationWarning")
POLYGRAPHY = Path(sys.executable).with_name("polygraphy")
FILES = ["data.json", "model.onnx", "test_data_set_0/input_0.pb", "test_data_set_0/output_0.pb"]


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def tensor(path):
    read = onnx.TensorProto.FromString(path.read_bytes())
    return read.name, numpy_helper.to_array(read).copy()  # writable, as torch wants it


@pytest.fixture
def cases(exported, tmp_path):
    """A folder of ONNX test cases, as its loader wants them: kind/test_name."""

    def make(variant="float32"):
        folder = tmp_path / "cases" / "simple" / f"test_{variant}"
        write_golden(exported("onnx", variant, 17), folder)
        return folder

    return make


@pytest.mark.parametrize(("variant", "name"), [("float32", "input"), ("uint8", "image")])
def test_the_folder_is_a_model_with_its_test_data(cases, weights20, variant, name):
    folder = cases(variant)
    assert files_in(folder) == FILES
    (input_name, images), (output_name, logits) = (
        tensor(folder / "test_data_set_0" / file) for file in ("input_0.pb", "output_0.pb")
    )
    assert (input_name, output_name) == (name, "logits")
    assert (images.dtype.name, len(images), logits.shape, logits.dtype) == (variant, 8, (8, 10), np.float32)
    if variant == "uint8":
        assert (images.min(), images.max()) == (0, 255)
    answer = open_runtime("onnxruntime-cpu", folder / "model.onnx").logits(images)
    assert 0 < np.abs(answer - logits).max() < tolerance(logits)


@pytest.fixture(scope="module")
def int8_case(tmp_path_factory):
    """The folder that `onnx --precision int8 --golden` writes of a bundled network."""
    from click.testing import CliRunner

    from cifar_export.__main__ import main

    folder = tmp_path_factory.mktemp("golden") / "case"
    output = folder.with_name("a.onnx")
    arguments = ["onnx", "resnet20", "--precision", "int8", "--golden", folder, "--output", output, "--no-check"]
    done = CliRunner().invoke(main, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return folder


def another_zero_point(model):
    """Let what reads a value take the zero point of another one."""
    node(model, "layer2.1.conv2.dequantize").input[2] = "layer1.0.conv2.zero_point"


def golden_error(folder, model):
    """The largest error of ONNX Runtime with `model` on the vectors in `folder`, and what they allow."""
    images, logits = (tensor(folder / file)[1] for file in FILES[2:])
    limits = json.loads((folder / "data.json").read_text())
    assert limits["rtol"] == 0
    return float(np.abs(open_runtime("onnxruntime-cpu", model).logits(images) - logits).max()), limits["atol"]


def test_an_int8_file_meets_its_golden_vectors(int8_case):
    assert files_in(int8_case) == FILES
    error, allowed = golden_error(int8_case, int8_case / "model.onnx")
    assert error < allowed / 4


@pytest.mark.parametrize(
    "change",
    [
        edit("conv1.weight.steps", lambda steps: -steps),
        edit("layer2.0.conv1.weight.scale", lambda scales: np.full_like(scales, scales.max())),
        edit("layer3.2.conv2.weight.scale", lambda scales: scales[::-1].copy()),
        edit("layer1.2.conv1.bias.steps", lambda steps: steps // 2),
        another_zero_point,
    ],
    ids=["sign", "one scale for all channels", "scales in another order", "bias on another grid", "zero point"],
)
def test_an_int8_file_with_a_fault_does_not(int8_case, tmp_path, change):
    error, allowed = golden_error(int8_case, plant(int8_case / "model.onnx", tmp_path / "a.onnx", change))
    assert error > allowed


@pytest.mark.parametrize("format_name", ["torchscript", "torch-export"])
def test_other_formats_return_the_same_logits(exported, tmp_path, format_name):
    artifact = exported(format_name, "uint8")
    write_golden(artifact, tmp_path)
    assert files_in(tmp_path) == FILES[2:]
    images, logits = (tensor(tmp_path / file)[1] for file in FILES[2:])
    assert np.abs(open_runtime(format_name, artifact.path).logits(images) - logits).max() < tolerance(logits)


def test_bytes_depend_on_weights_and_file_only(exported, tmp_path):
    for folder in ("a", "b/c"):
        write_golden(exported("onnx", "float32", 17), tmp_path / folder)
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b/c" / file).read_bytes() for file in FILES)


def test_logits_are_float64_rounded_once(weights20):
    images, logits = golden_vectors(weights20, "float32")
    single = open_runtime("pytorch", network_of(weights20)).logits(images)
    assert 0 < np.abs(single - logits).max() < tolerance(logits)
    from cifar_export.runtimes.pytorch import Reference

    exact = Reference(network_of(weights20).double()).logits(images)
    assert np.array_equal(exact.astype(np.float32), logits)


@pytest.mark.parametrize(
    ("largest", "allowed"),
    # 64 units in the last place: of 2^-23 for logits from 1 on, of 2^-20 from 8 on, of 2^-14 from 512 on
    [(1.5, 7.62939453125e-06), (-12.0, 6.103515625e-05), (1000.0, 3.90625e-03)],
)
def test_the_tolerance_is_64_units_in_the_last_place_of_the_largest_logit(largest, allowed):
    assert tolerance(np.array([[0.25, largest], [0.125, 0.5]], np.float32)) == allowed


def network_of(weights):
    from cifar_export.weights.core import build_network

    return build_network(weights)


# ONNX's own loader and runner.


class OnCpu(onnx.backend.base.Backend):
    """ONNX Runtime on the CPU: the backend that onnxruntime-gpu brings runs on GPUs alone."""

    @classmethod
    def prepare(cls, model, device="CPU", **kwargs):
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        rep = onnx.backend.base.BackendRep()
        rep.run = lambda inputs: session.run(None, {session.get_inputs()[0].name: inputs[0]})
        return rep

    @classmethod
    def supports_device(cls, device):
        return device == "CPU"


def run_backend_tests(monkeypatch, root):
    """Run the test cases under `root` with ONNX's backend test runner on ONNX Runtime."""
    from onnx.backend.test import loader, runner

    def ours(kind):
        return loader.load_model_tests(str(root), kind) if kind == "simple" else []

    monkeypatch.setattr(runner, "load_model_tests", ours)
    suite = runner.Runner(OnCpu, __name__).include("_cpu$").test_suite
    result = unittest.TestResult()
    suite.run(result)
    return result


@THEIRS
def test_the_backend_test_runner_of_onnx_accepts_them(cases, monkeypatch):
    folders = [cases("float32"), cases("uint8")]
    result = run_backend_tests(monkeypatch, folders[0].parent.parent)
    ran = result.testsRun - len(result.skipped)
    assert (ran, result.failures, result.errors) == (2, [], [])


@THEIRS
@pytest.mark.parametrize("change", [edit("fc.weight", nudge), edit_all(keep_mantissa_bits(10))], ids=["fc", "TF32"])
def test_the_backend_test_runner_of_onnx_refuses_a_wrong_model(cases, monkeypatch, change):
    folder = cases()
    plant(folder / "model.onnx", folder / "model.onnx", change)
    result = run_backend_tests(monkeypatch, folder.parent.parent)
    assert (len(result.failures), result.errors) == (1, [])
    assert "Not equal to tolerance" in result.failures[0][1]


# Polygraphy, with the conversion that the documentation gives.


def polygraphy(folder, *more):
    page = (ROOT / "docs" / "files.md").read_text()
    (script,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "polygraphy" in block)
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, capture_output=True)
    limit = json.loads((folder / "data.json").read_text())["atol"]
    command = [POLYGRAPHY, "run", "model.onnx", "--onnxrt", "--load-inputs", "inputs.json",
               "--load-outputs", "outputs.json", "--rtol", "0", "--atol", str(limit)]  # fmt: skip
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.skipif(not POLYGRAPHY.is_file(), reason="polygraphy is not installed")
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_polygraphy_accepts_them_and_refuses_a_wrong_model(cases, right):
    folder = cases("uint8")
    if not right:
        plant(folder / "model.onnx", folder / "model.onnx", edit("layer3.2.conv2.bias", nudge))
    result = polygraphy(folder)
    assert result.returncode == (0 if right else 1), result.stdout + result.stderr
    assert ("PASSED" if right else "FAILED") in result.stdout + result.stderr


# The command.


def test_golden_option(run, weights20_file, tmp_path):
    file, folder = tmp_path / "a.torchscript.pt", tmp_path / "golden"
    command = ["torchscript", "resnet20", "--weights", weights20_file, "--output", file, "--golden", folder]
    result = run(*command, "--json")
    assert (result.exit_code, json.loads(result.stdout)["golden"]) == (0, str(folder))
    assert files_in(folder) == FILES[2:]
    refused = run(*command[:-1], file / "golden")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert file.is_file()  # the export itself is done and proved


def test_golden_option_of_onnx(run, weights20_file, tmp_path):
    file, folder = tmp_path / "a.onnx", tmp_path / "golden"
    result = run("onnx", "resnet20", "--opset", 17, "--weights", weights20_file, "--output", file, "--golden", folder)
    assert (result.exit_code, files_in(folder)) == (0, FILES)
    assert (folder / "model.onnx").read_bytes() == file.read_bytes()
    assert re.search(rf"^golden +{folder}$", result.stdout, re.MULTILINE)
