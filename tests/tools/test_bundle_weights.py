"""Finished runs go into the package with honest figures."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from cifar_export.accuracy.evaluation import Evaluation
from cifar_export.data import Split
from cifar_export.errors import GateFailed, InvalidInput
from cifar_export.networks.zoo import NETWORKS
from cifar_export.system.files import sha256_file
from cifar_export.training import holdout, run
from cifar_export.training.log import read
from cifar_export.training.recipe import DISTILL, QUICK
from cifar_export.weights.index import bundled_entries
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights
from tools import bundle_weights

NETWORK = NETWORKS["cifar10_resnet20"]


@pytest.fixture
def finished(tmp_path, write_cifar, monkeypatch):
    """Train for a moment on a tiny data set; bundling then sees 20 images of noise as the test set."""
    dataset = write_cifar(tmp_path / "data", NETWORK.dataset, train=70, test=20)
    rng = np.random.default_rng(0)
    test = Split(rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), np.arange(20) % 10)
    monkeypatch.setattr(bundle_weights, "load_split", lambda *asked: test)

    def train(**change) -> Path:
        options = run.Options(
            network=replace(NETWORK, dataset=dataset),
            recipe=replace(QUICK, epochs=1, batch_size=32),
            data_dir=tmp_path / "data",
            device="cpu",
        )
        options = replace(options, **change)
        options = replace(options, output=tmp_path / options.folder.name)
        run.train(options)
        return options.folder

    return train


@pytest.fixture
def scores(monkeypatch):
    """Accuracies by decree: one real evaluation is enough for this page."""
    asked = []

    def score(weights, split, runtime):
        asked.append(runtime)
        return Evaluation(runtime, "", "float32", scores.top1, 99.0, 20, 1.0, np.zeros(20, np.int64))

    scores = SimpleNamespace(asked=asked, top1=50.0)
    monkeypatch.setattr(bundle_weights, "score", score)
    return scores


def test_a_bundled_run_can_be_loaded_and_says_what_it_is(finished, tmp_path):
    folder = tmp_path / "weights"
    source = finished()
    entry = bundle_weights.bundle(source, tmp_path, folder)
    assert bundled_entries(folder) == {NETWORK.name: entry}
    assert entry.file == f"cifar10_resnet20-{entry.sha256[:8]}.safetensors"
    assert sha256_file(folder / entry.file) == entry.sha256 == sha256_file(source / "weights.safetensors")
    assert load_weights(NETWORK, str(folder / entry.file)).normalization == entry.normalization
    assert entry.metrics["images"] == 20
    assert entry.metrics["top1"] == entry.metrics["pytorch_top1"]
    assert entry.below_reference
    start = read(source / "log.jsonl")[0]
    assert not {"initial", "teachers", "earlier_runs", "parts"} & set(entry.provenance)
    assert entry.recipe == start["recipe"]
    assert entry.provenance["hardware"] == start["hardware"]
    assert entry.provenance["seconds"] > 0
    assert (folder / entry.provenance["log"]).read_bytes() == (source / "log.jsonl").read_bytes()
    curve = (folder / entry.file).with_suffix(".png")
    assert curve.read_bytes() == (source / "curve.png").read_bytes()


def test_weights_that_a_run_started_from_are_named(finished, scores, tmp_path):
    initial = random_weights(NETWORK, seed=1)
    entry = bundle_weights.bundle(finished(initial=initial), tmp_path, tmp_path / "weights")
    assert entry.provenance["initial"] == {"network": NETWORK.name, "sha256": initial.sha256}


def test_the_runs_that_made_the_initial_weights_are_listed(finished, scores, tmp_path):
    folder, entries = tmp_path / "weights", []
    for seed in range(3):
        initial = load_weights(NETWORK, str(folder / entries[-1].file)) if entries else None
        entries.append(bundle_weights.bundle(finished(seed=seed, initial=initial), tmp_path, folder))
    assert "earlier_runs" not in entries[0].provenance
    earlier = entries[2].provenance["earlier_runs"]
    assert [(run["seed"], run["sha256"], run["epochs"]) for run in earlier] == [
        (entry.seed, entry.sha256, 1) for entry in entries[:2]
    ]
    assert earlier[1]["seconds"] == entries[1].provenance["seconds"]
    assert [run["prune"] for run in earlier] == [QUICK.prune] * 2
    again = bundle_weights.bundle(tmp_path / f"{NETWORK.name}-quick-seed2", tmp_path, folder)
    assert again.provenance["earlier_runs"] == earlier


def test_the_earlier_runs_of_weights_that_were_replaced_meanwhile_are_known(finished, scores, tmp_path):
    folder = tmp_path / "weights"
    first = bundle_weights.bundle(finished(), tmp_path, folder)
    initial = load_weights(NETWORK, str(folder / first.file))
    bundle_weights.bundle(finished(seed=1, initial=initial), tmp_path, folder)
    sibling = bundle_weights.bundle(finished(seed=2, initial=initial), tmp_path, folder)
    assert [run["sha256"] for run in sibling.provenance["earlier_runs"]] == [first.sha256]


def test_initial_weights_that_nobody_knows_are_remarked_on(finished, scores, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_weights.bundle, "__defaults__", (tmp_path / "weights",))
    source = finished(initial=random_weights(NETWORK, seed=1))
    result = CliRunner().invoke(bundle_weights.main, [str(source), "--data-dir", str(tmp_path)])
    assert result.exit_code == 0
    assert "not of the index" in result.stderr


def test_teachers_are_named(finished, scores, tmp_path):
    teachers = tuple(random_weights(NETWORKS[f"cifar10_{model}"], seed=1) for model in ("resnet20", "resnet32"))
    source = finished(recipe=replace(DISTILL, epochs=1, batch_size=32), teachers=teachers)
    provenance = bundle_weights.bundle(source, tmp_path, tmp_path / "weights").provenance
    assert provenance["teachers"] == [{"network": one.network.name, "sha256": one.sha256} for one in teachers]


def test_a_better_run_replaces_the_files_of_the_old_one(finished, scores, tmp_path):
    folder = tmp_path / "weights"
    bundle_weights.bundle(finished(), tmp_path, folder)
    entry = bundle_weights.bundle(finished(seed=1), tmp_path, folder)
    names = [entry.file, *(entry.file.replace("safetensors", suffix) for suffix in ("jsonl", "png")), "index.json"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert bundled_entries(folder)[NETWORK.name].seed == 1


def test_a_worse_run_replaces_nothing_unless_told(finished, scores, tmp_path):
    folder = tmp_path / "weights"
    better = bundle_weights.bundle(finished(), tmp_path, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    scores.top1 = 49.9
    worse = finished(seed=1)
    with pytest.raises(GateFailed, match=r"49\.90 %, less than the 50\.00 %(.|\n)*--replace"):
        bundle_weights.bundle(worse, tmp_path, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    entry = bundle_weights.bundle(worse, tmp_path, folder, replace=True)
    assert bundled_entries(folder)[NETWORK.name] == entry != better


def test_a_run_that_was_resumed_elsewhere_says_what_trained_which_part(finished, scores, tmp_path):
    source = finished()
    start, epoch, end = read(source / "log.jsonl")
    start["recipe"]["epochs"] = 3
    there = start | {"versions": start["versions"] | {"torch": "9.9"}, "commit": "f" * 40}
    first, second, third = (epoch | {"epoch": number, "seconds": 10.0 * number} for number in (1, 2, 3))
    log = [start, first, second, there, start, there, third, end]
    (source / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in log))
    provenance = bundle_weights.bundle(source, tmp_path, tmp_path / "weights").provenance
    assert provenance["versions"] == start["versions"]  # of most epochs
    assert [(part["epochs"], part["seconds"], part["versions"]["torch"]) for part in provenance["parts"]] == [
        (2, 30.0, start["versions"]["torch"]),
        (1, 30.0, "9.9"),
    ]
    assert provenance["commits"] == [start["commit"], "f" * 40]


def test_bundling_the_same_run_twice_keeps_its_files(finished, scores, tmp_path):
    folder, source = tmp_path / "weights", finished()
    assert bundle_weights.bundle(source, tmp_path, folder) == bundle_weights.bundle(source, tmp_path, folder)
    assert len(list(folder.iterdir())) == 4


def test_a_run_that_is_not_what_it_should_be_is_not_bundled(finished, scores, tmp_path, monkeypatch):
    folder, source = tmp_path / "weights", finished()
    log = source / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-1]))
    with pytest.raises(InvalidInput, match="not finished"):
        bundle_weights.bundle(source, tmp_path, folder)
    for wrong in (lines[:1] + lines[-1:], lines[:2] * 2 + lines[-1:], lines[1:]):
        log.write_text("".join(wrong))
        with pytest.raises(InvalidInput, match="each epoch of its recipe once"):
            bundle_weights.bundle(source, tmp_path, folder)
    other = finished(seed=1)
    (other / "weights.safetensors").write_bytes((source / "weights.safetensors").read_bytes())
    with pytest.raises(InvalidInput, match="not what its log speaks of"):
        bundle_weights.bundle(other, tmp_path, folder)
    monkeypatch.setattr(holdout, "HELD_OUT_IMAGES", 30)
    with pytest.raises(InvalidInput, match="held out"):
        bundle_weights.bundle(finished(holdout=True), tmp_path, folder)
    assert scores.asked == []
    assert not folder.exists()


@pytest.mark.parametrize(("top1", "below"), [(91.64, True), (91.65, False)])
def test_weights_below_the_published_accuracy_say_so(finished, scores, tmp_path, top1, below):
    scores.top1 = top1
    assert bundle_weights.bundle(finished(), tmp_path, tmp_path / "weights").below_reference is below
    assert scores.asked == ["onnxruntime-cpu", "pytorch"]
