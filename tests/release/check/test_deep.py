"""`verify --deep`: files whose checksums are all right, and that do not do what the release says of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import Result as Run
from onnx import TensorProto, helper, numpy_helper

from cifar_export.release.archive import write_archive
from cifar_export.release.check.deep import check_deep
from cifar_export.release.check.verify import verify
from cifar_export.release.layout import DEFAULT_EPOCH

from support.hostile.case import ARCHIVE, NETWORK, edit_json, reseal
from support.releases import fake_release


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_release(tmp_path_factory.mktemp("intact") / "1.0.0", names=(NETWORK,))


@pytest.fixture
def release(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "1.0.0"))


def test_models_of_an_intact_release_run(intact: Path) -> None:
    report = check_deep(intact, "release")
    assert report.problems == ()
    assert [model.file for model in report.models] == [f"{NETWORK}/model-uint8.onnx", f"{NETWORK}/model.onnx"]
    for model in report.models:
        assert (model.opset, model.ir_version, model.images) == (18, 8, 2)
        assert 0 <= model.max_abs_error <= model.atol


def test_models_of_a_folder_and_of_an_archive_run(intact: Path) -> None:
    for kind, path in (("network", intact / NETWORK), ("archive", intact / ARCHIVE)):
        report = check_deep(path, kind)
        assert report.problems == ()
        assert [model.file for model in report.models] == ["model-uint8.onnx", "model.onnx"]


def _model(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        model = onnx.load_model_from_string((folder / "model.onnx").read_bytes())
        change(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return make


def _config(change: Callable[[Any], object]) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", change)


def _tensor(place: str, values: Callable[[Any], Any]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        path = folder / place
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        path.write_bytes(numpy_helper.from_array(values(numpy_helper.to_array(tensor))).SerializeToString())

    return make


def _other_weights(model: onnx.ModelProto) -> None:
    weight = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight * np.float32(1.001), "weight"))


def _property(key: str, value: str) -> Callable[[Path], None]:
    def change(model: onnx.ModelProto) -> None:
        for entry in model.metadata_props:
            if entry.key == key:
                entry.value = value

    return _model(change)


def _nan(logits: Any) -> Any:
    return np.full_like(logits, np.nan)


LIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "other weights": (_model(_other_weights), "model.onnx: is off by"),
    "another operator": (
        _model(lambda model: setattr(model.graph.node[1], "op_type", "Exfiltrate")),
        "model.onnx: ONNX Runtime can't run it: ",
    ),
    "another IR version": (
        _model(lambda model: setattr(model, "ir_version", 9)),
        "model.onnx: IR version is 9, config.json says 8",
    ),
    "another opset": (
        _model(lambda model: setattr(model.opset_import[0], "version", 19)),
        "model.onnx: opset is 19, config.json says 18",
    ),
    "an input of another name": (
        _model(
            lambda model: [setattr(model.graph.input[0], "name", "x"), model.graph.node[0].input.__setitem__(0, "x")]
        ),
        "model.onnx: its inputs are",
    ),
    "labels in another order": (_property("labels", '["x"]'), "model.onnx: metadata says labels"),
    "another mean": (_property("mean", "[0, 0, 0]"), "model.onnx: metadata says mean"),
    "weights of another file": (_property("weights_sha256", "0" * 64), "model.onnx: metadata says weights_sha256"),
    "parity that was not checked": (_property("parity", "not checked"), "model.onnx: parity is not checked"),
    "no metadata": (_model(lambda model: model.ClearField("metadata_props")), "model.onnx: metadata says model: None"),
    "other golden outputs": (
        _tensor("test_data_set_0/output_0.pb", lambda logits: logits + np.float32(1)),
        "model.onnx: is off by 1 on its golden vectors",
    ),
    "golden outputs that are no numbers": (
        _tensor("test_data_set_0/output_0.pb", _nan),
        "is too large to show anything",
    ),
    "golden outputs of another shape": (
        _tensor("test_data_set_0/output_0.pb", lambda logits: logits[:1]),
        "model.onnx: returns float32 (2, 10) for its golden vectors, not float32 (1, 10)",
    ),
    "golden inputs of another shape": (
        _tensor("test_data_set_0/input_0.pb", lambda images: images[:, :1]),
        "model.onnx: ONNX Runtime can't run it",
    ),
    "golden inputs of another type": (
        _tensor("uint8/test_data_set_0/input_0.pb", lambda images: images.astype(np.float64)),
        "model-uint8.onnx: ONNX Runtime can't run it",
    ),
    "empty golden vectors": (
        _tensor("test_data_set_0/input_0.pb", lambda images: images[:0]),
        "model.onnx: its golden vector input_0.pb is empty",
    ),
    "a tolerance for anything": (
        _config(lambda config: config["golden"]["model.onnx"].update(atol=1e9)),
        "model.onnx: a tolerance of 1000000000.0 for logits up to",
    ),
    "a tolerance of a half": (
        _config(lambda config: config["golden"]["model.onnx"].update(atol=0.5)),
        "model.onnx: a tolerance of 0.5 for logits up to",
    ),
    "a tolerance that is no number": (
        _config(lambda config: config["golden"]["model.onnx"].update(atol="none")),
        "model.onnx: a tolerance of none",
    ),
    "a relative tolerance": (
        _config(lambda config: config["golden"]["model.onnx"].update(rtol=1)),
        "is too large to show anything",
    ),
    "a model without golden vectors": (
        _config(lambda config: config["golden"].pop("model.onnx")),
        "model.onnx: config.json does not describe it",
    ),
    "labels of its own": (
        lambda folder: (folder / "labels.txt").write_text("x\n") and None,
        "labels.txt: other labels than config.json",
    ),
    "parity that failed": (
        lambda folder: edit_json(folder / "parity.json", lambda parity: parity.update(passed=False)),
        "parity.json: does not say that parity passed",
    ),
    "a config of another form": (
        _config(lambda config: config.update(labels=5)),
        "config.json: not as `package` writes it",
    ),
    "ports described otherwise": (
        _config(lambda config: config["models"]["model.onnx"]["inputs"][0].update(shape=[1, 3, 32, 32])),
        "model.onnx: its inputs are",
    ),
    "a torchscript file described otherwise": (
        _config(lambda config: config["models"]["model.torchscript.pt"].update(input="uint8")),
        "model.torchscript.pt: index.json describes it otherwise than config.json",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_lie_with_right_checksums_is_noticed(lie: str, release: Path) -> None:
    make, says = LIES[lie]
    make(release / NETWORK)
    reseal(release)
    assert verify(release).problems == []
    problems = check_deep(release, "release").problems
    assert any(problem.startswith(f"{NETWORK}/") and says in problem for problem in problems), problems
    assert any(problem.startswith(ARCHIVE) and "other files than the folder" in problem for problem in problems)
    assert all(problem.isascii() and problem.isprintable() for problem in problems)


@pytest.mark.parametrize("name", ["labels.txt", "parity.json"])
def test_file_that_package_writes_is_missed(name: str, release: Path) -> None:
    (release / NETWORK / name).unlink()
    edit_json(release / "index.json", lambda index: index["networks"][NETWORK]["files"].pop(name))
    reseal(release)
    assert verify(release).problems == []
    assert f"{NETWORK}/{name}: missing, and `package` writes one" in check_deep(release, "release").problems


def test_json_nested_too_deep_is_a_problem(release: Path) -> None:
    (release / NETWORK / "parity.json").write_text("[" * 200_000)
    reseal(release)
    assert any("nested too deep" in problem for problem in check_deep(release, "release").problems)


def test_archive_with_a_lie_is_noticed(release: Path) -> None:
    _model(_other_weights)(release / NETWORK)
    reseal(release)
    write_archive(release / NETWORK, NETWORK, release / ARCHIVE, DEFAULT_EPOCH)
    assert verify(release / ARCHIVE).problems == []
    (problem,) = check_deep(release / ARCHIVE, "archive").problems
    assert problem.startswith("model.onnx: is off by")


def _endless(model: onnx.ModelProto) -> None:
    """The logits go around in a loop that never ends."""
    going = helper.make_tensor_value_info("going", TensorProto.BOOL, [])
    step = helper.make_tensor_value_info("step", TensorProto.INT64, [])
    carried, carried_on = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("in", "out"))
    going_on = helper.make_tensor_value_info("going_on", TensorProto.BOOL, [])
    nodes = [helper.make_node("Identity", ["going"], ["going_on"]), helper.make_node("Identity", ["in"], ["out"])]
    body = helper.make_graph(nodes, "body", [step, going, carried], [going_on, carried_on])
    model.graph.node[-1].output[0] = "product"
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    model.graph.node.append(helper.make_node("Loop", ["", "true", "product"], ["logits"], body=body))


def test_model_without_an_end_is_stopped(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_export.release.check.deep.MAX_SECONDS", 0.3)
    _model(_endless)(release / NETWORK)
    reseal(release)
    problem = check_deep(release / NETWORK, "network").problems[-1]
    assert problem.startswith("model.onnx: ONNX Runtime can't run it: ")
    assert "terminate flag" in problem


def test_command_reports_what_ran(intact: Path, release: Path, run: Callable[..., Run]) -> None:
    done = run("verify", intact, "--deep")
    assert done.exit_code == 0, done.output
    assert f"{NETWORK}/model.onnx: opset 18, IR 8, 2 golden images off by 0 at most" in done.stdout
    _model(_other_weights)(release / NETWORK)
    reseal(release)
    done = run("verify", release, "--deep", "--json")
    document = json.loads(done.stdout)
    assert (done.exit_code, document["intact"], len(document["problems"])) == (1, False, 2)
    assert [model["file"] for model in document["deep"]["models"]] == [f"{NETWORK}/model-uint8.onnx"]


def test_damaged_release_is_not_run(release: Path, run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nothing of a damaged release is loaded")

    monkeypatch.setattr("cifar_export.release.check.deep.check_deep", never)
    (release / NETWORK / "model.pt2").write_bytes(b"other")
    done = run("verify", release, "--deep", "--json")
    assert (done.exit_code, json.loads(done.stdout)["deep"]) == (1, None)
