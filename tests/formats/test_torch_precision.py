"""TorchScript and .pt2 files in float16 and bfloat16: what they hold, what they compute, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result

from cifar_export.errors import GateFailed, InvalidInput
from cifar_export.exporting.artifact import Artifact, export, write_file
from cifar_export.formats import FORMATS, choices_for, proving_runtime
from cifar_export.formats.onnx_choices import Precision
from cifar_export.formats.torch_choices import TorchChoices, read_torch_choices
from cifar_export.gate.inputs import few_of_each
from cifar_export.gate.standard import simulated
from cifar_export.networks.preprocess import as_variant
from cifar_export.networks.resnet import with_input
from cifar_export.networks.zoo import CIFAR10, Accuracy, InputVariant, ModelSpec, NetworkSpec
from cifar_export.runtimes import open_runtime
from cifar_export.runtimes.pytorch import Reference
from cifar_export.system.torch_state import torchscript_deprecations
from cifar_export.weights.core import build_network
from cifar_export.weights.seeded import random_weights

Run = Callable[..., Result]
WEIGHTS = random_weights(NetworkSpec(ModelSpec("resnet8", 1), CIFAR10, Accuracy(0.0, 0.0), ""), seed=5)
PIXELS = np.concatenate(list(few_of_each().values()))[::8]
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
STEP = {"float16": 2.0**-10, "bfloat16": 2.0**-7}  # of a number from 1 to 2

formats = pytest.mark.parametrize("format_name", ["torchscript", "torch-export"])
precisions = pytest.mark.parametrize("precision", ["float16", "bfloat16"])


def written(folder: Path, format_name: str, precision: Precision, variant: InputVariant = "uint8") -> Artifact:
    output = folder / f"a{FORMATS[format_name].suffix}"
    return export(WEIGHTS, format_name, variant=variant, choices=choices_for(format_name, precision), output=output)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".pt2":
        return dict(torch.export.load(path).state_dict)
    with torchscript_deprecations():
        return dict(torch.jit.load(path).state_dict())


@formats
@precisions
@pytest.mark.parametrize("variant", ["uint8", "float32"])
def test_weights_are_of_the_precision_and_logits_those_of_the_simulation(
    tmp_path: Path, format_name: str, precision: Precision, variant: InputVariant
) -> None:
    made = written(tmp_path, format_name, precision, variant)
    assert made.precision == precision
    assert made.parity is not None
    assert made.parity.precision == precision
    held = {name: tensor.dtype for name, tensor in tensors(made.path).items()}
    assert {dtype for name, dtype in held.items() if "network" in name or "fc" in name} == {DTYPES[precision]}
    assert {dtype for name, dtype in held.items() if "pixel" in name} <= {torch.float32}
    assert not any("bn" in name for name in held)  # folded
    images = as_variant(PIXELS, variant, WEIGHTS.normalization)
    double = with_input(simulated(WEIGHTS, precision).double(), variant, WEIGHTS.normalization).eval()
    expected = Reference(double).logits(images)
    with open_runtime(FORMATS[format_name].gate, made.path) as opened:
        logits = opened.logits(images)
    assert logits.dtype == np.float32
    steps = np.abs(logits - expected).max() / (STEP[precision] * np.abs(expected).max())
    assert steps <= 4  # float32 sums may lie on the other side of a tie, and that is carried on


@formats
def test_a_file_says_its_precision_and_is_the_same_again(tmp_path: Path, format_name: str) -> None:
    one, other = (written(tmp_path / name, format_name, "bfloat16") for name in ("one", "other"))
    assert one.sha256 == other.sha256
    assert FORMATS[format_name].load().inspect(one.path).choices == TorchChoices("bfloat16")
    sidecar = json.loads(one.path.with_name(f"{one.path.name}.json").read_text())
    assert sidecar["choices"] == {"precision": "bfloat16"}
    assert sidecar["outputs"][0]["dtype"] == "float32"


@formats
def test_a_float32_file_says_nothing_of_choices(tmp_path: Path, format_name: str) -> None:
    made = written(tmp_path, format_name, "float32")
    assert made.choices is None
    assert "choices" not in json.loads(made.path.with_name(f"{made.path.name}.json").read_text())


@formats
@precisions
def test_a_file_of_other_numbers_is_refused(tmp_path: Path, format_name: str, precision: Precision) -> None:
    network = build_network(WEIGHTS)
    with torch.no_grad():
        network.fc.weight.copy_(network.fc.weight.flip(0))
    path = tmp_path / f"a{FORMATS[format_name].suffix}"
    with pytest.raises(GateFailed, match="parity failed"):
        export(WEIGHTS, format_name, choices=choices_for(format_name, precision), output=path, module=network.eval())
    assert not list(tmp_path.iterdir())


@formats
def test_bfloat16_in_the_place_of_float16_is_refused(tmp_path: Path, format_name: str) -> None:
    """A file may not say more of itself than it has."""
    from cifar_export.gate.check import check

    path = tmp_path / f"a{FORMATS[format_name].suffix}"
    module = build_network(WEIGHTS).eval()
    choices = choices_for(format_name, "bfloat16")
    write_file(path, WEIGHTS, format_name, "float32", module, choices=choices, checked=False)
    gate = FORMATS[format_name].gate
    for precision, passes in (("bfloat16", True), ("float16", False)):
        report = check(WEIGHTS, "float32", {format_name: path}, [gate], few_of_each(), precision=precision)
        assert report.passed == passes


def test_other_precisions_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"no TorchScript files in int8. Known: float32, float16, bfloat16"):
        choices_for("torchscript", "int8")


@pytest.mark.parametrize("said", [None, {}, {"choices": None}, {"choices": {"precision": "float8"}}, {"choices": [1]}])
def test_metadata_that_name_no_precision_of_ours_are_float32(said: dict[str, Any] | None) -> None:
    assert read_torch_choices(said) is None


def test_commands_make_prove_and_use_them(run: Run, weights20_file: Path, tmp_path: Path) -> None:
    network, file = ["resnet20", "--weights", weights20_file], tmp_path / "a.torchscript.pt"
    done = run("torchscript", *network, "--precision", "bfloat16", "-o", file, "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["choices"] == {"precision": "bfloat16"}
    assert said["reduction"]["images"] == 128
    for command, words in (
        ("parity", [*network, "--file", file, "--runtime", "torchscript"]),
        ("predict", [file, Path(__file__).parents[2] / "examples" / "samples" / "ship.png"]),
    ):
        done = run(command, *words)
        assert done.exit_code == 0, done.stdout + done.stderr
    done = run("parity", *network, "--precision", "bfloat16", "--runtime", "openvino")
    assert done.exit_code == 2
    assert "openvino runs no bfloat16 files. Choose a --runtime that does: torchscript, torch-export" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "int8"], "'int8' is not one of 'float32', 'float16', 'bfloat16'"),
        (["--accuracy-budget", "1"], "--accuracy-budget is for a reduced --precision"),
    ],
)
@formats
def test_what_cannot_be_had_is_refused(run: Run, format_name: str, options: list[str], said: str) -> None:
    done = run(format_name, "resnet20", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_file_is_run_by_what_proves_it_unless_another_runtime_is_named() -> None:
    for file, runtime in (("a.onnx", "onnxruntime-cpu"), ("a.ort", "onnxruntime-ort"), ("a.pt2", "torch-export")):
        assert proving_runtime(Path(file)) == runtime
    for precision, runtime in (
        ("float32", "onnxruntime-cpu"),
        ("int8", "onnxruntime-cpu"),
        ("bfloat16", "torchscript"),
    ):
        assert proving_runtime(None, precision) == runtime  # type: ignore[arg-type]
