"""The script that measures on a GPU, run on the CPU; and what the documentation says of what it wrote."""

from __future__ import annotations

import itertools
import json
import os

import pytest
from click.testing import CliRunner

from cifar_export.networks.zoo import NETWORKS
from cifar_export.runtimes import Missing
from tools import gpu_table, measure_gpu

from support.paths import ROOT

NETWORK = "cifar10_resnet20"


def measure(folder, *arguments):
    return CliRunner().invoke(measure_gpu.main, ["--dry-run", "--output", str(folder), *arguments])


def in_order(document):
    """The steps that stand in a file, each section in its order."""
    return [(kind, *(e[k] for k in ("network", "input", "precision"))) for kind, e in entries(document)]


def entries(document):
    sections = measure_gpu._SECTIONS.items()
    return [(kind, entry) for kind, section in sections for entry in document[section]]


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    result = measure(folder, "--networks", NETWORK)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{folder / 'dry-run.json'}\n"
    return json.loads((folder / "dry-run.json").read_text())


@pytest.fixture
def quick(monkeypatch):
    """Steps that take no time and measure nothing; what they were is listed."""
    taken = []

    def attempt(step, *, dry_run):
        taken.append(step)
        sha256 = measure_gpu._weights(NETWORKS[step.network]).sha256
        return {"weights": {"sha256": sha256}, "passed": True, "problem": ""}

    monkeypatch.setattr(measure_gpu, "_attempt", attempt)
    return taken


def test_a_dry_run_measures_each_input_and_precision_and_says_what_is_complete(dry):
    assert dry["complete"] is False  # of one network alone
    measured = [(entry["network"], entry["input"], entry["precision"]) for entry in dry["networks"]]
    assert measured == [
        (NETWORK, "float32", "float32"),
        (NETWORK, "float32", "float16"),
        (NETWORK, "uint8", "float32"),
        (NETWORK, "uint8", "float16"),
    ]
    for entry in dry["networks"]:
        rows = {row["runtime"]: row for row in entry["runtimes"]}
        assert rows["onnxruntime-cpu"]["state"] == "passed"
        assert 0 < rows["onnxruntime-cpu"]["share_of_allowed"] <= 1
        assert ("pytorch" in rows) == (entry["precision"] == "float32")
        assert entry["seconds"] > 0
    assert {"torch", "onnx", "system"} <= set(dry["versions"])


def test_a_dry_run_measures_torchscript_and_latency(dry):
    (entry,) = dry["torchscript"]
    assert entry["passed"]
    assert 0 < entry["file"]["share_of_allowed"] <= 1
    assert [entry["precision"] for entry in dry["latency"]] == ["float32", "float16"]
    for entry in dry["latency"]:
        assert [(row["runtime"], row["batch"]) for row in entry["rows"]] == [
            ("onnxruntime-cpu", batch) for batch in (1, 64, 256)
        ]
        assert all(row["latency"]["p50"] > 0 and row["precision"] == entry["precision"] for row in entry["rows"])


def test_the_tables_have_the_worst_of_all_and_a_row_for_each_time(dry, tmp_path):
    (tmp_path / "dry.json").write_text(json.dumps(dry))
    lines = CliRunner().invoke(gpu_table.main, [str(tmp_path / "dry.json")]).stdout.splitlines()
    for label, precision in (("`onnxruntime-cpu`", "float32"), ("`onnxruntime-cpu`, float16", "float16")):
        rows = [row for entry in dry["networks"] if entry["precision"] == precision for row in entry["runtimes"]]
        worst = max(row["max_abs_error"] for row in rows if row["state"] == "passed")
        (line,) = [line for line in lines if line.startswith(f"| {label} |")]
        assert f"| {worst:.1e} |" in line
        assert line.endswith("| passed 2 of 2 |")
    assert sum(line.startswith("| TorchScript file |") for line in lines) == 1
    assert sum(line.startswith(f"| {NETWORK} | `onnxruntime-cpu`, float16 | 64 |") for line in lines) == 1


def test_what_a_file_lacks_is_measured_and_the_rest_stays(dry, quick, tmp_path):
    path = tmp_path / "dry-run.json"
    lacking = json.loads(json.dumps(dry))
    del lacking["networks"][1]
    lacking["networks"][2]["weights"]["sha256"] = "0" * 64  # of other weights than are bundled now
    lacking["latency"][0] |= {"broke": True, "passed": False}
    path.write_text(json.dumps(lacking))
    assert measure(tmp_path, "--networks", NETWORK).exit_code == 0
    assert [(step.kind, step.input, step.precision) for step in quick] == [
        ("parity", "float32", "float16"),
        ("latency", "float32", "float32"),
        ("parity", "uint8", "float16"),
    ]
    after = json.loads(path.read_text())
    assert sorted(in_order(after)) == sorted(in_order(dry))
    assert after["networks"][0] == dry["networks"][0]
    assert after["torchscript"] == dry["torchscript"]


