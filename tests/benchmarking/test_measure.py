"""`benchmark` from start to end, with processes that live, lie, die and hang."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cifar_export.benchmarking import group, process
from cifar_export.benchmarking.comparison import SCHEMA
from cifar_export.benchmarking.measure import benchmark
from cifar_export.benchmarking.plan import Asked, Plan, planned
from cifar_export.benchmarking.process import RowProcess
from cifar_export.commands import tables
from cifar_export.commands.console import Terminated
from cifar_export.networks.preprocess import as_variant
from cifar_export.runtimes import RUNTIMES, spec_of
from cifar_export.runtimes.onnxruntime import CPU
from cifar_export.system.processor import cores

from support.bad_runtimes import put_into_table
from support.data_files import noise
from support.schemas import checker

ORT = ("--runtime", "onnxruntime-cpu")
AT_ONCE = ("--time-limit", "0", "--json")


def test_a_row_has_all_figures_and_they_fit_together(measured):
    checker(f"benchmark-{SCHEMA}")(measured)
    rows = [row for row in measured["rows"] if row["state"] == "measured"]
    assert [(row["runtime"], row["batch"]) for row in rows] == [
        ("onnxruntime-cpu", 1),
        ("pytorch", 1),
        ("onnxruntime-cpu", 4),
        ("pytorch", 4),
    ]
    for row in rows:
        latency = row["latency"]
        assert latency["min"] <= latency["p50"] <= latency["p90"] <= latency["p99"]
        assert latency["p50_low"] <= latency["p50"] <= latency["p50_high"]
        assert len(row["turn_medians"]) == 5
        assert sum(row["histogram"]["counts"]) == row["runs"] >= 5
        assert row["warm_up_runs"] >= 3
        assert row["images_per_second"] == pytest.approx(row["batch"] / latency["p50"], rel=2)
        assert row["max_abs_error"] < 1e-3
        assert row["startup"]["first_s"] > 0
        assert row["bare_bytes"] < row["peak_bytes"]
        assert row["threads"] == 1
        assert row["top1"] is None  # nobody trained it
    assert [row["gate"] for row in rows] == ["passed", "yardstick"] * 2
    assert rows[0]["ratio"] == rows[2]["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert rows[1]["ratio"]["value"] == pytest.approx(rows[1]["latency"]["p50"] / rows[0]["latency"]["p50"])
    assert rows[0]["file_bytes"] > 10_000


def test_memory_and_import_are_those_of_the_runtime_alone(measured):
    """ONNX Runtime's process has no torch in it; PyTorch's has little else."""
    ort, torch = measured["rows"][:2]
    assert ort["peak_bytes"] < 250 << 20
    assert torch["startup"]["import_s"] > 2 * ort["startup"]["import_s"]


def test_a_runtime_that_is_missing_is_a_row_with_the_reason(measured):
    missing = [row for row in measured["rows"] if row["runtime"] == "onnxruntime-cuda"]
    assert [row["state"] for row in missing] == ["not_run"] * 2
    assert all(row["reason"] and row["latency"] is None for row in missing)


def test_nothing_measured_is_the_machines_lack(small, monkeypatch):
    monkeypatch.setattr("cifar_export.runtimes.onnxruntime.has_driver", lambda: False)
    result, document = small("--runtime", "onnxruntime-cuda")
    assert (result.exit_code, document["passed"]) == (3, True)


def test_what_computes_something_else_has_no_time(small, monkeypatch):
    put_into_table(monkeypatch, "tract", "Zeros", missing=None)
    result, document = small(*ORT, "--runtime", "tract")
    assert result.exit_code == 1
    states = {row["runtime"]: row["state"] for row in document["rows"]}
    assert states == {"onnxruntime-cpu": "measured", "tract": "failed"}
    wrong = document["rows"][1]
    assert (wrong["runs"], wrong["latency"], wrong["startup"]) == (0, None, None)
    assert "exceeds" in wrong["reason"]
    assert result.stderr.count("error: ") == 1


def test_a_file_of_numbers_that_are_none_has_no_time(run, exported, weights20_file, tmp_path):
    model = onnx.load(exported("onnx", "float32", 17).path)
    tensor = next(t for t in model.graph.initializer if t.name.endswith("weight"))
    tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), np.nan), tensor.name))
    onnx.save(model, tmp_path / "nan.onnx")
    result = run("benchmark", tmp_path / "nan.onnx", "--weights", weights20_file, *ORT, "--json")
    assert result.exit_code == 1
    row = json.loads(result.stdout)["rows"][0]
    assert (row["subject"], row["state"], row["max_abs_error"]) == ("nan.onnx", "failed", None)


@pytest.mark.parametrize(("stand_in", "said"), [("DiesLater", "signal 11 (SIGSEGV)"), ("HangsLater", "no answer")])
def test_a_runtime_that_ends_badly_later_has_no_time_and_ends_no_other(small, monkeypatch, stand_in, said):
    if stand_in == "HangsLater":
        monkeypatch.setattr(process, "patience", lambda spec, images: 2.0 if spec.name == "tract" else 60.0)
    put_into_table(monkeypatch, "tract", stand_in, missing=None)
    result, document = small(*ORT, "--runtime", "tract")
    assert result.exit_code == 1
    assert [row["state"] for row in document["rows"]] == ["measured", "failed"]
    assert said in document["rows"][1]["reason"]


def test_a_file_is_measured_as_it_is(run, exported, weights20_file):
    file = exported("onnx", "uint8", 17).path
    result = run("benchmark", file, "--weights", weights20_file, *ORT, *AT_ONCE)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    row = document["rows"][0]
    assert (row["subject"], row["input"], row["file_bytes"]) == (file.name, "uint8", file.stat().st_size)
    assert "uint8, normalized by the file" in document["includes"]


def test_a_file_is_measured_in_what_reads_it(exported, weights20):
    wanted = planned([Asked("a", weights20, exported("torchscript").path)], Plan())[0]
    assert wanted.runtimes == ("torchscript",)
    wanted = planned([Asked("a", weights20, exported("onnx", "uint8", 17).path)], Plan())[0]
    assert wanted.runtimes[0] == "onnxruntime-cpu"
    assert {spec_of(name).reads for name in wanted.runtimes} == {"onnx"}


def test_by_default_it_measures_what_parity_gates(weights20):
    runtimes = planned([Asked("a", weights20)], Plan())[0].runtimes
    assert runtimes[:2] == ("onnxruntime-cpu", "pytorch")
    gated = {name for name, spec in RUNTIMES.items() if spec.gated and spec.by_default}
    assert set(runtimes) == gated - {"onnx-reference"} | {"pytorch"}


def test_reduced_precision_is_a_row_of_its_own(run):
    result = run("benchmark", "cifar10_resnet20", "--precision", "float32", "--precision", "int8", *ORT, *AT_ONCE)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [row["precision"] for row in rows] == ["float32", "int8"]
    assert rows[1]["file_bytes"] < 0.5 * rows[0]["file_bytes"]
    assert [(row["top1_source"], row["top1"] is None) for row in rows] == [("bundled index", False), (None, True)]


def test_the_accuracy_is_measured_where_the_data_are(weights20, exported):
    file = exported("onnx", "uint8", 17).path
    plan = Plan(("onnxruntime-cpu",), time_limit_s=0.0)
    row = benchmark([Asked("a", weights20, file)], plan, split_of=lambda weights: noise(50)).rows[0]
    assert row.top1_source == "50 test images"
    assert 0 <= row.top1 <= 100


def test_the_accuracy_is_measured_once_for_all_batches(weights20, exported):
    file, told = exported("onnx", "uint8", 17).path, []
    plan = Plan(("onnxruntime-cpu",), batches=(1, 2), time_limit_s=0.0)
    asked = [Asked("a", weights20, file)]
    rows = benchmark(asked, plan, split_of=lambda weights: noise(50), progress=told.append).rows
    assert [row.top1_source for row in rows] == ["50 test images"] * 2
    assert rows[0].top1 == rows[1].top1
    assert [line for line in told if line.startswith("accuracy: ")] == [f"accuracy: {rows[0].key}"]


def test_data_that_are_not_there_are_said(run, tmp_path):
    result = run("benchmark", "resnet8", "--weights", "random", *ORT, "--data-dir", tmp_path)
    assert (result.exit_code, "cifar-export data fetch" in result.stderr) == (3, True), result.stderr


def test_a_file_of_one_batch_is_fed_in_it(run, weights20_file, tmp_path):
    made = run("onnx", "resnet20", "--weights", weights20_file, "--batch", "2", "--no-check", "-o", tmp_path / "a.onnx")
    assert made.exit_code == 0, made.output
    result = run("benchmark", tmp_path / "a.onnx", "--weights", weights20_file, "--batch", "3", *ORT, *AT_ONCE)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("threads", [1, cores()])
def test_runtimes_take_the_threads_that_they_are_told(exported, weights20, threads):
    images = as_variant(np.zeros((1, 32, 32, 3), np.uint8), "uint8", weights20.normalization)
    file = exported("onnx", "uint8", 17).path
    spec = dataclasses.replace(spec_of("onnxruntime-cpu"), open="support.bad_runtimes:SaysThreads")
    with pytest.MonkeyPatch.context() as patch:
        put_into_table(patch, "x", "SaysThreads")  # for the path of the tests
        with RowProcess(spec, file, "uint8", images, threads) as row:
            assert row.open().provider == f"{threads} threads"


def test_copies_to_a_device_and_back_are_told_apart(exported, weights20):
    """On the CPU provider, which has the same steps as CUDA's."""
    images = as_variant(np.zeros((4, 32, 32, 3), np.uint8), "uint8", weights20.normalization)
    spec = dataclasses.replace(spec_of("onnxruntime-cuda-iobinding"), open="support.bad_runtimes:BoundOnCpu")
    with pytest.MonkeyPatch.context() as patch:
        put_into_table(patch, "x", "BoundOnCpu")
        with RowProcess(spec, exported("onnx", "uint8", 17).path, "uint8", images, 1) as row:
            assert row.open().provider == CPU
            row.warm_up()
            seconds = row.turn()
            into, out = row.copies
    assert 0 < into + out < float(np.median(seconds))


