"""Finished runs go into the package with honest figures."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from cifar_export.accuracy.evaluation import Evaluation
from cifar_export.data import Split
from cifar_export.errors import GateFailed, InvalidInput, Unavailable
from cifar_export.networks.zoo import NETWORKS, Accuracy
from cifar_export.system.files import sha256_file
from cifar_export.training import holdout, run
from cifar_export.training.log import read
from cifar_export.training.plans import evaluated
from cifar_export.training.recipe import DISTILL, PRESETS, QUICK
from cifar_export.weights.index import bundled_entries
from cifar_export.weights.native import save_weights
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights
from tools import bundle_weights

NETWORK = NETWORKS["cifar10_resnet20"]
PLANNED = {"schema": 1, "network": NETWORK.name, "epochs": 1, "reason": "A test.", "written": "before"}


@pytest.fixture
def git(tmp_path, monkeypatch):
    """A checkout in `tmp_path`, where this code seems to run: its function runs git there."""
    names = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    monkeypatch.setattr("cifar_export.system.commit.CHECKOUT", tmp_path)

    def run_git(*arguments: str) -> None:
        environment = os.environ | names
        subprocess.run(["git", "-C", tmp_path, *arguments], env=environment, check=True, capture_output=True)

    run_git("init", "--quiet")
    return run_git


@pytest.fixture
def plans(tmp_path):
    folder = tmp_path / "artifacts" / "plans"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def finished(tmp_path, write_cifar, monkeypatch, git, plans):
    """Train for a moment on a tiny data set, by a plan; bundling then sees 20 images of noise as the test set."""
    for recipe in (QUICK, DISTILL):
        monkeypatch.setitem(PRESETS, recipe.name, replace(recipe, batch_size=32))
    dataset = write_cifar(tmp_path / "data", NETWORK.dataset, train=70, test=20)
    rng = np.random.default_rng(0)
    test = Split(rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), np.arange(20) % 10)
    monkeypatch.setattr(bundle_weights, "load_split", lambda *asked: test)

    def train(plan=(), **change) -> Path:
        options = run.Options(
            network=replace(NETWORK, dataset=dataset),
            recipe=replace(QUICK, epochs=1, batch_size=32),
            data_dir=tmp_path / "data",
            device="cpu",
        )
        options = replace(options, **change)
        options = replace(options, output=tmp_path / options.folder.name)
        if plan is not None:
            told = PLANNED | {"recipe": options.recipe.name, "seed": options.seed} | dict(plan)
            told |= {"initial": options.initial.sha256} if options.initial else {}
            told |= {"teachers": [one.sha256 for one in options.teachers]} if options.teachers else {}
            (plans / f"{NETWORK.name}-{told['recipe']}-{told['epochs']}-seed{told['seed']}.json").write_text(
                json.dumps(told)
            )
            git("add", "artifacts/plans")
        git("commit", "--quiet", "--allow-empty", "-m", "a plan")
        run.train(options)
        return options.folder

    return train


@pytest.fixture
def bundle(tmp_path, plans):
    """Bundle a run into `tmp_path / "weights"`."""

    def bundled(source, **options):
        return bundle_weights.bundle(source, tmp_path, tmp_path / "weights", plans, **options)

    return bundled


@pytest.fixture
def scores(monkeypatch):
    """Accuracies by decree: one real evaluation is enough for this page."""
    asked = []

    def score(weights, split, runtime):
        asked.append(runtime)
        return Evaluation(runtime, "", "float32", scores.top1, 99.0, 20, 1.0, np.zeros(20, np.int64))

    scores = SimpleNamespace(asked=asked, top1=95.0)
    monkeypatch.setattr(bundle_weights, "score", score)
    return scores


def test_a_bundled_run_can_be_loaded_and_says_what_it_is(finished, bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, NETWORK.name, replace(NETWORK, reference=Accuracy(0.0, 0.0)))
    folder = tmp_path / "weights"
    source = finished()
    entry = bundle(source)
    assert bundled_entries(folder) == {NETWORK.name: entry}
    assert entry.file == f"cifar10_resnet20-{entry.sha256[:8]}.safetensors"
    assert sha256_file(folder / entry.file) == entry.sha256 == sha256_file(source / "weights.safetensors")
    assert load_weights(NETWORKS[NETWORK.name], str(folder / entry.file)).normalization == entry.normalization
    assert entry.metrics["images"] == 20
    assert entry.metrics["top1"] == entry.metrics["pytorch_top1"]
    assert not entry.below_reference
    assert (entry.plan, entry.runs_evaluated) == ("cifar10_resnet20-quick-1-seed0.json", 1)
    start = read(source / "log.jsonl")[0]
    assert not {"initial", "teachers", "earlier_runs", "parts"} & set(entry.provenance)
    assert entry.recipe == start["recipe"]
    assert entry.provenance["hardware"] == start["hardware"]
    assert entry.provenance["seconds"] > 0
    assert (folder / entry.provenance["log"]).read_bytes() == (source / "log.jsonl").read_bytes()
    curve = (folder / entry.file).with_suffix(".png")
    assert curve.read_bytes() == (source / "curve.png").read_bytes()


def test_weights_that_a_run_started_from_are_named(finished, bundle, scores, tmp_path):
    initial = random_weights(NETWORK, seed=1)
    entry = bundle(finished(initial=initial))
    assert entry.provenance["initial"] == {"network": NETWORK.name, "sha256": initial.sha256}


def test_the_runs_that_made_the_initial_weights_are_listed(finished, bundle, scores, tmp_path):
    folder, entries = tmp_path / "weights", []
    for seed in range(3):
        initial = load_weights(NETWORK, str(folder / entries[-1].file)) if entries else None
        entries.append(bundle(finished(seed=seed, initial=initial)))
    assert "earlier_runs" not in entries[0].provenance
    earlier = entries[2].provenance["earlier_runs"]
    assert [(run["seed"], run["sha256"], run["epochs"]) for run in earlier] == [
        (entry.seed, entry.sha256, 1) for entry in entries[:2]
    ]
    assert earlier[1]["seconds"] == entries[1].provenance["seconds"]
    assert [run["prune"] for run in earlier] == [QUICK.prune] * 2
    again = bundle(tmp_path / f"{NETWORK.name}-quick-seed2")
    assert again.provenance["earlier_runs"] == earlier


def test_the_earlier_runs_of_weights_that_were_replaced_meanwhile_are_known(finished, bundle, scores, tmp_path):
    folder = tmp_path / "weights"
    first = bundle(finished())
    initial = load_weights(NETWORK, str(folder / first.file))
    bundle(finished(seed=1, initial=initial))
    sibling = bundle(finished(seed=2, initial=initial))
    assert [run["sha256"] for run in sibling.provenance["earlier_runs"]] == [first.sha256]


def test_initial_weights_that_nobody_knows_are_remarked_on(finished, scores, tmp_path, plans, monkeypatch):
    monkeypatch.setattr(bundle_weights.bundle, "__defaults__", (tmp_path / "weights", plans))
    source = finished(initial=random_weights(NETWORK, seed=1))
    result = CliRunner().invoke(bundle_weights.main, [str(source), "--data-dir", str(tmp_path)])
    assert result.exit_code == 0
    assert "not of the index" in result.stderr


def test_teachers_are_named(finished, bundle, scores, tmp_path):
    teachers = tuple(random_weights(NETWORKS[f"cifar10_{model}"], seed=1) for model in ("resnet20", "resnet32"))
    source = finished(recipe=replace(DISTILL, epochs=1, batch_size=32), teachers=teachers)
    provenance = bundle(source).provenance
    assert provenance["teachers"] == [{"network": one.network.name, "sha256": one.sha256} for one in teachers]


def test_a_better_run_replaces_the_files_of_the_old_one(finished, bundle, scores, tmp_path):
    folder = tmp_path / "weights"
    bundle(finished())
    entry = bundle(finished(seed=1))
    names = [entry.file, *(entry.file.replace("safetensors", suffix) for suffix in ("jsonl", "png")), "index.json"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert bundled_entries(folder)[NETWORK.name].seed == 1


def test_a_planned_run_replaces_a_better_one(finished, bundle, scores, tmp_path):
    bundle(finished())
    scores.top1 = 94.9
    entry = bundle(finished(seed=1))
    assert bundled_entries(tmp_path / "weights")[NETWORK.name] == entry
    assert (entry.top1, entry.runs_evaluated) == (94.9, 2)


def test_a_run_below_the_published_accuracy_is_listed_but_not_bundled(finished, bundle, scores, tmp_path, plans):
    scores.top1 = 91.64
    source = finished()
    with pytest.raises(GateFailed, match=r"91\.64 %, less than the published 91\.65 %(.|\n)*docs/protocol\.md"):
        bundle(source)
    assert not (tmp_path / "weights").exists()
    (listed,) = evaluated(plans)
    assert (listed["top1"], listed["bundled"], listed["plan"]) == (91.64, False, "cifar10_resnet20-quick-1-seed0.json")
    scores.top1 = 91.65
    entry = bundle(finished(seed=1))
    assert (entry.below_reference, entry.runs_evaluated) == (False, 2)  # what was not bundled counts
    assert scores.asked == ["onnxruntime-cpu", "pytorch"] * 2


def test_a_run_without_a_plan_is_refused(finished, bundle, scores, plans):
    with pytest.raises(InvalidInput, match=r"no plan of this run: .*cifar10_resnet20-quick-1-seed0\.json is missing"):
        bundle(finished(plan=None))
    assert scores.asked == []


def test_a_plan_that_is_younger_than_its_run_is_refused(finished, bundle, scores, git, plans):
    source = finished(plan=None)
    plan = plans / "cifar10_resnet20-quick-1-seed0.json"
    plan.write_text(json.dumps(PLANNED | {"recipe": "quick", "seed": 0}))
    for commit in (False, True):
        if commit:
            git("add", ".")
            git("commit", "--quiet", "-m", "too late")
        with pytest.raises(InvalidInput, match="does not stand like this in commit"):
            bundle(source)
    assert scores.asked == []


def test_a_plan_that_was_changed_meanwhile_is_refused(finished, bundle, scores, git, plans):
    source = finished()
    plan = plans / "cifar10_resnet20-quick-1-seed0.json"
    plan.write_text(plan.read_text().replace("A test.", "Another reason."))
    with pytest.raises(InvalidInput, match=r"does not stand like this in commit(.|\n)*leave it as it is"):
        bundle(source)
    assert scores.asked == []


def test_a_log_that_names_no_known_commit_proves_nothing(finished, bundle, scores):
    source = finished()
    start, *rest = read(source / "log.jsonl")
    for commit, error, said in ((None, InvalidInput, "names no commit"), ("f" * 40, Unavailable, "git does not know")):
        events = [start | {"commit": commit}, *rest]
        (source / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        with pytest.raises(error, match=said):
            bundle(source)
    assert scores.asked == []


def test_a_run_that_did_something_else_than_its_plan_is_refused(finished, bundle, scores):
    source = finished()
    start, *rest = read(source / "log.jsonl")
    other = {"network": NETWORK.name, "sha256": "0" * 64}
    for change, said in (
        ({"recipe": start["recipe"] | {"peak_lr": 0.7}}, "other peak_lr"),
        ({"initial": other}, "other initial weights"),
        ({"teachers": [other]}, "other teachers"),
    ):
        (source / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in (start | change, *rest)))
        with pytest.raises(InvalidInput, match=said):
            bundle(source)
    assert scores.asked == []


def test_a_plan_has_one_run(finished, bundle, scores, tmp_path):
    first = bundle(finished())
    (tmp_path / f"{NETWORK.name}-quick-seed0").rename(tmp_path / "first")
    second = finished()  # the same numbers again: others are put in their place
    sha256 = save_weights(second / "weights.safetensors", random_weights(NETWORK, seed=1))
    *events, end = read(second / "log.jsonl")
    log = [*events, end | {"sha256": sha256}]
    (second / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in log))
    with pytest.raises(InvalidInput, match=rf"had its run already: sha256 {first.sha256[:8]}, top-1 95\.00 %"):
        bundle(second)


def test_a_plan_written_afterwards_is_taken_where_that_is_said(finished, bundle, scores, plans):
    source = finished(plan={"written": "afterwards"})
    with pytest.raises(InvalidInput, match=r"written after the run(.|\n)*--afterwards"):
        bundle(source)
    entry = bundle(source, afterwards=True)
    assert (entry.plan, entry.runs_evaluated) == ("cifar10_resnet20-quick-1-seed0.json", None)
    assert [run["written"] for run in evaluated(plans)] == ["afterwards"]
    assert bundle(finished(seed=1)).runs_evaluated == 1  # of those planned before


def test_a_run_that_was_resumed_elsewhere_says_what_trained_which_part(finished, bundle, scores, tmp_path):
    source = finished(plan={"epochs": 3})
    start, epoch, end = read(source / "log.jsonl")
    start["recipe"]["epochs"] = 3
    there = start | {"versions": start["versions"] | {"torch": "9.9"}, "commit": "f" * 40}
    first, second, third = (epoch | {"epoch": number, "seconds": 10.0 * number} for number in (1, 2, 3))
    log = [start, first, second, there, start, there, third, end]
    (source / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in log))
    provenance = bundle(source).provenance
    assert provenance["versions"] == start["versions"]  # of most epochs
    assert [(part["epochs"], part["seconds"], part["versions"]["torch"]) for part in provenance["parts"]] == [
        (2, 30.0, start["versions"]["torch"]),
        (1, 30.0, "9.9"),
    ]
    assert provenance["commits"] == [start["commit"], "f" * 40]


def test_bundling_the_same_run_twice_keeps_its_files(finished, bundle, scores, tmp_path):
    folder, source = tmp_path / "weights", finished()
    assert bundle(source) == bundle(source)
    assert len(list(folder.iterdir())) == 4


def test_a_run_that_is_not_what_it_should_be_is_not_bundled(finished, bundle, scores, tmp_path, monkeypatch):
    folder, source = tmp_path / "weights", finished()
    log = source / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-1]))
    with pytest.raises(InvalidInput, match="not finished"):
        bundle(source)
    for wrong in (lines[:1] + lines[-1:], lines[:2] * 2 + lines[-1:], lines[1:]):
        log.write_text("".join(wrong))
        with pytest.raises(InvalidInput, match="each epoch of its recipe once"):
            bundle(source)
    other = finished(seed=1)
    (other / "weights.safetensors").write_bytes((source / "weights.safetensors").read_bytes())
    with pytest.raises(InvalidInput, match="not what its log speaks of"):
        bundle(other)
    monkeypatch.setattr(holdout, "HELD_OUT_IMAGES", 30)
    with pytest.raises(InvalidInput, match="held out"):
        bundle(finished(holdout=True))
    assert scores.asked == []
    assert not folder.exists()
