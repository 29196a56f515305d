"""Runtimes in a process of their own: one that dies, hangs or prints is a row, and the others run."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest
import torch

from cifar_export.gate.check import check
from cifar_export.gate.inputs import bundled_images

from support.paths import ROOT

FEW = {"real": bundled_images()[:12]}


@pytest.fixture
def checked(weights20, exported):
    def run(names, **more):
        files = {"onnx": exported("onnx", "uint8", 17).path}
        report = check(weights20, "uint8", files, names, FEW, isolated=True, **more)
        return report, {row.runtime: row for row in report.runtimes}

    return run


def test_runtimes_that_die_raise_or_print_are_rows_and_the_others_run(bad, checked):
    names = [*bad("Segfault", "Exit", "Raise", "Objects", "Chatter"), "onnxruntime-cpu"]
    report, rows = checked(names)
    assert list(rows) == names
    if sys.platform != "win32":
        assert rows["Segfault"].reason == "crashed: signal 11 (SIGSEGV)"
    assert rows["Exit"].reason == "crashed: exit code 3: the library gave up"
    assert rows["Raise"].reason == "crashed: RuntimeError: out of cheese"
    assert rows["Objects"].reason == "logits are object, not float32"
    assert "exceeds" in rows["Chatter"].reason  # it ran, and its zeros are wrong
    assert [rows[name].state for name in names] == ["failed"] * 5 + ["passed"]
    assert rows["onnxruntime-cpu"].images == 12
    assert not report.passed


def test_a_runtime_that_hangs_is_a_row_and_the_others_run(bad, checked):
    _, rows = checked([*bad("Hang", patience_s=0.5), "onnxruntime-cpu"])
    assert (rows["Hang"].state, rows["Hang"].reason) == ("failed", "no answer within 0.5 s")
    assert rows["onnxruntime-cpu"].state == "passed"


def test_a_runtime_that_is_only_reported_fails_nothing(bad, checked):
    report, rows = checked([*bad("Zeros", "Raise", gated=False), "onnxruntime-cpu"])
    assert report.passed
    assert rows["Zeros"].state == "reported"
    assert rows["Zeros"].reason.startswith("error ")
    assert (rows["Raise"].state, rows["Raise"].reason) == ("reported", "crashed: RuntimeError: out of cheese")


def test_a_runtime_is_closed_when_it_has_run_there_or_here(bad, weights20, exported, tmp_path):
    file = tmp_path / "a.onnx"
    file.write_bytes(exported("onnx", "uint8", 17).path.read_bytes())
    for isolated in (True, False):
        check(weights20, "uint8", {"onnx": file}, bad("Closes"), FEW, isolated=isolated)
        (tmp_path / "closed").unlink()


def test_nodes_that_ran_elsewhere_fail_the_row_and_are_named(bad, checked):
    _, rows = checked(bad("Misplaced"))
    assert rows["Misplaced"].state == "failed"
    assert rows["Misplaced"].reason == "not on zeros: layer2.0.conv1 (Conv), fc (Gemm)"


def test_an_interruption_ends_the_process_that_hangs(bad, checked):
    def interrupt(what):
        if what == "Hang":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checked(bad("Hang", patience_s=600.0), progress=interrupt)  # would wait ten minutes otherwise


def test_isolated_and_not_are_the_same_numbers(checked, weights20, exported):
    _, rows = checked(["onnxruntime-cpu"])
    files = {"onnx": exported("onnx", "uint8", 17).path}
    here = check(weights20, "uint8", files, ["onnxruntime-cpu"], FEW)
    assert here.runtimes == (rows["onnxruntime-cpu"],)


@pytest.mark.parametrize(("asked", "each"), [(None, 3), ("4", 2), ("1", 1), ("64", 3)])
def test_the_reference_and_the_runtimes_share_the_cores(bad, checked, monkeypatch, asked, each):
    monkeypatch.setattr("cifar_export.runtimes.threads.cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    before, seen = torch.get_num_threads(), set()
    torch.set_num_threads(5)
    try:
        _, rows = checked(bad("Threads"), progress=lambda what: seen.add(torch.get_num_threads()))
        assert torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(before)
    assert rows["Threads"].provider == f"{each} threads"
    assert each in seen
    assert max(seen) == each


KILLED = """
import json, sys
from pathlib import Path
from cifar_export.gate.isolation import Worker

folder = Path(sys.argv[1])
np_file = folder / "images.npy"
worker = Worker(folder / "errors")
job = folder / "job.json"
job.write_text(json.dumps({"session": ["support.bad_runtimes:Hang", "network", str(job)]}))
print(worker._process.pid, worker.ask(json.dumps(str(job)), 60), flush=True)
import numpy as np
np.save(np_file, np.zeros((1, 3, 32, 32), np.float32))
job.write_text(json.dumps({"images": str(np_file), "logits": str(folder / "logits.npy")}))
worker.ask(json.dumps(str(job)), 600)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_what_hangs_ends_when_its_parent_is_killed(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        pid = int(parent.stdout.readline().split()[0])
        watched = os.pidfd_open(pid)
        parent.kill()
    ended, _, _ = select.select([watched], [], [], 30)
    os.close(watched)
    assert ended, f"process {pid} still runs"
