"""Files in reduced precision in a release: what is said of them, what they must pass, and who finds them."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from cifar_export import load
from cifar_export.data import Split
from cifar_export.errors import GateFailed, InvalidInput
from cifar_export.exporting.precision import quantized
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.zoo import NETWORKS, named
from cifar_export.quantization.document import recorded_accuracy
from cifar_export.release.archive import write_archive
from cifar_export.release.build import reduced
from cifar_export.release.build.assemble import Origin, assemble
from cifar_export.release.build.gate import gate_parity
from cifar_export.release.build.network import build_network
from cifar_export.release.build.own import Own, prepare
from cifar_export.release.check.deep import check_deep
from cifar_export.release.check.verify import verify
from cifar_export.release.layout import DEFAULT_EPOCH, GOLDEN, MODELS, REDUCED
from cifar_export.release.required import JUDGE, REQUIRED, Wanted
from cifar_export.release.sums import files_below
from cifar_export.weights.index import bundled_entries
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.hostile.case import edit_json, rewrite_sums
from support.paths import ROOT
from support.planting import edit, plant
from support.seeded_network import bundled_in, test_images

test_images.__test__ = False  # type: ignore[attr-defined]
SPEC = named("cifar100_resnet8")
EVERYTHING = Wanted(("float16", "int8"), 100.0)
"""Seeded weights tell classes apart by their last digits: whatever the files lose is allowed here."""


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A whole release of a seeded network in all precisions."""
    scratch = tmp_path_factory.mktemp("scratch")
    weights = quantized(random_weights(SPEC, 1), bundled_images()[:32])
    own = prepare(Own(weights, "MIT", test_images()), scratch)
    folder = tmp_path_factory.mktemp("releases") / "1.0.0"
    (folder / SPEC.name).mkdir(parents=True)
    with bundled_in(scratch):
        build_network(SPEC, "1.0.0", folder / SPEC.name, test_images(), wanted=EVERYTHING, own=own)
    assemble(folder, Origin("1.0.0", None, DEFAULT_EPOCH))
    return folder


def test_the_release_holds_them_with_golden_vectors_and_is_intact(release: Path) -> None:
    files = files_below(release / SPEC.name)
    for file in REDUCED.values():
        assert {file, f"{GOLDEN[file]}/input_0.pb", f"{GOLDEN[file]}/output_0.pb"} <= set(files)
    assert verify(release).problems == []
    report = check_deep(release, "release")
    assert report.problems == ()
    assert {model.file.partition("/")[2] for model in report.models} == {*GOLDEN}
    assert all(model.max_abs_error <= model.atol for model in report.models)


def test_its_documents_keep_to_their_schemas_and_name_every_file(release: Path) -> None:
    folder = release / SPEC.name
    for name, schema in (("config.json", "config-3.json"), ("parity.json", "release-parity-3.json")):
        jsonschema.validate(read(folder, name), json.loads((ROOT / "docs/schemas" / schema).read_text()))
    config, index = read(folder, "config.json"), read(release, "index.json")
    assert list(config["models"]) == sorted([*MODELS, *REDUCED.values()])
    for precision, file in REDUCED.items():
        said = config["reduced"][precision]
        assert (said["file"], said["bytes"]) == (file, (folder / file).stat().st_size)
        assert (said["accuracy"]["source"], said["accuracy"]["images"]) == ("measured", len(test_images().images))
        assert config["models"][file]["precision"] == precision
        assert index["networks"][SPEC.name]["files"][file]["precision"] == precision
    held = load_weights(SPEC, str(folder / "model.safetensors"))
    assert held.grids is not None
    assert config["reduced"]["int8"]["quantization"]["sha256"] == held.grids.digest()


