"""`cifar-export onnx`: what can be asked of the graph, by options and by the name of a target."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import Result

from cifar_export.formats.onnx_choices import TARGETS
from cifar_export.gate.inputs import few_of_each

Run = Callable[..., Result]


def test_a_target_decides_and_an_option_beats_it(run: Run, weights20_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    done = run(
        "onnx", "resnet20", "--weights", weights20_file, "--target", "vnn", "--opset", 11, "--output", file, "--json"
    )
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["input"], said["opset"], said["choices"]["batch"]) == ("unit", 11, 1)
    assert said["parity"]["passed"] is True
    sidecar = json.loads(file.with_name("a.onnx.json").read_text())
    assert sidecar["choices"] == said["choices"]
    assert sidecar["inputs"] == [{"name": "scaled_image", "dtype": "float32", "shape": [1, 3, 32, 32]}]
    assert onnx.load(file).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_evaluate_parity_and_predict_take_a_file_of_one_batch_and_channels_last(
    run: Run, weights20_file: Path, tmp_path: Path
) -> None:
    file, any_file = tmp_path / "a.onnx", tmp_path / "b.onnx"
    network = ["resnet20", "--weights", weights20_file]
    options = ["--batch", 5, "--layout", "nhwc", "--input", "unit", "--batch-norm", "separate", "--pooling", "average"]
    for path, more in ((file, [*options, "--classifier", "matmul"]), (any_file, [])):
        done = run("onnx", *network, *more, "--output", path, "--no-check")
        assert done.exit_code == 0, done.stderr
    proved = run("parity", *network, "--file", file, "--runtime", "onnxruntime-cpu", "--json")
    assert proved.exit_code == 0, proved.stderr
    assert json.loads(proved.stdout)["input"] == "unit"
    picture = Path(__file__).parents[2] / "examples" / "samples" / "ship.png"
    answers = []
    for path in (file, any_file):
        done = run("predict", path, picture, "--json")
        assert done.exit_code == 0, done.stderr
        (answer,) = json.loads(done.stdout)
        answers.append([(guess["label"], round(guess["probability"], 4)) for guess in answer["top"]])
    assert answers[0] == answers[1]


def test_a_file_with_float16_ports_is_described_proved_and_run_as_such(
    run: Run, weights20_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_export.diagnosis.prove.input_sets", few_of_each)
    file, network = tmp_path / "a.onnx", ["resnet20", "--weights", weights20_file]
    asked = ["--precision", "float16", "--io", "float16", "--golden", tmp_path / "golden"]
    done = run("onnx", *network, *asked, "--output", file, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["choices"]["io"] == "float16"
    sidecar = json.loads(file.with_name("a.onnx.json").read_text())
    assert [port["dtype"] for port in (*sidecar["inputs"], *sidecar["outputs"])] == ["float16", "float16"]
    golden = tmp_path / "golden" / "test_data_set_0"
    halves = [onnx.load_tensor(golden / f"{name}_0.pb").data_type for name in ("input", "output")]
    assert halves == [onnx.TensorProto.FLOAT16] * 2
    proved = run("parity", *network, "--file", file, "--runtime", "onnxruntime-cpu", "--runtime", "openvino")
    assert proved.exit_code == 0, proved.stdout + proved.stderr
    timed = run("benchmark", file, "--weights", weights20_file, "--runtime", "onnxruntime-cpu", "--time-limit", "0.1")
    assert timed.exit_code == 0, timed.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--opset", "8"], "opset 8 cannot be delivered. Choose one from 9 to 26."),
        (["--opset", "x"], "'x' is not a valid integer"),
        (["--batch", "0"], "a batch of 0 cannot be delivered. Choose 1 to 1024, or dynamic."),
        (["--batch", "any"], "'any' is not a valid integer"),
        (["--layout", "nhwc", "--input", "uint8"], "a layout is for float inputs"),
        (["--target", "vn"], "'vn' is not one of 'onnxruntime', 'tensorrt'"),
        (["--io", "float16"], "float16 input and logits are for --precision float16"),
        (["--io", "bfloat16"], "'bfloat16' is not one of 'float32', 'float16'"),
        (["--pooling", "max"], "'max' is not one of 'global', 'average', 'reduce-mean'"),
        (["--target", "vnn", "--layout", "nhwc", "--input", "uint8"], "a layout is for float inputs"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("onnx", "resnet20", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_graphs_options_are_those_of_onnx_alone(run: Run) -> None:
    for command in ("torchscript", "torch-export"):
        done = run(command, "resnet20", "--target", "vnn")
        assert done.exit_code == 2
        assert "no such option" in done.stderr


def test_help_lists_every_target(run: Run) -> None:
    shown = "".join(run("onnx", "--help").stdout.split())  # lines may break inside a name
    assert all(target in shown for target in TARGETS)
