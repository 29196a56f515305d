"""What `parity` leaves: the JSON document against its published schema, and the page."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.parity.check import check
from exporter.parity.compare import ERROR_EDGES, Bound, compare
from exporter.parity.inputs import bundled_images
from exporter.parity.report import SCHEMA, ParityReport, RuntimeResult

SCHEMA_FILE = Path(__file__).parents[1] / "docs" / "schemas" / f"parity-{SCHEMA}.json"


@pytest.fixture(scope="module")
def valid():
    """Raise where a document is not what the schema says; NaN and Infinity are no JSON."""
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    def check_document(document):
        validator.validate(json.loads(json.dumps(document, allow_nan=False)))

    return check_document


def test_what_parity_prints_is_what_the_schema_says(run, valid, weights20_file, exported):
    file = exported("onnx", "uint8", 17).path
    command = ["parity", "resnet20", "--weights", weights20_file, "--file", file, "--json"]
    result = run(*command, "--runtime", "pytorch", "--runtime", "onnxruntime-cpu")
    document = json.loads(result.stdout)
    valid(document)
    assert document["schema"] == 1
    (row,) = [row for row in document["runtimes"] if row["gated"]]
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
    limit = Bound(19.0, 1e-6, 1e-5, yardstick_is_float32=True)
    comparison = compare("real", reference, logits, limit)
    row = RuntimeResult("x", "CPU", comparison.passed, comparison.problem, (comparison,))
    report = ParityReport("cifar10_resnet20", "uint8", "0" * 64, {"pytorch": {"real": bad}}, {"real": bad}, (row,))
    valid(report.as_dict())
    assert comparison.worst.image == 1
    assert 3 in [number for number, _, _ in comparison.worst.classes]
    assert comparison.histogram[-1] == 1


@given(st.lists(st.floats(1e-12, 1e6), min_size=1, max_size=30))
def test_each_error_is_counted_in_its_bin(errors):
    reference = np.zeros((len(errors), 2))
    reference[:, 0] = errors
    limit = Bound(1.0, 1.0, 1.0, yardstick_is_float32=True)
    counts = compare("x", reference, np.zeros_like(reference, dtype=np.float32), limit).histogram
    assert sum(counts) == 2 * len(errors)
    for place, (low, high) in enumerate(itertools.pairwise(ERROR_EDGES)):
        if 0 < place < len(counts) - 1:
            assert counts[place] == sum(low <= error < high for error in errors)


def test_the_worst_image_is_named_by_its_place_in_the_set():
    reference = np.zeros((3, 10))
    logits = np.zeros((3, 10), np.float32)
    logits[2, 7] = 1.0
    limit = Bound(1.0, 1e-6, 1e-5, yardstick_is_float32=True)
    worst = compare("x", reference, logits, limit, np.array([5, 6, 40])).worst
    assert (worst.image, worst.max_abs_error) == (40, 1.0)
    assert (7, 0.0, 1.0) in worst.classes