def test_attestations_say_what_was_asked_and_what_passed(release: Path) -> None:
    schema = json.loads((ROOT / "docs/schemas/attestation-1.json").read_text())
    made, tested = (read(release, name) for name in ("provenance.intoto.json", "test-result.intoto.json"))
    for document in (made, tested):
        jsonschema.validate(document, schema)
    assert made["predicate"]["buildDefinition"]["externalParameters"]["precisions"] == ["float16", "int8"]
    for precision, file in REDUCED.items():
        found = [test for test in tested["predicate"]["passedTests"] if test.startswith(f"{SPEC.name}/{file}: ")]
        assert found[0] == f"{SPEC.name}/{file}: parity onnxruntime-cpu {precision}"
        assert found[1].endswith(f"100.00 points below float32 ({precision})")


def test_the_card_has_a_table_of_them(release: Path) -> None:
    card = (release / SPEC.name / "README.md").read_text(encoding="utf-8")
    config = read(release / SPEC.name, "config.json")
    for precision, file in REDUCED.items():
        (row,) = [line for line in card.splitlines() if line.startswith(f"| `{file}` | {precision}, onnxruntime-cpu")]
        assert f"| {config['reduced'][precision]['accuracy']['runtimes']['onnxruntime-cpu']['top1']:.2f} |" in row
    assert "int8: weights of 7 bits, per-channel; ranges measured on 32 training pictures given, whole ranges." in card


def test_a_release_is_loaded_in_each_precision(release: Path) -> None:
    network = load(SPEC.name, release)
    images = bundled_images()[:4]
    full = network.session().run(None, {"image": images})[0]
    for precision in ("float16", "int8"):
        logits = network.session(precision=precision).run(None, {"image": images})[0]
        assert 0 < np.abs(logits - full).max() < 0.2 * np.abs(full).max()
    with pytest.raises(InvalidInput, match="no int8 ONNX file of float32 input, but float32 of float32 input"):
        network.session("float32", precision="int8")
    with pytest.raises(InvalidInput, match="no precision 'int4'"):
        network.session(precision="int4")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda config: config["reduced"].pop("int8"),
            "config.json: names|parity.json: is of other reduced precisions",
        ),
        (lambda config: config["reduced"].update(int4={}), "no precision int4 is known|other reduced precisions"),
        (lambda config: config["models"]["model-int8.onnx"].update(precision="float32"), "precision is int8"),
        (lambda config: config["golden"]["model-int8.onnx"].update(atol=100.0), "too large to show anything"),
    ],
)
def test_deep_finds_what_is_described_otherwise(
    release: Path, tmp_path: Path, change: Callable[[Any], object], said: str
) -> None:
    folder = Path(shutil.copytree(release / SPEC.name, tmp_path / SPEC.name))
    edit_json(folder / "config.json", change)
    rewrite_sums(folder)
    problems = [*verify(folder).problems, *check_deep(folder, "network").problems]
    assert any(any(word in line for word in said.split("|")) for line in problems), problems


def test_a_file_that_was_left_out_is_missed(release: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(release / SPEC.name, tmp_path / SPEC.name))
    (folder / "model-int8.onnx").unlink()
    for key in ("models", "golden"):
        edit_json(folder / "config.json", lambda config, key=key: config[key].pop("model-int8.onnx"))
    rewrite_sums(folder)
    assert verify(folder).problems == []
    assert "model-int8.onnx: missing, and `package` writes one" in check_deep(folder, "network").problems


def test_a_wrong_file_does_not_pass_parity(release: Path, tmp_path: Path) -> None:
    folder = release / SPEC.name
    weights = load_weights(SPEC, str(folder / "model.safetensors"))
    swapped = edit("conv1.weight.scale", lambda scales: scales[::-1])
    plant(folder / "model-int8.onnx", tmp_path / "model-int8.onnx", swapped)
    with pytest.raises(GateFailed, match=r"cifar100_resnet8: parity failed in int8: onnxruntime-cpu"):
        gate_parity(weights, "uint8", {"onnx": tmp_path / "model-int8.onnx"}, [JUDGE], precision="int8")


