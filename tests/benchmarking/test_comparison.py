"""`--compare`: what has become slower, how surely, and what cannot be compared."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from cifar_export.benchmarking.comparison import ALLOWED, SCHEMA, Baseline
from cifar_export.benchmarking.key import Key

from support.schemas import checker

KEY = Key("cifar10_resnet20", "onnxruntime-cpu", "float32", "float32", 1, 2)


def verdict(ratio: float, scatter: float = 0.01, turns: int = 20) -> str:
    times = np.exp(np.random.default_rng(0).normal(0, scatter, (2, turns)))
    earlier = Baseline("old.json", {KEY: times[0].tolist()})
    return earlier.compare({KEY: (ratio * times[1]).tolist()}, ALLOWED).rows[0].verdict


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0.5, "within"), (1.0, "within"), (1.07, "within"), (1.13, "slower"), (2.0, "slower")]
)
def test_slower_is_more_than_a_tenth(ratio, expected):
    assert verdict(ratio) == expected


def test_what_scatters_is_not_called_slower():
    assert verdict(1.2, scatter=0.3) == "unclear"
    assert verdict(1.2, scatter=0.01) == "slower"


def test_too_few_turns_say_nothing():
    earlier = Baseline("old.json", {KEY: [1.0] * 9})
    assert earlier.compare({KEY: [9.0] * 4}, ALLOWED).rows == ()
    assert len(earlier.compare({KEY: [9.0] * 5}, ALLOWED).slower) == 1


def test_a_row_that_the_baseline_has_not_is_counted():
    other = Key("cifar10_resnet20", "onnxruntime-cpu", "int8", "float32", 1, 2)
    found = Baseline("old.json", {KEY: [1.0] * 9}).compare({KEY: [1.0] * 9, other: [9.0] * 9}, ALLOWED)
    assert (found.new, [row.key for row in found.rows], found.slower) == (1, [KEY], [])


ARGUMENTS = ("--runtime", "onnxruntime-cpu", "--batch", "1,4", "--threads", "1")


@pytest.mark.parametrize(("times", "code", "expected"), [(0.2, 1, "slower"), (50.0, 0, "within")])
def test_the_exit_code_is_that_of_the_comparison(small, measured, tmp_path, times, code, expected):
    old = copy.deepcopy(measured)
    for row in old["rows"]:
        row["turn_medians"] = [times * value for value in row["turn_medians"]]
    (tmp_path / "old.json").write_text(json.dumps(old))
    result, document = small(*ARGUMENTS, "--compare", tmp_path / "old.json", "--allow", "2")
    assert result.exit_code == code, result.output
    checker(f"benchmark-{SCHEMA}")(document)
    comparison = document["comparison"]
    assert (comparison["baseline"], comparison["allowed"]) == ("old.json", 2.0)
    assert [(row["batch"], row["verdict"]) for row in comparison["rows"]] == [(1, expected), (4, expected)]
    assert result.stderr.count("times the time in old.json") == (2 if code else 0)


def damage(document: dict, how: str) -> str:
    if how == "another machine":
        document["machine"]["processor"] = "Some other processor"
    elif how == "another schema":
        document["schema"] = 99
    elif how == "other rows":
        document["rows"] = [row for row in document["rows"] if row["runtime"] == "pytorch"]
    elif how == "no machine":
        del document["machine"]
    elif how == "times that are none":
        document["rows"][0]["turn_medians"] = ["soon"]
    elif how == "a key that is a list":
        document["rows"][0]["runtime"] = []
    return {"no JSON": "{", "another document": '{"schema": 1}', "a number": "1"}.get(how, json.dumps(document))


SAID = {
    "another machine": "is of another machine (processor 'Some other processor'",
    "another schema": "is of schema 99, and this cifar-export compares with schema 1",
    "other rows": "has a time of none of these rows",
    "no machine": "is damaged",
    "times that are none": "is damaged",
    "a key that is a list": "is damaged",
    "no JSON": "is no benchmark",
    "another document": "is no benchmark",
    "a number": "is no benchmark",
}


@pytest.mark.parametrize("how", SAID)
def test_what_cannot_be_compared_is_said_before_anything_runs(run, measured, monkeypatch, tmp_path, how):
    monkeypatch.setattr("cifar_export.benchmarking.measure._measure", lambda *_: pytest.fail("it measured"))
    (tmp_path / "old.json").write_text(damage(copy.deepcopy(measured), how))
    result = run("benchmark", "resnet8", "--weights", "random", *ARGUMENTS, "--compare", tmp_path / "old.json")
    assert result.exit_code == 2, result.output
    assert SAID[how] in result.stderr
    assert result.stderr.count("\n") <= 2
