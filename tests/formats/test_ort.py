"""ONNX Runtime's own format: what stands in it, that its bytes are the network's alone, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_export import export as export_by_name
from cifar_export.errors import GateFailed, InvalidInput
from cifar_export.exporting.artifact import export
from cifar_export.exporting.precision import quantized
from cifar_export.formats import FORMATS, ort
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.formats.ort_buffer import canonical, read
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.zoo import INPUT_VARIANTS, named
from cifar_export.runtimes import open_runtime
from cifar_export.runtimes.onnxruntime import save_ort
from cifar_export.weights.seeded import random_weights

from support.paths import ROOT

SPEC = named("cifar10_resnet8")
OPERATORS = "model.required_operators.config"
MAKE = """
import sys
from pathlib import Path
from cifar_export.exporting.artifact import export
from cifar_export.networks.zoo import named
from cifar_export.weights.seeded import random_weights
export(random_weights(named("cifar10_resnet8"), 1), "ort", output=Path(sys.argv[1]), checked=False)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of seeded weights, proved."""
    return export(
        random_weights(SPEC, 1), "ort", variant="uint8", output=tmp_path_factory.mktemp("o") / "model.ort"
    ).path


def test_in_int8_it_is_the_network_of_its_grids_and_float16_is_refused(tmp_path: Path) -> None:
    weights = quantized(random_weights(SPEC, 1), bundled_images()[:32])
    assert weights.grids is not None
    artifact = export(weights, "ort", choices=OnnxChoices(precision="int8"), output=tmp_path / "a.ort")
    facts = ort.inspect(artifact.path)
    assert (artifact.precision, facts.precision, facts.opset) == ("int8", "int8", 18)
    assert (facts.metadata or {})["quantization"]["sha256"] == weights.grids.digest()
    assert "QLinearConv" in (tmp_path / "a.required_operators.config").read_text()
    assert artifact.parity is not None
    assert artifact.parity.precision == "int8"
    with pytest.raises(InvalidInput, match="is written in float32 or int8, not in float16"):
        export(weights, "ort", choices=OnnxChoices(precision="float16"), output=tmp_path / "b.ort")
    assert not (tmp_path / "b.ort").exists()


@pytest.mark.parametrize("variant", INPUT_VARIANTS)
def test_each_input_variant_is_proved_in_onnx_runtime(variant: Any, tmp_path: Path) -> None:
    artifact = export(random_weights(SPEC, 2), "ort", variant=variant, output=tmp_path / "model.ort")
    assert artifact.parity is not None
    assert [(row.runtime, row.state) for row in artifact.parity.runtimes] == [("onnxruntime-ort", "passed")]
    assert ort.inspect(artifact.path).variant == variant
    assert artifact.beside == (tmp_path / OPERATORS,)


def test_programs_read_the_metadata_and_the_ports_from_onnx_runtime(made: Path) -> None:
    session = onnxruntime.InferenceSession(str(made), providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found["labels"]) == list(SPEC.dataset.labels)
    assert found["Image.BitmapPixelFormat"] == "Rgb8"
    assert [(port.name, port.shape) for port in session.get_inputs()] == [("image", ["batch", 32, 32, 3])]
    images = bundled_images()[:3]
    with open_runtime("onnxruntime-ort", made) as runtime:
        assert np.array_equal(runtime.logits(images), session.run(None, {"image": images})[0])


def test_what_the_file_says_of_itself_is_read_without_onnx_runtime(made: Path) -> None:
    facts = ort.inspect(made)
    assert (facts.variant, facts.precision, facts.opset, facts.ir_version) == ("uint8", "float32", 18, 8)
    assert (facts.metadata or {})["model"] == "resnet8"
    sidecar = json.loads(made.with_name("model.ort.json").read_text())
    assert (sidecar["format"], sidecar["opset"], sidecar["labels"][3]) == ("ort", 18, "cat")


def test_the_operators_beside_it_are_those_that_onnx_runtimes_own_tool_finds(made: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from onnxruntime.tools.ort_format_model import *\n"
    code += "create_config_from_models([Path(sys.argv[1])], Path(sys.argv[2]), False)"
    command = [sys.executable, "-c", code, str(made), str(tmp_path / "theirs")]
    subprocess.run(command, check=True, capture_output=True)
    theirs, ours = (path.read_text().splitlines() for path in (tmp_path / "theirs", made.with_name(OPERATORS)))
    assert sorted(ours[1:]) == sorted(line for line in theirs if not line.startswith("#"))
    assert ours[0] == "# cifar10_resnet8, uint8 input"


def test_no_operator_is_laid_out_for_a_processor(made: Path) -> None:
    assert "nchwc" not in made.with_name(OPERATORS).read_text().lower()
    graph = read(made.read_bytes()).get("model").get("graph")
    assert {node.get("execution_provider_type") for node in graph.get("nodes")} == {"CPUExecutionProvider"}
    assert not any("reorder" in node.get("op_type").lower() for node in graph.get("nodes"))


def test_its_bytes_do_not_depend_on_the_process_the_folder_or_the_threads(tmp_path: Path) -> None:
    paths = [tmp_path / "a.ort", tmp_path / "another folder" / "b.ort", *(tmp_path / f"{n}.ort" for n in range(3))]
    paths[1].parent.mkdir()
    for path in paths[:2]:
        export(random_weights(SPEC, 1), "ort", output=path, checked=False)
    for number, path in enumerate(paths[2:]):
        settings = {"PYTHONHASHSEED": str(number), "OMP_NUM_THREADS": str(1 + number)}
        command = [sys.executable, "-c", MAKE, path]
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True, env=os.environ | settings)
    assert len({path.read_bytes() for path in paths}) == 1
    assert len({path.with_name(f"{path.stem}.required_operators.config").read_bytes() for path in paths}) == 1


def test_what_onnx_runtime_wrote_is_all_there_and_sorted(tmp_path: Path) -> None:
    """Nothing is lost or changed; what has no order in the graph is sorted, whatever order it had."""
    export(random_weights(SPEC, 1), "onnx", output=tmp_path / "m.onnx", checked=False)
    save_ort((tmp_path / "m.onnx").read_bytes(), tmp_path / "theirs.ort")
    theirs = (tmp_path / "theirs.ort").read_bytes()
    ours = canonical(theirs)
    assert canonical(ours) == ours
    before, after = read(theirs).unpacked(), read(ours).unpacked()
    assert _ordered(before) == _ordered(after)
    assert before["model"]["graph"]["nodes"][5]["name"] == after["model"]["graph"]["nodes"][5]["name"]
    operators = [entry["op_id"] for entry in after["kernel_type_str_resolver"]["op_kernel_type_str_args"]]
    names = [tensor["name"] for tensor in after["model"]["graph"]["initializers"]]
    assert (operators, names) == (sorted(operators), sorted(names))


def _ordered(value: Any) -> Any:
    """The same with every list sorted by what it holds."""
    if isinstance(value, dict):
        return {key: _ordered(item) for key, item in value.items()}
    return sorted(map(_ordered, value), key=repr) if isinstance(value, list) else value


def test_fields_that_are_not_known_are_no_silent_loss(monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
    known = {"StringStringEntry": (("key", "string"),)}
    monkeypatch.setattr("cifar_export.formats.ort_buffer._TABLES", {**_tables(), **known})
    with pytest.raises(ValueError, match="StringStringEntry has fields that are not known"):
        canonical(made.read_bytes())
    with pytest.raises(GateFailed, match="this ONNX Runtime writes files as no version known here does"):
        export(random_weights(SPEC, 1), "ort", output=made.with_name("b.ort"), checked=False)
    assert not made.with_name("b.ort").exists()


def _tables() -> dict[str, Any]:
    from cifar_export.formats import ort_buffer

    return dict(ort_buffer._TABLES)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"no such file at all",
        lambda data: data[:4] + b"ORTN" + data[8:],
        lambda data: data[:8] + b"\xff" * 64 + data[72:],
    ],
)
def test_a_damaged_file_is_refused_in_one_line(made: Path, tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "model.ort"
    path.write_bytes(damage(made.read_bytes()))
    with pytest.raises(InvalidInput) as refused:
        open_runtime("onnxruntime-ort", path)
    assert "\n" not in str(refused.value)


def test_an_onnx_file_is_none_whatever_it_is_called(tmp_path: Path) -> None:
    export(random_weights(SPEC, 1), "onnx", output=tmp_path / "m.onnx", checked=False)
    (tmp_path / "m.onnx").rename(tmp_path / "m.ort")
    with pytest.raises(InvalidInput, match="it is not of ONNX Runtime's own format"):
        open_runtime("onnxruntime-ort", tmp_path / "m.ort")
    with pytest.raises(InvalidInput, match="not a file of ONNX Runtime's format"):
        ort.inspect(tmp_path / "m.ort")


@given(data=st.data())
def test_whatever_bytes_come_reading_ends_in_facts_or_in_one_line(
    made: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    damaged = bytearray(made.read_bytes())
    head = 4000  # where the tables are; behind it are weights
    for place in data.draw(st.lists(st.integers(0, head - 1), min_size=1, max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.ort"
    path.write_bytes(damaged)
    said = ""
    try:
        ort.inspect(path)
    except InvalidInput as error:
        said = str(error)
    assert "\n" not in said


def test_it_is_data_and_needs_nobody_to_vouch_for_it(made: Path, tmp_path: Path, run: Any) -> None:
    path = tmp_path / "alone.ort"
    path.write_bytes(made.read_bytes())
    shown = run("predict", path, ROOT / "examples/samples/cat.png", "--json")
    assert shown.exit_code == 0, shown.stderr
    proved = run("parity", "cifar10_resnet8", "--weights", "random", "--seed", "1", "--file", path, "--json")
    assert proved.exit_code == 0, proved.stderr
    states = {row["runtime"]: row["state"] for row in json.loads(proved.stdout)["runtimes"]}
    assert states["onnxruntime-ort"] == "passed"


def test_other_weights_are_no_parity(made: Path, run: Any) -> None:
    command = ("parity", "cifar10_resnet8", "--weights", "random", "--seed", "2", "--file", made)
    done = run(*command)
    assert done.exit_code == 1


def test_the_command_writes_the_file_its_sidecar_and_its_operators(run: Any, tmp_path: Path) -> None:
    command = ("ort", "resnet8", "--weights", "random", "-o", tmp_path / "model.ort", "--json")
    document = json.loads(run(*command).stdout)
    assert document["beside"] == [str(tmp_path / OPERATORS)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.ort", "model.ort.json", OPERATORS]
    refused = run("ort", "resnet8", "--weights", "random", "-o", tmp_path / "b.ort", "--precision", "float16")
    assert (refused.exit_code, (tmp_path / "b.ort").exists()) == (2, False)


def test_a_file_that_fails_its_gate_leaves_nothing_beside_it(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = ort.serialize

    def wrong(request: Any) -> bytes:
        request.module.fc.weight.data.mul_(0.9)
        return right(request)

    monkeypatch.setattr(ort, "serialize", wrong)
    done = run("ort", "resnet8", "--weights", "random", "-o", tmp_path / "model.ort")
    assert (done.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert "parity failed: onnxruntime-ort" in done.stderr


def test_from_python_precision_is_all_that_can_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="batch 1 for ort, which has none"):
        export_by_name("cifar10_resnet20", "ort", output=tmp_path / "a.ort", batch=1)
    artifact = export_by_name("cifar10_resnet20", "ort", output=tmp_path / "a.ort", precision="int8")
    assert (artifact.format, artifact.precision) == ("ort", "int8")
    assert FORMATS["ort"].precisions == ("float32", "int8")