# What it prints, writes and ends with


@pytest.fixture
def at_the_third_turn(monkeypatch):
    """Raise an interruption when a row is asked for its third turn."""

    def arrange(interruption: BaseException) -> None:
        class Interrupts(RowProcess):
            asked = 0

            def turn(self) -> list[float]:
                self.asked += 1
                if self.asked == 3:
                    raise interruption
                return super().turn()

        monkeypatch.setattr(group, "RowProcess", Interrupts)

    return arrange


@pytest.mark.parametrize(("interruption", "code"), [(KeyboardInterrupt(), 130), (Terminated(15), 143)])
def test_an_interruption_shows_what_was_measured_and_writes_nothing(
    small, at_the_third_turn, tmp_path, interruption, code
):
    at_the_third_turn(interruption)
    result, document = small(*ORT, "--runtime", "pytorch", "--batch", "1,2", "--output", tmp_path / "out")
    assert result.exit_code == code
    checker(f"benchmark-{SCHEMA}")(document)
    assert document["interrupted"]
    assert [row["state"] for row in document["rows"]] == ["measured", "measured", "stopped", "stopped"]
    assert [len(row["turn_medians"]) for row in document["rows"]] == [2, 2, 0, 0]
    assert [row["ratio"] for row in document["rows"]] == [None] * 4
    assert "interrupted: what was measured so far is shown" in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_files_have_the_same_rows(small, tmp_path):
    result, document = small(*ORT, "--output", tmp_path / "new" / "out")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "new" / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["benchmark.csv", "benchmark.html", "benchmark.json"]
    assert json.loads((folder / "benchmark.json").read_text()) == document
    rows = list(csv.DictReader(io.StringIO((folder / "benchmark.csv").read_text())))
    assert [float(row["latency_p50"]) for row in rows] == [row["latency"]["p50"] for row in document["rows"]]
    assert all(row.keys() == rows[0].keys() for row in rows)


