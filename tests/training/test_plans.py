"""Plans of runs: what is one, and that the tracked ones are."""

import json
from pathlib import Path

import pytest

from cifar_export.errors import InvalidInput
from cifar_export.training.plans import evaluated, note_evaluated, read_plan
from cifar_export.training.recipe import PRESETS
from cifar_export.weights.index import bundled_entries

from support.paths import ROOT
from support.schemas import checker

TRACKED = ROOT / "artifacts" / "plans"
PLAN = {
    "schema": 1,
    "network": "cifar10_resnet20",
    "recipe": "quick",
    "epochs": 12,
    "seed": 3,
    "reason": "Twelve epochs were the best on held-out images.",
    "written": "before",
}
NAME = "cifar10_resnet20-quick-12-seed3.json"


def write(folder: Path, document, name: str = NAME) -> Path:
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.mark.parametrize("path", sorted(TRACKED.glob("*.json")), ids=lambda path: path.stem)
def test_a_tracked_plan_is_one(path):
    plan = read_plan(path)
    checker("plan-1")(json.loads(path.read_text()))
    if plan.written == "afterwards":
        assert "written after the run" in plan.reason


def test_what_is_bundled_by_a_plan_is_listed_and_so_is_its_plan():
    entries = [entry for entry in bundled_entries().values() if entry.plan]
    assert len(entries) >= 4
    for entry in entries:
        plan = read_plan(TRACKED / entry.plan)
        assert (plan.network, plan.seed) == (entry.network, entry.seed)
        assert (plan.recipe, plan.epochs) == (entry.recipe["name"], entry.recipe["epochs"])
        (run,) = (run for run in evaluated(TRACKED) if run["plan"] == entry.plan)
        assert (run["sha256"], run["top1"], run["bundled"]) == (entry.sha256, entry.top1, True)
        assert (entry.runs_evaluated is None) == (plan.written == "afterwards")


def test_a_plan_is_read(tmp_path):
    plan = read_plan(write(tmp_path, PLAN | {"initial": "a" * 64, "teachers": ["b" * 64]}))
    assert (plan.network, plan.epochs, plan.initial, plan.teachers) == (PLAN["network"], 12, "a" * 64, ("b" * 64,))
    assert read_plan(write(tmp_path, PLAN)).initial is None


def test_the_schema_knows_the_recipes():
    schema = json.loads((ROOT / "docs" / "schemas" / "plan-1.json").read_text())
    assert schema["properties"]["recipe"]["enum"] == sorted(PRESETS, key=schema["properties"]["recipe"]["enum"].index)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "not an object of schema 1"),
        ({"network": "cifar10_resnet18"}, "wrong network"),
        ({"recipe": "best"}, "wrong recipe"),
        ({"epochs": True}, "wrong epochs"),
        ({"epochs": 0}, "wrong epochs"),
        ({"reason": " "}, "wrong reason"),
        ({"written": "yesterday"}, "wrong written"),
        ({"initial": "bundled"}, "wrong initial"),
        ({"teachers": "all"}, "wrong teachers"),
        ({"top1": 90.0}, "missing or unknown keys: top1"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path, change, said):
    with pytest.raises(InvalidInput, match=said):
        read_plan(write(tmp_path, PLAN | change))


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000])
def test_what_is_no_json_object_is_refused(tmp_path, text):
    with pytest.raises(InvalidInput, match="is no plan"):
        read_plan(write(tmp_path, text))


def test_a_plan_has_the_name_of_its_run(tmp_path):
    with pytest.raises(InvalidInput, match=f"rename it {NAME}"):
        read_plan(write(tmp_path, PLAN, "plan.json"))


def test_a_run_is_listed_once(tmp_path):
    run = {"network": PLAN["network"], "plan": NAME, "written": "before", "sha256": "a" * 64, "top1": 92.0}
    assert evaluated(tmp_path) == []
    note_evaluated(tmp_path, run)
    note_evaluated(tmp_path, run)
    note_evaluated(tmp_path, run | {"sha256": "b" * 64})
    assert [one["sha256"][0] for one in evaluated(tmp_path)] == ["a", "b"]
    (tmp_path / "evaluated.jsonl").write_text("{")
    with pytest.raises(InvalidInput, match="damaged"):
        evaluated(tmp_path)
