"""Benchmarks of a small network, measured for a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from cifar_export import __main__ as cli
from cifar_export.benchmarking import process

SMALL = ["benchmark", "resnet8", "--weights", "random", "--time-limit", "0"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns of a few runs: what is tested here is not how long they take."""
    monkeypatch.setattr(process, "TURN_S", 0.01)
    monkeypatch.setattr(process, "WARM_UP_S", 0.02)


@pytest.fixture
def small(run) -> Callable[..., Any]:
    """Measure the small network; the result and its document."""

    def measure(*more: object, **_: Any) -> Any:
        result = run(*SMALL, "--json", *more)
        return result, json.loads(result.stdout)

    return measure


@pytest.fixture(scope="session")
def measured() -> Any:
    """One document, which nobody changes, with two batches, a runtime that is missing on most machines, and PyTorch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "TURN_S", 0.01)
        patch.setattr(process, "WARM_UP_S", 0.02)
        patch.setattr("cifar_export.runtimes.onnxruntime.has_driver", lambda: False)
        patch.setattr("cifar_export.runtimes.onnxruntime_cuda.has_driver", lambda: False)
        names = ["onnxruntime-cpu", "pytorch", "onnxruntime-cuda"]
        chosen = [word for name in names for word in ("--runtime", name)]
        result = CliRunner().invoke(cli.main, [*SMALL, "--batch", "1,4", "--threads", "1", "--json", *chosen])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)
