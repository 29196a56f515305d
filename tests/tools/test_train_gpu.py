"""Planning and training side by side, on the CPU with a data set of 70 images; and what is not trained."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cifar_export.errors import InvalidInput
from cifar_export.networks.zoo import DATASETS, NETWORKS
from cifar_export.system.commit import file_at
from cifar_export.training import children
from cifar_export.training.log import read
from cifar_export.training.plans import note_evaluated, plan_of, read_plan
from tools import train_gpu

NAMES = ["cifar10_resnet8", "cifar10_resnet14"]
SMALL = """
import sys
from dataclasses import replace
from pathlib import Path
from cifar_export.networks import zoo
from cifar_export.system import commit
from cifar_export.training import recipe

commit.CHECKOUT = Path(__file__).parent
zoo.DATASETS["cifar10"] = replace(zoo.CIFAR10, train_images=70, test_images=20)
recipe.PRESETS["release"] = replace(recipe.RELEASE, batch_size=32)
from cifar_export.__main__ import main

main(["train", *sys.argv[1:]])
"""


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A checkout in `tmp_path`, where this code seems to run."""
    for who in ("AUTHOR", "COMMITTER"):
        for what in ("NAME", "EMAIL"):
            monkeypatch.setenv(f"GIT_{who}_{what}", "a")
    monkeypatch.setattr("cifar_export.system.commit.CHECKOUT", tmp_path)

    def run_git(*arguments: str) -> None:
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    run_git("init", "--quiet")
    run_git("commit", "--quiet", "--allow-empty", "-m", "nothing")
    return run_git


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    folder = tmp_path / "artifacts" / "plans"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def more(tmp_path: Path, write_cifar: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of training, in processes that know the data set to be small."""
    write_cifar(tmp_path / "data", DATASETS["cifar10"], train=70, test=20)
    (tmp_path / "small.py").write_text(SMALL)
    monkeypatch.setattr(children, "COMMAND", (sys.executable, "-P", str(tmp_path / "small.py")))
    monkeypatch.setitem(DATASETS, "cifar10", replace(DATASETS["cifar10"], train_images=70, test_images=20))
    return ["--data-dir", str(tmp_path / "data"), "--device", "cpu"]


def plan(plans: Path, network: str = NAMES[0], epochs: int = 2, seed: int = 0, **other: Any) -> Path:
    told = {"schema": 1, "network": network, "recipe": "release", "epochs": epochs, "seed": seed, "written": "before"}
    path = plans / f"{network}-release-{epochs}-seed{seed}.json"
    path.write_text(json.dumps(told | {"reason": "A test."} | other))
    return path


def commit(git: Any) -> None:
    git("add", "artifacts/plans")
    git("commit", "--quiet", "-m", "plans")


def test_what_is_planned_and_committed_is_trained_side_by_side(
    git: Any, plans: Path, more: list[str], tmp_path: Path
) -> None:
    said: list[str] = []
    runs = tmp_path / "runs"
    written = train_gpu.write_plans(NAMES, "release", 3, 60, more, plans, runs)
    planned = [read_plan(path) for path in written]
    assert sorted(one.network for one in planned) == sorted(NAMES)
    assert all(one.written == "before" and one.seed == 3 and 1 <= one.epochs <= 300 for one in planned)
    assert all(f", beside {other}: one took" in one.reason for one in planned for other in {*NAMES} - {one.network})
    for path, one in zip(written, planned, strict=True):  # to the shortest that a test can wait for
        path.unlink()
        plan(plans, one.network, epochs=1, seed=3)
    with pytest.raises(InvalidInput, match=r"seed3\.json is not committed as it stands"):
        train_gpu.train([], 60, more, plans, runs, said.append)
    assert not runs.exists()
    commit(git)
    train_gpu.train([], 60, more, plans, runs, said.append)
    assert sorted(said) == sorted(
        f"{runs / name}-release-1-seed3: finished. Score it with tools/bundle_weights.py." for name in NAMES
    )
    for name in NAMES:
        start = read(runs / f"{name}-release-1-seed3" / "log.jsonl")[0]
        planned = f"artifacts/plans/{name}-release-1-seed3.json"
        assert file_at(start["commit"], planned) == (tmp_path / planned).read_bytes()
        assert (start["holdout"], start["images"]) == (False, 70)
    with pytest.raises(InvalidInput, match="no plan without a run of any network"):
        train_gpu.train([], 60, more, plans, runs, said.append)


def test_runs_that_the_time_ends_are_left_to_be_continued(
    git: Any, plans: Path, more: list[str], tmp_path: Path
) -> None:
    runs, said = tmp_path / "runs", list[str]()
    plan(plans, epochs=12)
    commit(git)
    log = runs / f"{NAMES[0]}-release-12-seed0" / "log.jsonl"

    def clock() -> float:  # the time is up after the second epoch
        return 1e6 * (log.exists() and sum(event["event"] == "epoch" for event in read(log)) >= 2)

    train_gpu.train(NAMES[:1], 60, more, plans, runs, said.append, clock)
    (line,) = said
    done = int(line.partition(": ")[2].split()[0])
    assert 2 <= done < 12
    assert " of 12 epochs. Go on: cifar-export train cifar10_resnet8 --recipe release --epochs 12 --seed 0 " in line
    assert line.endswith("--resume")
    plan(plans, epochs=50)  # not committed, and no choice either: the other one is begun
    train_gpu.train(NAMES[:1], 60, more, plans, runs, said.append)
    assert said[-1].endswith("finished. Score it with tools/bundle_weights.py.")
    starts = [event for event in read(log) if event["event"] == "start"]
    assert starts[1]["resumed_after_epoch"] >= 2
    assert plan_of(starts[0] | {"recipe": starts[0]["recipe"] | {"batch_size": 128}}, plans).epochs == 12


def test_of_several_plans_the_longest_that_ends_in_time_is_taken(
    plans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for epochs in (10, 50, 100):
        plan(plans, epochs=epochs)
    asked: list[dict[str, str]] = []

    def speeds(recipes: dict[str, str], *more: Any) -> dict[str, train_gpu.Speed]:
        asked.append(recipes)
        return {name: train_gpu.Speed(30.0, 10.0, "a GPU") for name in recipes}

    monkeypatch.setattr(train_gpu, "speeds", speeds)

    def longest(minutes: float) -> int:
        candidates = train_gpu.open_plans([], plans, tmp_path / "runs")
        (taken,) = train_gpu.chosen(candidates, [], 60 * minutes, lambda: 0.0)
        return taken.epochs

    assert [longest(minutes) for minutes in (1, 9, 10, 12, 60)] == [10, 10, 50, 50, 100]
    assert asked == [{NAMES[0]: "release"}] * 5
    for epochs in (10, 50):
        (plans / f"{NAMES[0]}-release-{epochs}-seed0.json").unlink()
    assert longest(1) == 100  # there is nothing to choose
    assert len(asked) == 5


def test_what_had_its_run_or_begins_with_trained_weights_is_not_trained(plans: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    had = plan(plans, epochs=2)
    note_evaluated(plans, {"plan": had.name, "sha256": "0" * 64})
    plan(plans, epochs=3, written="afterwards")
    plan(plans, epochs=4, initial="0" * 64)
    finished = plan(plans, epochs=5)
    (runs / finished.stem).mkdir(parents=True)
    (runs / finished.stem / "weights.safetensors").write_bytes(b"")
    plan(plans, network=NAMES[1], epochs=6)
    assert train_gpu.open_plans([NAMES[0]], plans, runs) == {}
    assert [one.epochs for one in train_gpu.open_plans([], plans, runs)[NAMES[1]]] == [6]


def test_a_plan_that_would_have_had_its_run_is_not_written(
    plans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_gpu, "speeds", lambda *asked: {NAMES[0]: train_gpu.Speed(60.0, 2.0, "a GPU")})
    note_evaluated(plans, {"plan": f"{NAMES[0]}-release-105-seed0.json", "sha256": "0" * 64})
    how: list[Any] = [[], plans, tmp_path / "runs"]
    with pytest.raises(InvalidInput, match=r"release-105-seed0\.json had its run already. Name another --seed"):
        train_gpu.write_plans(NAMES[:1], "release", 0, 5, *how)
    with pytest.raises(InvalidInput, match="not one epoch of cifar10_resnet8 ends within 1 minutes"):
        train_gpu.write_plans(NAMES[:1], "release", 0, 1, *how)
    assert list(plans.glob("*.json")) == []
    (path,) = train_gpu.write_plans(NAMES[:1], "release", 1, 500, *how)
    assert read_plan(path).epochs == 300  # not more than the recipe has


def test_a_run_that_fails_is_an_error_with_its_own_code_and_ends_what_measures(
    plans: Path, git: Any, more: list[str], tmp_path: Path
) -> None:
    nowhere = ["--data-dir", str(tmp_path / "nowhere"), "--device", "cpu"]
    with pytest.raises(Exception, match=r"cifar10_resnet8: ") as caught:
        train_gpu.write_plans(NAMES[:1], "release", 0, 60, nowhere, plans, tmp_path / "runs")
    assert caught.value.exit_code == 3  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput, match="too short even to measure cifar10_resnet8"):
        train_gpu.write_plans(NAMES[:1], "release", 0, 1e-6, more, plans, tmp_path / "runs")
    assert list(plans.iterdir()) == []


def test_the_script_has_no_trained_weights(run: Any) -> None:
    from click.testing import CliRunner

    result = CliRunner().invoke(train_gpu.main, ["--minutes", "1", "--plan", "--recipe", "swa", next(iter(NETWORKS))])
    assert (result.exit_code, result.stderr) == (
        2,
        "error: recipe swa begins with trained weights, which this script has none of.\n",
    )
