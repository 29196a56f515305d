"""`--precision` of `onnx`, `parity` and `evaluate`, and `quantize`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import Result

from cifar_export.quantization.document import recorded_accuracy
from cifar_export.weights.index import bundled_entries

from support.paths import ROOT
from support.shapes import write_shapes

Run = Callable[..., Result]
SMALL = ("resnet8", "--weights", "random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("precision")


@pytest.fixture(scope="module")
def quantized(folder: Path) -> Path:
    """The folder that `quantize` writes, of a small network."""
    from click.testing import CliRunner

    from cifar_export.__main__ import main

    pictures = folder / "shapes"
    write_shapes(pictures, train=4, test=2)
    done = CliRunner().invoke(
        main,
        ["quantize", *SMALL, "--dataset", str(pictures), "--output", str(folder / "q"), "--json"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["quantization"]["calibration"].startswith("20 training pictures given, ")
    assert (said["quantization"]["weight_bits"], said["quantization"]["scheme"]) == (7, "per-channel")
    return folder / "q"


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_a_bundled_network_needs_no_data(run: Run, tmp_path: Path, precision: str) -> None:
    sizes, bytes_ = {}, []
    for name in ("float32", precision, "again"):
        file = tmp_path / f"{name}.onnx"
        wanted = name if name != "again" else precision
        done = run("onnx", "resnet20", "--precision", wanted, "--output", file, "--json")
        assert done.exit_code == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["choices"]["precision"] == wanted
        assert said["parity"]["passed"] is True
        assert said["parity"]["precision"] == wanted
        sizes[name] = said["bytes"]
        bytes_.append(file.read_bytes())
    assert bytes_[1] == bytes_[2]
    assert sizes[precision] < sizes["float32"] * {"int8": 0.30, "float16": 0.55}[precision]
    sidecar = json.loads((tmp_path / f"{precision}.onnx.json").read_text())
    assert sidecar["choices"]["precision"] == precision


def test_an_int8_file_says_how_it_was_quantized_and_is_proved(run: Run, quantized: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    done = run("onnx", quantized, "--precision", "int8", "--input", "uint8", "--output", file)
    assert done.exit_code == 0, done.stderr
    said = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert json.loads(said["quantization"])["weight_bits"] == 7
    weights = quantized / "weights.safetensors"
    proof = ("parity", "resnet8", "--weights", weights, "--file", file, "--runtime", "onnxruntime-cpu")
    done = run(*proof, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["precision"] == "int8"
    done = run(*proof, "--precision", "float16")
    assert (done.exit_code, done.stderr) == (2, f"error: {file} is int8, not float16. Leave --precision away.\n")


def test_an_int8_file_of_other_grids_is_another_file(run: Run, quantized: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "a.onnx", tmp_path / "other"
    pictures = quantized.parent / "shapes"
    network = ("resnet8", "--weights", "random", "--dataset", pictures)
    assert run("onnx", quantized, "--precision", "int8", "--output", file).exit_code == 0
    assert run("quantize", *network, "--scheme", "per-tensor", "--output", other).exit_code == 0
    weights = other / "weights.safetensors"
    done = run("parity", "resnet8", "--weights", weights, "--file", file, "--runtime", "onnxruntime-cpu")
    assert done.exit_code == 1
    assert "it was quantized with other grids than those of these weights" in done.stderr


def test_weights_with_grids_give_the_same_float32_file(run: Run, quantized: Path, tmp_path: Path) -> None:
    pictures, graphs = quantized.parent / "shapes", []
    for number, network in enumerate(((quantized,), (*SMALL, "--dataset", pictures))):
        file = tmp_path / f"{number}.onnx"
        done = run("onnx", *network, "--output", file, "--no-check")
        assert done.exit_code == 0, done.stderr
        graphs.append(onnx.load(file).graph.SerializeToString(deterministic=True))
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "int4"], "'int4' is not one of 'float32', 'float16', 'int8'"),
        (["--precision", "int8", "--opset", "12"], "opset 12 has no int8 networks"),
        (["--precision", "int8", "--classifier", "matmul"], "an int8 network ends in Gemm"),
        (["--precision", "float16", "--batch-norm", "separate"], "batch norms stay separate in float32 only"),
        (["--weight-bits", "8"], "--weight-bits and --scheme are for --precision int8. Leave them away."),
        (["--precision", "float16", "--scheme", "per-tensor"], "are for --precision int8"),
        (["--precision", "int8", "--weight-bits", "6"], "'6' is not one of '7', '8'"),
    ],
)
def test_what_cannot_be_delivered_is_refused(run: Run, options: list[str], said: str, tmp_path: Path) -> None:
    done = run("onnx", *SMALL, *options, "--output", tmp_path / "a.onnx")
    assert done.exit_code == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_are_not_there_are_missing(run: Run, tmp_path: Path) -> None:
    done = run(
        "onnx", *SMALL, "--precision", "int8", "--calibration", tmp_path / "none", "--output", tmp_path / "a.onnx"
    )
    assert done.exit_code == 3
    assert "no CIFAR-10 in" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_classes_of_ones_own_need_pictures(run: Run, tmp_path: Path) -> None:
    labels = tmp_path / "mine.txt"
    labels.write_text("a\nb\n")
    done = run("onnx", *SMALL, "--labels", labels, "--precision", "int8", "--output", tmp_path / "a.onnx")
    assert done.exit_code == 2
    assert "int8 needs training pictures of mine to measure its ranges on.\nGive --calibration DIR" in done.stderr


@pytest.mark.parametrize("command", ["parity", "evaluate"])
def test_a_runtime_that_runs_no_int8_is_named(run: Run, quantized: Path, command: str) -> None:
    done = run(
        command, quantized, "--precision", "int8", "--runtime", "torchscript", "--dataset", quantized.parent / "shapes"
    )
    assert done.exit_code == 2
    assert "torchscript runs no int8 files. Choose a --runtime that does: onnxruntime-cpu" in done.stderr


SAMPLES = ROOT / "examples" / "samples"


def _answers(done: Result) -> dict[str, tuple[str, float]]:
    """The likeliest class of each picture, and its probability."""
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    return {Path(one["file"]).stem: (one["top"][0]["label"], one["top"][0]["probability"]) for one in said}


def test_predict_computes_in_the_precision_asked_for(run: Run, tmp_path: Path) -> None:
    pictures = [SAMPLES / "cat.png", SAMPLES / "ship.png"]
    file = tmp_path / "a.onnx"
    assert run("onnx", "resnet20", "--precision", "int8", "--no-check", "--output", file).exit_code == 0
    found = {
        precision: _answers(run("predict", "resnet20", *pictures, "--precision", precision, "--json"))
        for precision in ("float32", "float16", "int8")
    }
    for answers in found.values():
        assert {name: label for name, (label, _) in answers.items()} == {"cat": "cat", "ship": "ship"}
    # the same arithmetic behind another input
    assert found["int8"]["cat"][1] == pytest.approx(
        _answers(run("predict", file, *pictures, "--json"))["cat"][1], abs=0.02
    )
    assert found["float32"] != found["float16"] != found["int8"] != found["float32"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--runtime", "torchscript", "--precision", "int8"], "torchscript runs no int8 files. Choose a --runtime"),
        (["--runtime", "pytorch", "--precision", "float16"], "pytorch runs no float16 files. Choose a --runtime"),
    ],
)
def test_predict_names_runtimes_that_run_that_precision(run: Run, options: list[str], said: str) -> None:
    done = run("predict", "resnet20", SAMPLES / "cat.png", *options)
    assert done.exit_code == 2
    assert said in done.stderr


def test_predict_takes_the_precision_of_a_file(run: Run, quantized: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    assert run("onnx", quantized, "--precision", "int8", "--no-check", "--output", file).exit_code == 0
    done = run("predict", file, SAMPLES / "cat.png", "--precision", "int8")
    assert (done.exit_code, done.stderr) == (
        2,
        f"error: {file} has the precision that it has. Leave --precision away.\n",
    )
    done = run("predict", file, SAMPLES / "cat.png", "--runtime", "opencv")
    assert done.exit_code == 2
    assert "opencv runs no int8 files" in done.stderr


def test_quantize_keeps_what_is_there(run: Run, quantized: Path) -> None:
    before = (quantized / "weights.safetensors").read_bytes()
    done = run("quantize", *SMALL, "--dataset", quantized.parent / "shapes", "--output", quantized)
    assert done.exit_code == 2
    assert "is there already" in done.stderr
    assert (quantized / "weights.safetensors").read_bytes() == before
    done = run("quantize", quantized)
    assert done.exit_code == 2
    assert "these weights are quantized already" in done.stderr


def test_a_finetuned_network_is_proved_and_says_so(
    run: Run, quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cifar_export.training import finetuning

    monkeypatch.setattr(finetuning, "LEARNING_RATE", 0.02)  # in so few steps
    pictures, output = quantized.parent / "shapes", tmp_path / "tuned"
    arguments = ("quantize", *SMALL, "--dataset", pictures, "--finetune", "100", "--output", output)
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    before, after = (said["finetuning"][when] for when in ("before", "after"))
    assert before["images"] == after["images"] == 20
    assert said["finetuning"]["kept"] == (after["divergence"] < before["divergence"])
    assert sorted(path.name for path in output.iterdir()) == ["weights.safetensors"]
    assert said["finetuning"]["kept"]
    assert said["quantization"]["finetuning"] == "100 epochs on 20 training pictures, seed 0"
    file = tmp_path / "a.onnx"
    done = run("onnx", output, "--precision", "int8", "--output", file, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["parity"]["passed"] is True
    document = json.loads(file.with_name("a.onnx.json").read_text())
    assert document["quantization"] == said["quantization"]
    done = run(*arguments)
    assert done.exit_code == 2
    assert "is there already" in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--resume",), 2, "--resume continues a finetuning. Add --finetune EPOCHS"),
        (("--finetune", "0"), 2, "'--finetune'"),
        (("--finetune", "1", "--data-dir", "nowhere"), 3, "nowhere"),
    ],
)
def test_a_finetuning_that_cannot_be(run: Run, tmp_path: Path, options: tuple[str, ...], code: int, said: str) -> None:
    done = run("quantize", *SMALL, *options, "--output", tmp_path / "q")
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "q").exists()


def test_ctrl_c_in_a_finetuning_says_where_it_goes_on(
    run: Run, quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cifar_export.training import finetuning

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    arguments = ("quantize", *SMALL, "--dataset", quantized.parent / "shapes", "--finetune", "9", "-o", tmp_path / "q")
    monkeypatch.setattr(finetuning, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    real = finetuning._distance
    monkeypatch.setattr(finetuning, "_distance", interrupted)
    done = run(*arguments)
    assert done.exit_code == 130
    assert "\ninterrupted: there was no checkpoint yet, so there is nothing to resume.\n" in done.stderr
    assert not (tmp_path / "q").exists()
    seen: list[object] = []

    def once(*given: object) -> object:
        seen.append(given)
        return real(*given) if len(seen) == 1 else interrupted()

    monkeypatch.setattr(finetuning, "_distance", once)
    done = run(*arguments)
    assert done.exit_code == 130
    assert "\ninterrupted: --resume continues at the last checkpoint.\n" in done.stderr
    monkeypatch.setattr(finetuning, "_distance", real)
    done = run(*arguments, "--resume", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["finetuning"]["before"]["images"] == 20


def test_who_resumes_what_is_not_there_is_told(run: Run, quantized: Path, tmp_path: Path) -> None:
    arguments = ("quantize", *SMALL, "--dataset", quantized.parent / "shapes", "--finetune", "1", "-o", tmp_path / "q")
    done = run(*arguments, "--resume")
    assert done.exit_code == 0, done.stderr
    assert f"note: there is no checkpoint in {tmp_path / 'q'}: the finetuning begins anew.\n" in done.stderr


def test_quantized_weights_have_their_bits(run: Run, quantized: Path, tmp_path: Path) -> None:
    done = run("onnx", quantized, "--precision", "int8", "--weight-bits", "8", "--output", tmp_path / "a.onnx")
    assert done.exit_code == 2
    assert "quantized already, with 7 bits per-channel" in done.stderr


@pytest.mark.parametrize(
    ("name", "precision"),
    [("cifar10_resnet20", "int8"), ("cifar100_resnet20", "int8"), ("cifar10_resnet20", "float16")],
)
@pytest.mark.slow
def test_the_accuracy_is_the_recorded_one(run: Run, cifar_data: Path, name: str, precision: str) -> None:
    done = run("evaluate", name, "--precision", precision, "--data-dir", cifar_data, "--json")
    assert done.exit_code == 0, done.stderr
    recorded = recorded_accuracy(name, bundled_entries()[name].sha256, precision)["onnxruntime-cpu"]
    # the summation order of another processor moves a few images over a tie
    assert json.loads(done.stdout)["top1"] == pytest.approx(recorded["top1"], abs=0.05)
