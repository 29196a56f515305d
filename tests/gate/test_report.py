"""A parity run as data: its verdict, and its JSON document against the published schema."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cifar_export.gate.check import check
from cifar_export.gate.compare import Bound, compare
from cifar_export.gate.inputs import bundled_images
from cifar_export.gate.report import SCHEMA, ParityReport, RuntimeResult

from support.schemas import checker


def test_a_report_in_which_nothing_was_gated_does_not_pass():
    report = ParityReport("cifar10_resnet20", "float32", "0" * 64, {}, {}, ())
    assert not report.passed
    assert report.failures == ["no runtime was compared with the reference"]


@pytest.fixture(scope="module")
def valid():
    return checker(f"parity-{SCHEMA}")


def test_what_parity_prints_is_what_the_schema_says(run, valid, weights20_file, exported):
    file = exported("onnx", "uint8", 17).path
    command = ["parity", "resnet20", "--weights", weights20_file, "--file", file, "--json"]
    result = run(*command, "--runtime", "pytorch", "--runtime", "onnxruntime-cpu")
    document = json.loads(result.stdout)
    valid(document)
    assert document["schema"] == 2
    (row,) = [row for row in document["runtimes"] if row["state"] == "passed"]
    assert all(sum(inputs["error_counts"]) == 10 * inputs["images"] for inputs in row["inputs"])
    worst = row["inputs"][0]["worst"]
    shown = max(abs(entry["logit"] - entry["reference"]) for entry in worst["classes"])
    assert math.isclose(shown, worst["max_abs_error"])
    assert worst["max_abs_error"] == row["inputs"][0]["max_abs_error"]
    assert {"python", "torch", "onnx", "cifar-export"} <= set(document["versions"])


def test_a_report_of_failures_is_what_the_schema_says(valid, weights20, tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"<html>")
    names = ["onnxruntime-cpu", "torchscript", "onnxruntime-cuda"]
    report = check(weights20, "uint8", {"onnx": tmp_path / "a.onnx"}, names, {"real": bundled_images()[:3]})
    valid(report.as_dict())
    assert not report.passed


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_logits_that_are_no_numbers_are_null_and_a_reason(valid, bad):
    reference = np.arange(20.0).reshape(2, 10)
    logits = reference.astype(np.float32)
    logits[1, 3] = bad
    limit = Bound(1e-6, 1e-5, yardstick_is_float32=True)
    comparison = compare("real", reference, logits, limit)
    row = RuntimeResult("x", "CPU", "failed", comparison.problem, (comparison,))
    report = ParityReport("cifar10_resnet20", "uint8", "0" * 64, {"pytorch": {"real": bad}}, {"real": bad}, (row,))
    valid(report.as_dict())
    assert comparison.worst.image == 1
    assert 3 in [number for number, _, _ in comparison.worst.classes]
    assert comparison.histogram[-1] == 1
