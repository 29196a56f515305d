"""A network's folder in a release: what stands in it, what it passed, and that its bytes depend on nothing else."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace

import jsonschema
import numpy as np
import onnx
import pytest
import torch

from cifar_export.data import Split, load_split
from cifar_export.errors import GateFailed, InvalidInput, Unavailable
from cifar_export.exporting.artifact import export
from cifar_export.formats import format_of
from cifar_export.networks.zoo import NETWORKS
from cifar_export.release.build import network
from cifar_export.release.build.gate import gate_accuracy, gate_parity
from cifar_export.release.check.deep import check_deep
from cifar_export.release.check.verify import verify
from cifar_export.release.layout import GOLDEN, MODELS, SUMS
from cifar_export.release.required import GATED, REQUIRED
from cifar_export.release.sums import files_below
from cifar_export.weights.index import add_to_index, bundled_entries
from cifar_export.weights.sources import load_weights

from support.paths import ROOT
from support.planting import edit, nudge, plant
from support.releases import NETWORK_FILES, fake_network
from support.seeded_network import SPEC, VERSION, build, bundled_in, test_images

SCHEMAS = {"config.json": "config-3.json", "parity.json": "release-parity-3.json"}

test_images.__test__ = False  # type: ignore[attr-defined]


def document(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def schema(name):
    return json.loads((ROOT / "docs" / "schemas" / SCHEMAS[name]).read_text(encoding="utf-8"))


# What stands in it.


def test_the_folder_has_the_files_of_the_layout_and_verifies(built_network):
    assert files_below(built_network.folder) == sorted(NETWORK_FILES)
    result = verify(built_network.folder)
    assert (result.problems, result.kind) == ([], "network")


def test_its_onnx_files_return_what_its_golden_vectors_say(built_network):
    report = check_deep(built_network.folder, "network")
    assert report.problems == ()
    assert {model.file for model in report.models} == set(GOLDEN) & set(MODELS)
    assert all(0 < model.max_abs_error < model.atol for model in report.models)


def test_the_weights_are_the_bundled_file(built_network):
    (bundled,) = built_network.index.glob("*.safetensors")
    assert (built_network.folder / "model.safetensors").read_bytes() == bundled.read_bytes()


def test_the_documents_keep_to_their_schemas_in_stand_ins_too(built_network, tmp_path):
    folders = [built_network.folder, fake_network(tmp_path / "stand-in", "cifar10_resnet56")]
    for name in SCHEMAS:
        jsonschema.Draft202012Validator.check_schema(schema(name))
        validator = jsonschema.Draft202012Validator(schema(name))
        for folder in folders:
            validator.validate(document(folder, name))
            for key in document(folder, name):
                less = {k: v for k, v in document(folder, name).items() if k != key}
                assert not validator.is_valid(less), key


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", lambda d: d.update(built="today")),
        ("config.json", lambda d: d["accuracy"].update(top1=101)),
        ("config.json", lambda d: d["models"]["model.onnx"].update(opset=None)),
        ("config.json", lambda d: d["models"]["model.pt2"].update(opset=18)),
        ("config.json", lambda d: d["golden"]["model.onnx"].update(folder="../test_data_set_0")),
        ("config.json", lambda d: d["built_with"].update(torch="2.15.0+cpu")),
        ("parity.json", lambda d: d.update(passed=False)),
        ("parity.json", lambda d: d["inputs"]["uint8"][1].update(passed=False)),
        ("parity.json", lambda d: d["inputs"]["uint8"][1].update(max_abs_error=1e-6)),
    ],
)
def test_the_schemas_refuse_what_a_release_must_not_say(built_network, name, change):
    wrong = document(built_network.folder, name)
    change(wrong)
    assert not jsonschema.Draft202012Validator(schema(name)).is_valid(wrong)


def test_config_says_what_the_files_and_the_index_say(built_network):
    folder, config = built_network.folder, document(built_network.folder, "config.json")
    (entry,) = bundled_entries(built_network.index).values()
    assert (config["network"], config["version"]) == (SPEC.name, VERSION)
    assert (folder / "labels.txt").read_text().splitlines() == config["labels"] == list(SPEC.dataset.labels)
    assert config["accuracy"]["top1"] == entry.top1
    assert config["accuracy"]["below_reference"] is True
    assert config["accuracy"]["runtimes"] == {"onnxruntime-cpu": {"top1": entry.top1, "top5": entry.top5}}
    assert "log" not in config["weights"]["training"]
    for file, (format_name, variant, _) in MODELS.items():
        facts = format_of(folder / file).load().inspect(folder / file)
        described = config["models"][file]
        assert (facts.format, facts.variant, facts.opset) == (format_name, variant, described["opset"])
        assert facts.metadata["parity"] == "passed"
        assert facts.metadata["weights_sha256"] == config["weights"]["sha256"] == entry.sha256
    model = onnx.load(folder / "model-uint8.onnx")
    assert [port.name for port in model.graph.input] == [
        port["name"] for port in config["models"]["model-uint8.onnx"]["inputs"]
    ]


def test_parity_names_the_required_runtimes_in_both_variants_and_no_measured_number(built_network):
    parity = document(built_network.folder, "parity.json")
    images = sum(some["images"] for some in parity["image_sets"].values())
    for variant in ("float32", "uint8"):
        rows = {row["runtime"]: row for row in parity["inputs"][variant]}
        assert list(rows) == list(REQUIRED)
        assert all(row["passed"] and row["images"] == images for row in rows.values())
    assert [row["role"] for row in parity["inputs"]["uint8"]] == ["yardstick", "gated", "gated", "gated"]


def test_what_was_measured_is_returned(built_network):
    measured = json.loads(json.dumps(built_network.measurements, allow_nan=False))
    for variant in ("float32", "uint8"):
        rows = {row["runtime"]: row["max_abs_error"] for row in measured["parity"][variant]["runtimes"]}
        assert set(rows) == set(REQUIRED)
        assert all(0 < error < 1e-3 for error in rows.values())
    assert measured["accuracy"]["images"] == len(test_images().images)
    assert all(step["wall"] >= 0 for step in measured["seconds"].values())


def test_progress_says_which_network_is_where(built_network):
    assert built_network.progress[0] == "cifar100_resnet20: exporting"
    assert "cifar100_resnet20: parity of uint8 input, onnxruntime-cpu" in built_network.progress
    assert "cifar100_resnet20: accuracy, 128 of 128 images" in built_network.progress


# The same bytes.


def test_another_process_with_other_threads_umask_zone_and_folder_writes_the_same_bytes(built_network, tmp_path):
    other = tmp_path / "elsewhere" / "n"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tests"),
        "PYTHONHASHSEED": "7",
        "TZ": "Pacific/Chatham",
        "LC_ALL": "C",
        "HOME": str(tmp_path),
        "USER": "somebody",
    }
    command = [sys.executable, ROOT / "tests" / "support/seeded_network.py", built_network.index, other, "3"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, umask=0o077, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["threads"] == 3 != built_network.measurements["threads"]
    assert files_below(other) == files_below(built_network.folder)
    differing = [
        name for name in files_below(other) if (other / name).read_bytes() != (built_network.folder / name).read_bytes()
    ]
    assert differing == []


def test_no_file_names_the_machine(built_network):
    here = [str(ROOT), str(built_network.folder), str(built_network.index), tempfile.gettempdir(), sys.prefix]
    here += [name for name in (socket.gethostname(),) if len(name) > 6]  # a short one is found by chance
    for name in files_below(built_network.folder):
        data = (built_network.folder / name).read_bytes()
        assert not [word for word in here if word.encode() in data], name


# What keeps a network out.


@pytest.fixture
def gated(built_network):
    """The seeded weights, their entry, and the float32 files by format."""
    with bundled_in(built_network.index):
        files = {kind[0]: built_network.folder / file for file, kind in MODELS.items() if kind[1] == "float32"}
        yield load_weights(SPEC), bundled_entries()[SPEC.name], files


def test_a_wrong_onnx_file_does_not_pass_parity(gated, tmp_path):
    weights, _, files = gated
    wrong = plant(files["onnx"], tmp_path / "wrong.onnx", edit("fc.weight", nudge))
    with pytest.raises(GateFailed, match=r"cifar100_resnet20: parity failed on float32 input: onnxruntime-cpu: error"):
        gate_parity(weights, "float32", {**files, "onnx": wrong}, REQUIRED)


def test_a_runtime_that_compared_nothing_does_not_pass(gated):
    weights, _, files = gated
    del files["torch-export"]
    with pytest.raises(GateFailed, match="torch-export was not compared"):
        gate_parity(weights, "float32", files, REQUIRED)


def test_right_files_pass(gated):
    weights, entry, files = gated
    report = gate_parity(weights, "float32", files, REQUIRED)
    assert {row.runtime for row in report.runtimes if row.state == "passed"} == set(GATED)
    assert gate_accuracy(entry, weights, files["onnx"], test_images()).top1 == entry.top1


@pytest.mark.parametrize("figure", ["top1", "top5"])
@pytest.mark.parametrize("images", [1, -1])
def test_an_accuracy_that_is_one_image_off_names_both_figures(gated, figure, images):
    weights, entry, files = gated
    claimed = entry.metrics[figure] + 100 * images / len(test_images().images)
    with pytest.raises(GateFailed) as refused:
        gate_accuracy(replace(entry, metrics={**entry.metrics, figure: claimed}), weights, files["onnx"], test_images())
    assert f"{entry.metrics[figure]:.2f}" in str(refused.value)
    assert f"{claimed:.2f}" in str(refused.value)


def test_another_number_of_images_is_no_evidence(gated):
    weights, entry, files = gated
    split = test_images()
    with pytest.raises(GateFailed, match="128 test images, but there are 64 here"):
        gate_accuracy(entry, weights, files["onnx"], Split(split.images[:64], split.labels[:64]))


@pytest.fixture
def prebuilt(built_network, monkeypatch):
    """`build` takes model files that are there, and parity for granted."""

    def copied(weights, folder, scratch, runtimes, wanted, opset):
        for file in MODELS:
            shutil.copy(built_network.folder / file, folder / file)
        return {"float32": {}, "uint8": {}}, {}

    monkeypatch.setattr(network, "_export", copied)
    monkeypatch.setattr(network, "gate_parity", lambda *arguments, **more: None)


def test_a_wrong_accuracy_in_the_index_ends_the_build_without_checksums(built_network, prebuilt, tmp_path):
    index = shutil.copytree(built_network.index, tmp_path / "index")
    (entry,) = bundled_entries(index).values()
    metrics = entry.metrics | {"top1": entry.top1 + 100 / 128}
    add_to_index(index, replace(entry, metrics=metrics))
    with pytest.raises(GateFailed, match="but the index of weights says"):
        build(index, tmp_path / "network")
    assert not (tmp_path / "network" / SUMS).exists()


def test_both_variants_are_gated(built_network, prebuilt, monkeypatch, tmp_path):
    asked = []

    def refuse(weights, variant, *_more, **_how):
        asked.append(variant)
        if variant == "uint8":
            raise GateFailed("no")

    monkeypatch.setattr(network, "gate_parity", refuse)
    with pytest.raises(GateFailed):
        build(built_network.index, tmp_path / "network")
    assert asked == ["float32", "uint8"]
    assert not (tmp_path / "network" / SUMS).exists()


def test_what_is_not_there_is_said_first(built_network, tmp_path):
    with pytest.raises(InvalidInput, match="no runtime 'abacus'"):
        build(built_network.index, tmp_path / "a", runtimes=["abacus"])
    if not torch.cuda.is_available():
        with pytest.raises(Unavailable, match="onnxruntime-cuda cannot run here"):
            build(built_network.index, tmp_path / "b", runtimes=["onnxruntime-cuda"])
    (tmp_path / "c").mkdir()
    with bundled_in(built_network.index), pytest.raises(InvalidInput, match="no weights of cifar10_resnet20"):
        network.build_network(NETWORKS["cifar10_resnet20"], VERSION, tmp_path / "c", test_images())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_is_one_line(built_network, tmp_path):
    with bundled_in(built_network.index), pytest.raises(InvalidInput, match="cannot write") as refused:
        network.build_network(SPEC, VERSION, tmp_path / "missing", test_images())
    assert "\n" not in str(refused.value)


def test_a_full_disk_is_the_machines_lack(built_network, monkeypatch, tmp_path):
    def full(*_arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(network, "_export", full)
    with pytest.raises(Unavailable, match="No space left"):
        build(built_network.index, tmp_path / "network")


@pytest.mark.slow
@pytest.mark.data
def test_a_bundled_network_is_released_as_it_is_exported(cifar_data, tmp_path):
    spec = NETWORKS["cifar10_resnet20"]
    folder = tmp_path / "network"
    folder.mkdir()
    measured = network.build_network(spec, "1.0.0", folder, load_split(cifar_data, spec.dataset, "test"))
    entry = bundled_entries()[spec.name]
    assert math.isclose(measured["accuracy"]["top1"], entry.top1)
    for file, (format_name, variant, _) in MODELS.items():
        bare = export(load_weights(spec), format_name, variant=variant, output=tmp_path / file)
        assert bare.path.read_bytes() == (folder / file).read_bytes(), file
    assert np.array_equal(document(folder, "config.json")["labels"], spec.dataset.labels)


@pytest.mark.slow
def test_a_further_runtime_is_gated_and_changes_no_byte(built_network, tmp_path):
    pytest.importorskip("openvino")
    measured = build(built_network.index, tmp_path / "network", runtimes=["openvino"])
    for report in measured["parity"].values():
        assert {row["runtime"]: row["state"] for row in report["runtimes"]}["openvino"] == "passed"
    for name in files_below(built_network.folder):
        assert (tmp_path / "network" / name).read_bytes() == (built_network.folder / name).read_bytes(), name
