"""The script that measures on a GPU, run on the CPU; and what the documentation says of what it wrote."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from cifar_export.networks.zoo import NETWORKS
from cifar_export.runtimes import Missing
from tools import measure_gpu

from support.paths import ROOT


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    result = CliRunner().invoke(measure_gpu.main, ["--dry-run", "--output", str(folder)])
    assert result.exit_code == 0, result.output
    return result, json.loads((folder / "dry-run.json").read_text())


def test_a_dry_run_writes_a_row_for_each_network_input_and_runtime(dry):
    _, document = dry
    assert document["complete"] is True
    measured = [(entry["network"], entry["input"]) for entry in document["networks"]]
    networks = ("cifar10_resnet20", "cifar100_resnet20")
    assert measured == [(network, variant) for network in networks for variant in ("float32", "uint8")]
    for entry in document["networks"]:
        rows = {row["runtime"]: row for row in entry["runtimes"]}
        assert (rows["pytorch"]["state"], rows["onnxruntime-cpu"]["state"]) == ("yardstick", "passed")
        assert 0 < rows["onnxruntime-cpu"]["share_of_allowed"] <= 1
    assert {"torch", "onnx", "system"} <= set(document["versions"])


def test_the_table_has_the_worst_of_all_networks(dry):
    result, document = dry
    worst = max(row["max_abs_error"] for e in document["networks"] for row in e["runtimes"] if row["state"] == "passed")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("| `onnxruntime-cpu`")]
    assert f"| {worst:.1e} |" in line
    assert line.endswith("| passed 4 of 4 |")


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
        assert measure_gpu.table(document) in text
        measured = {entry["network"] for entry in document["networks"]}
        assert document["complete"] == (measured == set(NETWORKS))
        for network in set(NETWORKS) - measured:
            assert f"{network},\nwhich is not measured" in text
    assert "none (dry run)" not in [json.loads(file.read_text())["gpu"] for file in files]


def test_a_file_of_schema_1_has_the_same_table(dry):
    _, document = dry
    old = json.loads(json.dumps(document))
    for row in (row for entry in old["networks"] for row in entry["runtimes"]):
        state = row.pop("state")
        row["passed"] = {"passed": True, "failed": False}.get(state)
        row["reason"] = "the yardstick" if state == "yardstick" else row["reason"]
    assert measure_gpu.table(old) == measure_gpu.table(document)
