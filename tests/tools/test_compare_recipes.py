"""`tools/compare_recipes.py`: each run once, on held-out images alone, and a table of what each part brings."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cifar_export.training.options import NamedWeights, Options
from tools import compare_recipes as module

TOP1 = {"plain": 80.0, "moving average": 82.5, "distillation": 81.0}


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tool with a folder of its own, and runs that end at once."""
    monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setattr(module, "asked", [], raising=False)

    def train(options: Options, on_note: object) -> Any:
        module.asked.append(options)
        options.folder.mkdir(parents=True)
        line = {"event": "epoch", "images": 45_000}
        (options.folder / "log.jsonl").write_text(f"{json.dumps(line)}\n" * options.recipe.epochs)
        part = options.folder.name.split("-2-")[0].replace("-", " ")
        top1 = TOP1[part] + options.seed / 2
        return SimpleNamespace(top1=top1, top5=99.0, seconds=90.0, hardware="here", precision="bf16")

    monkeypatch.setattr(module, "train", train)
    return module


def test_a_run_is_made_once_and_never_sees_the_test_set(tool: Any) -> None:
    for _ in range(2):
        tool.main(["plain", "moving average"], 2, 2, Path("data"), 1)
    assert [(options.recipe.ema_decay, options.seed) for options in tool.asked] == [
        (0.0, 0),
        (0.999, 0),
        (0.0, 1),
        (0.999, 1),
    ]
    assert all(options.holdout and options.resume for options in tool.asked)


def test_the_teacher_is_the_average_of_the_same_seed(tool: Any) -> None:
    tool.main(["distillation"], 2, 1, Path("data"), 1)
    ((teacher,),) = (options.teachers for options in tool.asked)
    assert isinstance(teacher, NamedWeights)
    assert teacher.source.endswith("moving-average-2-seed0/weights.safetensors")


def test_the_table_has_the_mean_gain_over_plain_and_leaves_out_other_lengths(
    tool: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tool.main(["plain", "moving average"], 2, 2, Path("data"), 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        "| plain | 2 | 90 thousand | 80.00, 80.50 |  | 2 |",
        "| moving average | 2 | 90 thousand | 82.50, 83.00 | +2.50 | 2 |",
    ]
    assert list(tool.table(tool.results(), 3))[2:] == []
