"""The second gate of a reduced file: against its float32 network, picture by picture."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from cifar_export import data
from cifar_export.accuracy.reduction import BUDGET, Accuracies, mcnemar
from cifar_export.data import Split
from cifar_export.errors import Unavailable
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.preprocess import as_variant
from cifar_export.networks.zoo import NETWORKS
from cifar_export.runtimes import open_runtime
from cifar_export.weights.core import build_network
from cifar_export.weights.sources import load_weights

Run = Callable[..., Result]


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (0, 5, 0.0625), (2, 10, 2 * (1 + 12 + 66) / 4096), (34, 30, 0.7080), (8, 8, 1.0)],
)
def test_the_paired_test_is_exact(lost: int, gained: int, p: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(p, abs=1e-4)


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_paired_test_sums_the_binomial_distribution(lost: int, gained: int) -> None:
    trials = lost + gained
    tail = sum(math.comb(trials, k) for k in range(min(lost, gained) + 1)) / 2**trials
    assert mcnemar(lost, gained) == mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail))


def test_thousands_of_pictures_are_no_overflow() -> None:
    assert 0.0 <= mcnemar(0, 10_000) < mcnemar(4_000, 6_000) < 1e-80
    assert mcnemar(5_000, 5_000) == 1.0


@pytest.mark.parametrize(("reduced", "passed"), [(92.58, True), (92.57, False), (92.9, True)])
def test_exactly_the_budget_may_be_lost(reduced: float, passed: bool) -> None:
    assert BUDGET == 0.10
    assert Accuracies(92.68, reduced, 0, 0, 1.0, BUDGET).passed is passed


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test set on which the bundled ResNet-20 is right everywhere in float32; in int8 on all but one picture."""
    pixels, weights = bundled_images(), load_weights(NETWORKS["cifar10_resnet20"])
    with open_runtime("pytorch", build_network(weights)) as runtime:
        labels = runtime.logits(as_variant(pixels, "float32", weights.normalization)).argmax(1)
    split = Split(pixels, labels.astype(np.int64))
    monkeypatch.setattr(data, "load_split", lambda folder, dataset, part: split)


@pytest.fixture
def onnx(run: Run, tmp_path: Path) -> Callable[..., Result]:
    def call(*options: object) -> Result:
        return run("onnx", "resnet20", "--precision", "int8", "--output", tmp_path / "a.onnx", *options)

    return call


@pytest.mark.usefixtures("answered")
def test_a_file_that_loses_more_than_the_budget_does_not_appear(onnx: Callable[..., Result], tmp_path: Path) -> None:
    done = onnx("--data-dir", tmp_path)
    assert done.exit_code == 1
    assert "int8 loses 0.78 points of top-1, not 0.10 or less (top-1 99.22 %, float32 100.00 %" in done.stderr
    assert "Nothing was written.\nAccept it with a larger --accuracy-budget or use float16." in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("answered")
def test_a_litert_file_is_held_to_the_budget_in_litert_and_float16_is_no_way_out(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    command = ("litert", "resnet20", "--precision", "int8", "--output", tmp_path / "a.tflite", "--data-dir", tmp_path)
    done = run(*command)
    assert (done.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert "points of top-1, not 0.10 or less" in done.stderr
    assert done.stderr.endswith("Accept it with a larger --accuracy-budget.\n")
    accepted = run(*command[:2], *command[4:], "--check-accuracy", "100", "--input", "uint8")
    assert accepted.exit_code == 0, accepted.stderr
    assert "(litert)" in accepted.stdout


@pytest.mark.usefixtures("answered")
def test_what_is_lost_stands_in_the_answer(onnx: Callable[..., Result], tmp_path: Path) -> None:
    budget = ("--data-dir", tmp_path, "--accuracy-budget", "0.79", "--no-check")
    done = onnx(*budget, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)["reduction"]
    assert found == {
        "precision": "int8",
        "images": 128,
        "agreeing": 127,
        "accuracy": {
            "float32": 100.0,
            "reduced": 99.21875,
            "points": -0.78125,
            "lost": 1,
            "gained": 0,
            "p_value": 1.0,
            "budget": 0.79,
        },
        "reason": None,
    }
    line = "top-1 99.22 %, float32 100.00 % (-0.78 points; 1 lost, 0 gained, McNemar p = 1)"
    assert line in onnx(*budget).stdout


def test_without_data_the_bundled_pictures_are_compared(onnx: Callable[..., Result]) -> None:
    done = onnx()
    assert done.exit_code == 0, done.stderr
    assert "the class of float32 on 127 of 128 bundled pictures; accuracy not checked here: give --data-dir" in (
        done.stdout
    )


def test_data_that_are_asked_for_are_needed(onnx: Callable[..., Result], tmp_path: Path) -> None:
    for options in (["--data-dir", tmp_path / "none"], ["--accuracy-budget", "1", "--data-dir", tmp_path / "none"]):
        done = onnx(*options)
        assert done.exit_code == 3
        assert "no CIFAR-10 in" in done.stderr


def test_missing_data_of_the_environment_are_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from cifar_export.__main__ import main

    def none(*_: Any) -> Split:
        raise Unavailable("no CIFAR-10 there.\nGet it.")

    monkeypatch.setattr(data, "load_split", none)
    arguments = ["onnx", "resnet20", "--precision", "float16", "--output", str(tmp_path / "a.onnx"), "--json"]
    done = CliRunner().invoke(main, arguments, env={"CIFAR_DATA": str(tmp_path)})
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)["reduction"]
    assert (found["accuracy"], found["agreeing"]) == (None, 128)
    assert found["reason"] == "accuracy not checked here: no CIFAR-10 there."


def test_float32_has_no_budget(run: Run, tmp_path: Path) -> None:
    done = run("onnx", "resnet20", "--accuracy-budget", "1", "--output", tmp_path / "a.onnx")
    assert done.exit_code == 2
    assert "--accuracy-budget is for a reduced --precision. Leave it away." in done.stderr