def test_what_cannot_be_written_is_said_before_the_minutes(run, tmp_path, monkeypatch):
    monkeypatch.setattr("cifar_export.benchmarking.measure.benchmark", lambda *_, **__: pytest.fail("it measured"))
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "benchmark.csv").mkdir(parents=True)
    for folder in ("file", "file/below", "taken"):
        result = run("benchmark", "resnet8", "--weights", "random", "--output", tmp_path / folder)
        assert (result.exit_code, result.stderr.count("\n") <= 2) == (2, True), result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["benchmark.csv", "file", "taken"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_fits_the_terminal(run, monkeypatch, width):
    monkeypatch.setattr(tables, "on_terminal", lambda: True)
    monkeypatch.setattr("cifar_export.commands.benchmark_report.on_terminal", lambda: True)
    monkeypatch.setattr("cifar_export.runtimes.onnxruntime.has_driver", lambda: False)
    monkeypatch.setattr("cifar_export.runtimes.onnxruntime_cuda.has_driver", lambda: False)
    monkeypatch.setenv("COLUMNS", str(width))
    cuda = ["onnxruntime-cuda", "onnxruntime-cuda-iobinding"]
    chosen = [word for name in cuda for word in ("--runtime", name)]
    result = run("benchmark", "resnet8", "--weights", "random", "--time-limit", "0", "--batch", "1,2", *ORT, *chosen)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line for line in lines if len(line) > width] == []
    text = " ".join(" ".join(lines).split())
    assert "p50 ms" in text
    if width != 80:  # there it depends on the figures
        assert ("peak MiB" in text) == (width == 200)
    assert text.count("not run: onnxruntime-cuda, onnxruntime-cuda-iobinding — ") == 1
    assert "without decoding pictures" in text