def test_more_than_the_budget_keeps_the_network_out_and_names_it(release: Path, tmp_path: Path) -> None:
    shutil.copy(release / SPEC.name / "model-uint8.onnx", tmp_path)
    own = load_weights(SPEC, str(release / SPEC.name / "model.safetensors"))
    split = test_images()
    scored = (split, split.labels)  # as if float32 had been right everywhere
    entry = replace(next(iter(bundled_entries().values())), network=SPEC.name)
    with pytest.raises(GateFailed, match=r"cifar100_resnet8: float16 loses .* points of top-1, not 0.10 or less"):
        reduced.build_reduced(
            own, entry, "float16", tmp_path, REQUIRED, scored, 0.1, opset=None, tell=lambda what: None
        )


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ({}, "no accuracy in float16 is recorded"),
        ({"onnxruntime-cpu": {"top1": 99.0, "top5": 100.0}}, "but 99.00 % is recorded"),
    ],
)
def test_bundled_networks_are_held_against_what_is_recorded(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: dict[str, Any], said: str
) -> None:
    shutil.copy(release / SPEC.name / "model-uint8.onnx", tmp_path)
    monkeypatch.setattr(reduced, "recorded_accuracy", lambda *asked: recorded)
    images = test_images().images
    scored = (Split(images, np.zeros(len(images), np.int64)), np.zeros(len(images), np.int64))
    own = load_weights(SPEC, str(release / SPEC.name / "model.safetensors"))
    with pytest.raises(GateFailed, match=said):
        reduced.build_reduced(
            own,
            next(iter(bundled_entries().values())),
            "float16",
            tmp_path,
            REQUIRED,
            scored,
            100.0,
            opset=None,
            tell=lambda what: None,
        )


def test_every_bundled_network_has_its_accuracies_recorded() -> None:
    for name, entry in bundled_entries().items():
        for precision, most in (("float16", 0.05), ("int8", 0.5)):
            found = recorded_accuracy(name, entry.sha256, precision)
            assert set(found) == {"onnxruntime-cpu", "openvino"}, name
            assert all(entry.top1 - one["top1"] <= most for one in found.values()), (name, found)
    assert recorded_accuracy("cifar10_resnet20", "0" * 64, "int8") == {}


def test_archives_of_such_networks_are_checked_too(release: Path, tmp_path: Path) -> None:
    archive = tmp_path / f"{SPEC.name}-1.0.0.tar.gz"
    write_archive(release / SPEC.name, SPEC.name, archive, DEFAULT_EPOCH)
    assert check_deep(archive, "archive").problems == ()


def test_options_that_do_not_fit_are_refused_before_anything_is_built(run: Any, tmp_path: Path) -> None:
    for words, said in (
        (["--accuracy-budget", "1"], "--accuracy-budget is for files in reduced precision"),
        (["--precision", "int4"], "'int4' is not one of"),
        (["--calibration", str(tmp_path)], "--calibration is for weights of yours"),
    ):
        result = run("package", "resnet20", "--version", "1.0.0", "--output", tmp_path, *words)
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.data
def test_a_bundled_network_is_released_in_all_precisions(cifar_data: Path, tmp_path: Path, run: Any) -> None:
    words = ["--precision", "int8", "--precision", "float16", "--data-dir", cifar_data, "--no-cache"]
    result = run("package", "cifar10_resnet20", "--version", "1.0.0", "--output", tmp_path, *words)
    assert result.exit_code == 0, result.stderr
    config = read(tmp_path / "1.0.0" / "cifar10_resnet20", "config.json")
    entry = bundled_entries()[NETWORKS["cifar10_resnet20"].name]
    for precision in REDUCED:
        accuracy = config["reduced"][precision]["accuracy"]
        assert accuracy["source"] == "recorded"
        assert accuracy["runtimes"] == recorded_accuracy(entry.network, entry.sha256, precision)