def test_all_networks_come_first_with_what_is_worth_most(quick, tmp_path):
    assert measure(tmp_path).exit_code == 0
    assert [(step.kind, step.network) for step in quick[:4]] == [
        (kind, network) for kind in ("parity", "torchscript") for network in ("cifar10_resnet20", "cifar100_resnet20")
    ]
    assert json.loads((tmp_path / "dry-run.json").read_text())["complete"] is True
    again = measure(tmp_path)
    assert (again.exit_code, len(quick)) == (0, 14)  # nothing is measured twice


def test_nothing_is_begun_that_would_not_end_in_time(quick, tmp_path, capsys):
    clock = itertools.count(0, 20)  # each look at it is 20 seconds later: a step takes 20, and as long to begin
    measure_gpu.measure(tmp_path, [NETWORK], minutes=2, dry_run=True, clock=lambda: next(clock))
    written = json.loads((tmp_path / "dry-run.json").read_text())
    assert len(in_order(written)) == len(quick) == 3
    assert "the time is up before cifar10_resnet20, parity, uint8 input, float32." in capsys.readouterr().err
    measure_gpu.measure(tmp_path, [NETWORK], minutes=1e-9, dry_run=True)
    assert len(quick) == 4  # each run brings it one step further


def test_a_step_that_breaks_off_is_tried_again_and_the_others_go_on(monkeypatch, tmp_path):
    def broken(*arguments, **more):
        raise RuntimeError("an illegal memory access\nand more")

    for name in ("check", "benchmark", "tf32"):
        monkeypatch.setattr(measure_gpu, name, broken)
    result = measure(tmp_path, "--networks", NETWORK)
    assert result.exit_code == 1
    written = json.loads((tmp_path / "dry-run.json").read_text())
    assert [entry["problem"] for _, entry in entries(written)] == ["RuntimeError: an illegal memory access"] * 7
    assert measure_gpu._lacking(written, [NETWORK]) == measure_gpu.steps([NETWORK])
    assert gpu_table.table(written).count("\n") == 1  # a head without rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no JSON", "was not written by this script"),
        ("[]", "was written by another version"),
        ('{"schema": 2, "complete": true, "networks": []}', "was written by another version"),
        (None, "was measured with another versions"),
    ],
)
def test_the_file_of_something_else_is_refused_and_stays(dry, quick, tmp_path, content, said):
    path = tmp_path / "dry-run.json"
    path.write_text(json.dumps(dry | {"versions": {"torch": "0.1"}}) if content is None else content)
    before = path.read_bytes()
    result = measure(tmp_path)
    assert (result.exit_code, result.stdout, quick) == (2, "", [])
    assert result.stderr.startswith(f"error: {path} {said}")
    assert path.read_bytes() == before


def test_an_unknown_network_or_a_folder_that_cannot_be_written_ends_before_anything_is_measured(quick, tmp_path):
    result = measure(tmp_path, "--networks", f"{NETWORK},resnet1000")
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert result.stderr.startswith("error: there is no network 'resnet1000' to measure.")
    (tmp_path / "file").write_text("")
    result = measure(tmp_path / "file" / "parity")
    assert (result.exit_code, quick) == (2, [])
    os.mkfifo(tmp_path / "dry-run.json")
    assert measure(tmp_path).exit_code == 2


def test_without_a_gpu_nothing_is_written(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "cifar_export.runtimes.why_missing", lambda name: Missing("there is no NVIDIA GPU here", "Add one.")
    )
    result = CliRunner().invoke(measure_gpu.main, ["--output", str(tmp_path / "parity")])
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "error: onnxruntime-cuda cannot run here: there is no NVIDIA GPU here. Add one.\n"
    assert not (tmp_path / "parity").exists()


def test_the_documentation_shows_what_was_measured_or_says_that_nothing_was():
    text = (ROOT / "docs" / "parity.md").read_text()
    files = sorted((ROOT / "artifacts" / "parity").glob("*.json"))
    if not files:
        assert "Not measured: no GPU was at hand." in text
    for file in files:
        document = json.loads(file.read_text())
        assert document["gpu"] in text
        assert gpu_table.table(document) in text
        measured = {entry["network"] for entry in document["networks"]}
        assert document["complete"] <= (measured == set(NETWORKS))
        for network in set(NETWORKS) - measured:
            assert f"{network},\nwhich is not measured" in text
    assert "none (dry run)" not in [json.loads(file.read_text())["gpu"] for file in files]


def test_a_file_of_schema_1_has_the_same_table(dry):
    old = json.loads(json.dumps(dry))
    for row in (row for entry in old["networks"] for row in entry["runtimes"]):
        state = row.pop("state")
        row["passed"] = {"passed": True, "failed": False}.get(state)
        row["reason"] = "the yardstick" if state == "yardstick" else row["reason"]
    assert gpu_table.table(old) == gpu_table.table(dry)


def test_what_is_no_measurement_has_no_table(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    result = CliRunner().invoke(gpu_table.main, [str(tmp_path / "a.json")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "was not written by tools/measure_gpu.py" in result.stderr