def test_in_a_pipe_each_row_is_a_record(run):
    result = run("benchmark", "resnet8", "--weights", "random", "--time-limit", "0", "--batch", "1,2", *ORT)
    records = [line.split("\t") for line in result.stdout.splitlines()]
    assert [record[:4] for record in records] == [
        ["cifar10_resnet8", "onnxruntime-cpu", "float32", "1"],
        ["cifar10_resnet8", "onnxruntime-cpu", "float32", "2"],
    ]
    assert {len(record) for record in records} == {19}
    assert "without decoding pictures" in result.stderr


# Words, numbers and files that nothing can be measured by

WRONG = {
    "--batch 0": "is no list of batches",
    "--batch abc": "is no list of batches",
    "--batch 1,,2": "is no list of batches",
    "--batch 1000000": "Batches have 1 to 4,096",
    f"--threads {cores() + 1}": f"Choose 1 to {cores()}",
    "--threads 0": "threads",
    "--allow 0.9": "allow",
    "--time-limit -1": "time-limit",
    "--compare none.json": "none.json",
    "--runtime pytorch --precision int8": "runs no int8 files",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage_is_said_in_a_line_before_anything_runs(run, monkeypatch, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cifar_export.benchmarking.measure._measure", lambda *_: pytest.fail("it measured"))
    result = run("benchmark", "resnet8", "--weights", "random", *words.split())
    assert result.exit_code == 2, result.output
    assert WRONG[words] in result.stderr
    assert result.stderr.count("\n") <= 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.onnx", None, "no model 'none.onnx'"),
        ("a.onnx", b"<html>", "a.onnx"),
        ("a.txt", b"text", "Known suffixes"),
    ],
)
def test_what_is_no_network_is_said(run, monkeypatch, tmp_path, name, content, said):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = run("benchmark", name)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_a_file_of_somebody_else_needs_its_weights(run, exported, tmp_path):
    model = onnx.load(exported("onnx", "unit", 17).path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "theirs.onnx")
    result = run("benchmark", tmp_path / "theirs.onnx")
    assert (result.exit_code, "Add --weights PATH" in result.stderr) == (2, True)


def test_two_files_of_one_name_are_refused(run, exported, weights20_file, tmp_path):
    data = exported("onnx", "uint8", 17).path.read_bytes()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.onnx").write_bytes(data)
    result = run("benchmark", tmp_path / "a/m.onnx", tmp_path / "b/m.onnx", "--weights", weights20_file)
    assert (result.exit_code, "same name" in result.stderr) == (2, True)


CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children")


@pytest.mark.skipif(not CHILDREN.is_file(), reason="this system does not list the children of a process")
def test_no_process_outlives_it(small):
    before = set(CHILDREN.read_text().split())
    small(*ORT)
    assert set(CHILDREN.read_text().split()) <= before
