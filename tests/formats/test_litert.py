"""LiteRT files: what stands in them, that their bytes are the network's alone, and what is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from cifar_export import export as export_by_name
from cifar_export.errors import InvalidInput
from cifar_export.exporting.artifact import export
from cifar_export.exporting.precision import prepared, quantized
from cifar_export.exporting.subject import Subject
from cifar_export.formats import FORMATS, choices_for
from cifar_export.formats.litert_choices import LitertChoices
from cifar_export.gate.check import check
from cifar_export.gate.inputs import bundled_images, few_of_each, input_sets
from cifar_export.networks.resnet import with_input
from cifar_export.networks.zoo import INPUT_VARIANTS, NETWORKS, named
from cifar_export.quantization.grids import layers
from cifar_export.runtimes import open_runtime
from cifar_export.weights.core import Weights, build_network
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.paths import ROOT

schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="ai-edge-litert is not installed")
import flatbuffers  # noqa: E402  # it comes with the schema

from cifar_export.formats.litert_graph import litert_model  # noqa: E402

Run = Callable[..., Result]
SPEC = named("cifar10_resnet8")
MAKE = """
import sys
from pathlib import Path
from cifar_export.exporting.artifact import export
from cifar_export.networks.zoo import named
from cifar_export.weights.seeded import random_weights
export(random_weights(named("cifar10_resnet8"), 1), "litert", output=Path(sys.argv[1]), checked=False)
"""
# of the bundled cifar10_resnet20, without metadata
DIGESTS = {
    "float32": "0549f279828a3aa388c4d0559f7b09179d21bbb0b5a75656290b60cc62901a0b",
    "int8": "9931005709f44e0217aa065d4ecd15754f6737b8a6740d5b162ba598e49931b8",
}


@pytest.fixture(scope="module")
def whole() -> Weights:
    """Seeded weights with grids."""
    return quantized(random_weights(SPEC, 1), bundled_images()[:64])


@pytest.fixture(scope="module")
def trained() -> Weights:
    """Bundled weights with grids."""
    return prepared(load_weights(NETWORKS["cifar10_resnet20"]), "int8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of seeded weights that takes pixels, proved."""
    path = tmp_path_factory.mktemp("litert") / "model.tflite"
    return export(random_weights(SPEC, 1), "litert", variant="uint8", output=path).path


def _graph(data: bytes) -> Any:
    return schema.ModelT.InitFromPackedBuf(data)


def _packed(model: Any) -> bytes:
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("variant", INPUT_VARIANTS)
def test_each_input_variant_is_proved_in_litert(variant: Any, precision: Any, whole: Weights, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    made = export(whole, "litert", variant=variant, choices=choices_for("litert", precision), output=path)
    assert made.parity is not None
    assert [(row.runtime, row.state, row.images) for row in made.parity.runtimes] == [("litert", "passed", 128)]
    facts = FORMATS["litert"].load().inspect(path)
    assert (facts.variant, facts.precision, facts.opset) == (variant, precision, None)
    sidecar = json.loads(path.with_name("model.tflite.json").read_text())
    assert sidecar["inputs"][0]["shape"] == [1, 32, 32, 3]
    assert sidecar["outputs"] == [{"name": "logits", "dtype": "float32", "shape": [1, 10]}]
    assert facts.metadata is not None
    assert facts.metadata["labels"] == list(SPEC.dataset.labels)
    assert facts.metadata["choices"] == {"batch": 1, "layout": "nhwc", "precision": precision}


def test_the_bound_of_xnnpack_is_four_times_that_of_others(tmp_path: Path) -> None:
    weights = load_weights(NETWORKS["cifar100_resnet32"])
    names, pixels = ["litert", "litert-reference"], {"structured": input_sets()["structured"]}
    with Subject(weights, "uint8") as subject:
        report = check(weights, "uint8", {"litert": subject.file("litert")}, names, pixels, isolated=True)
    assert [row.state for row in report.runtimes] == ["passed", "passed"], report.failures
    (added,), (summed,) = (row.comparisons for row in report.runtimes)
    assert added.allowed == 4 * summed.allowed == 4 * report.allowed["structured"]
    assert added.max_abs_error > summed.allowed  # what it is for


def test_the_reference_kernels_compute_the_same(whole: Weights, tmp_path: Path) -> None:
    for precision in ("float32", "int8"):
        path = tmp_path / f"{precision}.tflite"
        export(whole, "litert", choices=choices_for("litert", precision), output=path, checked=False)
        files, names = {"litert": path}, ["litert", "litert-reference"]
        report = check(whole, "float32", files, names, few_of_each(), isolated=True, precision=precision)
        assert [row.state for row in report.runtimes] == ["passed", "passed"], report.failures
        providers = [row.provider or "" for row in report.runtimes]
        assert providers[0].endswith("XNNPACK")
        assert providers[1].endswith("reference kernels")


def test_a_file_takes_the_batch_that_was_asked_for_and_is_fed_any(tmp_path: Path) -> None:
    weights, images = random_weights(SPEC, 1), bundled_images()[:7]
    logits = []
    for batch in (1, 5):
        path = tmp_path / f"{batch}.tflite"
        made = export(weights, "litert", variant="uint8", choices=LitertChoices(batch=batch), output=path)
        assert made.parity is not None
        assert made.parity.passed
        assert list(_graph(path.read_bytes()).subgraphs[0].tensors[0].shape) == [batch, 32, 32, 3]
        with open_runtime("litert", path) as runtime:
            logits.append(runtime.logits(images))
    assert np.abs(logits[0] - logits[1]).max() < 1e-4
    assert logits[0].shape == (7, 10)


def test_an_int8_file_stands_on_the_grids_of_the_onnx_file(whole: Weights, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    export(whole, "litert", choices=LitertChoices(precision="int8"), output=path, checked=False)
    model = _graph(path.read_bytes())
    tensors = {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors}
    grids = whole.grids
    assert grids is not None
    for name, grid in grids.values.items():
        told = tensors["input.steps" if name == "input" else name].quantization
        assert (told.scale.tolist(), told.zeroPoint.tolist()) == ([np.float32(grid.scale)], [grid.zero - 128]), name
    for name, layer in layers(build_network(whole), grids).items():
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        numbers = [model.buffers[one.buffer].data.tobytes() for one in (weight, bias)]
        if name == "fc":  # its logits are float32, and so are its weights
            steps = layer.weight * layer.scale.astype(np.float64)[:, None]
            assert np.array_equal(np.frombuffer(numbers[0], np.float32).reshape(steps.shape), steps.astype(np.float32))
            continue
        assert numbers[0] == np.ascontiguousarray(layer.weight.transpose(0, 2, 3, 1)).tobytes()
        assert numbers[1] == layer.bias.tobytes()
        assert np.array_equal(weight.quantization.scale, layer.scale)
        assert np.array_equal(bias.quantization.scale, layer.scale * np.float32(layer.input.scale))
        assert not weight.quantization.zeroPoint.any()


def test_one_scale_for_all_channels_is_one_scale_in_the_file(tmp_path: Path) -> None:
    weights = quantized(random_weights(SPEC, 1), bundled_images()[:64], scheme="per-tensor")
    path = tmp_path / "model.tflite"
    made = export(weights, "litert", choices=LitertChoices(precision="int8"), output=path)
    assert made.parity is not None
    assert made.parity.passed
    scales = {
        tensor.name: len(tensor.quantization.scale)
        for tensor in _graph(path.read_bytes()).subgraphs[0].tensors
        if tensor.name.endswith(b"conv1.weight")
    }
    assert set(scales.values()) == {1}


def _rolled(model: Any, tensor: Any) -> None:
    tensor.quantization.scale = np.roll(tensor.quantization.scale, 1)


def _emptied(model: Any, tensor: Any) -> None:
    model.buffers[tensor.buffer].data = np.zeros_like(model.buffers[tensor.buffer].data)


def _scaled(model: Any, tensor: Any) -> None:
    tensor.quantization.scale = tensor.quantization.scale * np.float32(1.1)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("layer1.0.conv2.weight", _rolled),
        ("layer2.0.conv1.bias", _emptied),
        ("layer3.0.conv2.weight", _scaled),
        ("fc.bias", _emptied),
    ],
)
def test_an_int8_file_with_a_fault_is_refused(name: str, fault: Any, trained: Weights, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    export(trained, "litert", choices=LitertChoices(precision="int8"), output=path, checked=False)
    model = _graph(path.read_bytes())
    (tensor,) = (one for one in model.subgraphs[0].tensors if one.name.decode() == name)
    fault(model, tensor)
    path.write_bytes(_packed(model))
    report = check(trained, "float32", {"litert": path}, ["litert"], few_of_each(), isolated=True, precision="int8")
    assert [row.state for row in report.runtimes] == ["failed"]


def test_weights_are_aligned_as_the_schema_asks(made: Path) -> None:
    data = made.read_bytes()
    model = schema.Model.GetRootAs(data, 0)
    found = 0
    for number in range(model.BuffersLength()):
        buffer = model.Buffers(number)
        if not buffer.DataIsNone():
            begin = buffer._tab.Vector(buffer._tab.Offset(4))
            assert begin % 16 == 0
            found += 1
    assert found > 20


def test_it_can_be_asked_by_the_names_of_its_input_and_output(made: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    images = bundled_images()[:1]
    asked = Interpreter(model_path=str(made)).get_signature_runner("serving_default")(image=images)
    with open_runtime("litert", made) as runtime:
        assert np.array_equal(asked["logits"], runtime.logits(images))


def test_a_reader_of_other_people_computes_the_same(made: Path) -> None:
    ov = pytest.importorskip("openvino", reason="openvino is not installed")
    images = bundled_images()[:8]
    compiled = ov.Core().compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert [port.any_name for port in (*compiled.inputs, *compiled.outputs)] == ["image", "logits"]
    other = np.concatenate([compiled(image[None])[0] for image in images])
    with open_runtime("litert", made) as runtime:
        assert np.abs(other - runtime.logits(images)).max() < 1e-4


@pytest.mark.parametrize("precision", list(DIGESTS))
def test_the_bytes_are_those_of_the_first_release(precision: Any) -> None:
    weights = prepared(load_weights(NETWORKS["cifar10_resnet20"]), precision)
    module = with_input(build_network(weights), "uint8", weights.normalization).eval()
    data = litert_model(module, "network", LitertChoices(precision=precision), weights.grids, {})
    assert hashlib.sha256(data).hexdigest() == DIGESTS[precision]


def test_its_bytes_do_not_depend_on_the_process_or_what_it_made_before(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.tflite" for number in range(3)]
    for path in paths[:2]:
        export(random_weights(SPEC, 1), "litert", output=path, checked=False)
    subprocess.run([sys.executable, "-c", MAKE, paths[2]], check=True, cwd=tmp_path, capture_output=True)
    assert len({path.read_bytes() for path in paths}) == 1


def test_what_litert_prints_reaches_nobody(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "cli.py", "litert", "resnet20", "-o", "a.tflite"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "parity      passed: litert" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:6],
        lambda data: b"",
        lambda data: b"no model at all, though it is longer than the first few bytes",
        lambda data: data[:8] + bytes(len(data) - 8),
        lambda data: b"\xff\xff\xff\x7f" + data[4:],
    ],
)
def test_a_damaged_file_is_refused_in_one_line(made: Path, tmp_path: Path, run: Run, damage: Any) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(damage(made.read_bytes()))
    with pytest.raises(InvalidInput) as refused:
        FORMATS["litert"].load().inspect(path)
    assert "\n" not in str(refused.value)
    result = run("predict", path, ROOT / "examples" / "samples" / "cat.png")
    assert (result.exit_code, result.stdout) == (2, "")


def test_metadata_that_is_no_document_is_refused(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    data = made.read_bytes()
    for before, after in ((b'"schema":1', b'"schema":}'), (b'{"choices"', b'["choices"')):
        assert data.count(before) == 1
        path.write_bytes(data.replace(before, after))
        with pytest.raises(InvalidInput, match="damaged one"):
            FORMATS["litert"].load().inspect(path)


def test_a_file_of_somebody_else_says_what_it_takes_and_nothing_more(made: Path, tmp_path: Path, run: Run) -> None:
    model = _graph(made.read_bytes())
    model.metadata = None
    path = tmp_path / "foreign.tflite"
    path.write_bytes(_packed(model))
    facts = FORMATS["litert"].load().inspect(path)
    assert (facts.metadata, facts.variant) == (None, "uint8")
    picture = ROOT / "examples" / "samples" / "cat.png"
    answers = [
        json.loads(run("predict", file, picture, "--json", *more).stdout)[0]["top"]
        for file, more in ((path, ["--dataset", "cifar10"]), (made, []))
    ]
    assert answers[0] == answers[1]


def test_without_litert_nothing_is_written_and_no_file_is_read(
    run: Run, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_export.runtimes.litert.importlib.util.find_spec", lambda name: None)
    path = tmp_path / "model.tflite"
    for options in ([], ["--no-check"]):
        result = run("litert", "resnet8", "--weights", "random", "-o", path, *options)
        assert (result.exit_code, list(tmp_path.iterdir())) == (3, [])
        assert "pip install 'cifar-export[litert]'" in result.stderr
    result = run("predict", made, ROOT / "examples" / "samples" / "cat.png")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "ai-edge-litert is not installed" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch", "0"], "a batch of 0 cannot be delivered. Choose 1 to 1024."),
        (["--batch", "1025"], "a batch of 1025 cannot be delivered"),
        (["--batch", "dynamic"], "'dynamic' is not a valid integer"),
        (["--precision", "float16"], "'float16' is not one of 'float32', 'int8'"),
        (["--output", "model.onnx"], "must end with .tflite"),
        (["--scheme", "per-tensor"], "for --precision int8"),
    ],
)
def test_what_cannot_be_delivered_is_refused(run: Run, tmp_path: Path, options: list[str], said: str) -> None:
    arguments = options if "--output" in options else [*options, "--output", str(tmp_path / "model.tflite")]
    result = run("litert", "resnet8", "--weights", "random", *arguments)
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert said in " ".join(result.stderr.split())


def test_the_library_takes_batch_and_precision_and_no_choice_of_onnx(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    made = export_by_name("cifar10_resnet20", "litert", output=path, input="uint8", batch=2, precision="int8")
    assert made.parity is not None
    assert made.parity.passed
    assert (made.precision, made.choices) == ("int8", LitertChoices(2, precision="int8"))
    with pytest.raises(InvalidInput, match="opset 17 for litert"):
        export_by_name("cifar10_resnet20", "litert", output=path, opset=17)
    with pytest.raises(InvalidInput, match="batch"):
        export_by_name("cifar10_resnet20", "litert", output=path, batch="dynamic")


def test_parity_says_what_it_allows_to_this_runtime(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be off by more than what the line of all runtimes says."""
    monkeypatch.setattr("cifar_export.diagnosis.prove.input_sets", few_of_each)
    done = run("parity", "resnet8", "--weights", "random", "--runtime", "litert", "--runtime", "onnxruntime-cpu")
    assert done.exit_code == 0, done.stderr
    allowed, own = (
        next(line for line in done.stderr.splitlines() if word in line) for word in ("d error:", "to litert")
    )
    figures = [[float(word) for word in line.replace(",", "").split() if "e-" in word] for line in (allowed, own)]
    assert len(figures[1]) == len(figures[0])
    assert all(3.9 < wider / usual < 4.1 for usual, wider in zip(*figures, strict=True))
    assert "allowed to onnxruntime" not in done.stderr


def test_parity_and_predict_know_the_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    assert run("litert", "resnet20", "--precision", "int8", "--batch", 3, "-o", path).exit_code == 0
    proved = run("parity", "resnet20", "--file", path, "--json")
    assert proved.exit_code == 0, proved.stderr
    rows = {row["runtime"]: row["state"] for row in json.loads(proved.stdout)["runtimes"]}
    assert rows == {"litert": "passed"}
    refused = run("parity", "resnet32", "--file", path, "--json")
    assert refused.exit_code == 1
    answer = json.loads(run("predict", path, ROOT / "examples" / "samples" / "ship.png", "--json").stdout)
    assert answer[0]["top"][0]["label"] == "ship"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_bundled_network_passes_with_all_images(run: Run, name: str, precision: str) -> None:
    runtimes = ["--runtime", "litert", "--runtime", "litert-reference"]
    proved = run("parity", name, "--precision", precision, "--input", "uint8", *runtimes, "--json")
    assert proved.exit_code == 0, proved.stderr
    assert [row["state"] for row in json.loads(proved.stdout)["runtimes"]] == ["passed", "passed"]
