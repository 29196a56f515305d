"""Accuracy in every runtime: they agree, and where they do not it is said of which image, and whether it matters."""

import copy
import dataclasses
import functools
import json
import subprocess
import sys

import jsonschema
import numpy as np
import pytest

from cifar_export.accuracy import agreement
from cifar_export.accuracy.agreement import SCHEMA, score_all
from cifar_export.accuracy.score import score
from cifar_export.data import Split, load_split
from cifar_export.errors import GateFailed
from cifar_export.exporting.artifact import export
from cifar_export.exporting.precision import quantized
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.gate.compare import bound
from cifar_export.gate.inputs import bundled_images
from cifar_export.gate.standard import simulated
from cifar_export.networks.preprocess import as_variant
from cifar_export.runtimes import RUNTIMES, spec_of
from cifar_export.runtimes.pytorch import Eager, Reference
from cifar_export.weights.core import build_network

from support.bad_runtimes import put_into_table
from support.schemas import checker

LABELS = np.arange(40) % 10


@pytest.fixture(scope="module")
def valid():
    return checker(f"agreement-{SCHEMA}")


@pytest.fixture
def split():
    return Split(bundled_images()[:40], LABELS)


@pytest.fixture(autouse=True)
def _exported_before_anything_is_patched(exported):
    """The export's own gate runs in the runtimes as they are."""
    exported("onnx", "float32", 17)


@pytest.fixture
def only(monkeypatch):
    """Let only these runtimes exist."""

    def choose(*names):
        monkeypatch.setattr(agreement, "RUNTIMES", {name: RUNTIMES[name] for name in names})

    return choose


@pytest.fixture
def stand_in(monkeypatch):
    """Let a class of tests/support/bad_runtimes.py be the runtime of that name."""
    return functools.partial(put_into_table, monkeypatch)


def test_all_runtimes_agree_on_fresh_exports(weights20, split, only, valid):
    only("pytorch", "torchscript", "openvino", "onnxruntime-cuda", "onnx-reference")
    result = score_all(weights20, split, variant="uint8", batch_size=16)
    rows = {row.runtime: row for row in result.runtimes}
    accuracies = {(row.evaluation.top1, row.evaluation.top5) for row in rows.values() if row.evaluation}
    assert (len(accuracies), result.disagreements, result.failures) == (1, (), [])
    assert {"pytorch", "torchscript"} <= {name for name, row in rows.items() if row.state == "ran"}
    assert all(row.reason for row in rows.values() if row.state == "not_run")
    assert (rows["onnx-reference"].state, rows["onnx-reference"].reason) == ("not_run", "too slow for a test set")
    valid(result.as_dict())


def test_the_figures_are_those_of_one_runtime_alone(weights20, exported, split, only):
    """In a process of its own a runtime is scored as `evaluate --runtime` scores it, batch by batch."""
    only("onnxruntime-cpu")
    file = exported("onnx", "float32", 17).path
    seen = []
    (row,) = score_all(
        weights20, split, file=file, batch_size=16, limit=39, progress=lambda name: lambda *at: seen.append((name, *at))
    ).runtimes
    alone = score(weights20, split, "onnxruntime-cpu", file=file, batch_size=16, limit=39)
    assert dataclasses.replace(row.evaluation, images_per_second=0) == dataclasses.replace(alone, images_per_second=0)
    assert np.array_equal(row.evaluation.predictions, alone.predictions)
    assert 0 < row.evaluation.images_per_second < 1e6
    assert seen == [("onnxruntime-cpu", done, 39) for done in (0, 16, 32, 39)]


def test_a_clear_disagreement_is_a_failure_that_names_image_and_classes(weights20, exported, split, only, stand_in):
    stand_in("onnxruntime-cpu", "Lies")
    only("pytorch", "onnxruntime-cpu")
    result = score_all(weights20, split, file=exported("onnx", "float32", 17).path, batch_size=16)
    first, second = result.disagreements
    assert ([first.index, second.index], first.label) == ([7, 33], 7)
    assert first.classes["onnxruntime-cpu"] != first.classes["pytorch"] == first.reference
    assert (first.verdict, first.margin > 1e-3) == ("failure", True)
    assert result.failures == ["float32 runtimes disagree on 2 clear images, the first is number 7"]


def test_an_image_that_float32_cannot_decide_is_a_tie(weights20, split, only, stand_in, valid, tmp_path):
    state = dict(weights20.state)
    for name, lift in (("fc.weight", 0.0), ("fc.bias", 100.0)):  # classes 3 and 5 are one, and always the best
        state[name] = state[name].clone()
        state[name][5] = state[name][3] = state[name][3] + lift
    undecided = dataclasses.replace(weights20, state=state)
    file = export(undecided, "onnx", choices=OnnxChoices(17), output=tmp_path / "a.onnx", checked=False).path
    stand_in("onnxruntime-cpu", "FavorsClass5")
    only("pytorch", "onnxruntime-cpu")
    result = score_all(undecided, split, file=file, limit=5)
    assert [(found.verdict, found.classes) for found in result.disagreements] == [
        ("tie", {"pytorch": 3, "onnxruntime-cpu": 5})
    ] * 5
    assert result.failures == []
    valid(result.as_dict())


def with_two_alike(weights, split, image, margin):
    """`weights` in which the best class on that image is ahead of another one by `margin` in float64, no more."""
    reference = logits_of(weights, split.images[image : image + 1])[0][0]
    best, other = int(reference.argmax()), int(reference.argmin())
    state = dict(weights.state)
    for name in ("fc.weight", "fc.bias"):
        state[name] = state[name].clone()
        state[name][other] = state[name][best]
    state["fc.bias"][other] -= margin
    return dataclasses.replace(weights, state=state)


def logits_of(weights, pixels):
    """In float64, and by PyTorch in float32."""
    images = as_variant(pixels, "float32", weights.normalization)
    network = build_network(weights)
    return Reference(copy.deepcopy(network).double()).logits(images), Eager(network, "cpu").logits(images)


@pytest.mark.parametrize(("bounds", "verdict"), [(1.5, "tie"), (2.5, "failure"), (10.0, "failure")])
def test_an_image_is_clear_where_its_margin_is_over_twice_the_bound(
    weights20, split, only, stand_in, monkeypatch, bounds, verdict
):
    exact, own = logits_of(weights20, split.images)
    allowed = bound(exact, [own]).allowed
    weights = with_two_alike(weights20, split, 11, bounds * allowed)
    stand_in("onnxruntime-cpu", "Lies")
    only("pytorch", "onnxruntime-cpu")
    monkeypatch.setenv("LIES_ON", "11")
    (found,) = score_all(weights, split).disagreements
    assert found.margin == pytest.approx(bounds * allowed, rel=0.1)
    assert (found.index, found.verdict) == (11, verdict)


def test_the_bound_is_that_of_many_images_not_of_the_disputed_one(weights20, split, only, stand_in, monkeypatch):
    """On one image float32 may be right by luck; the margin below would be clear then."""
    exact, own = logits_of(weights20, split.images)
    image = int(np.abs(own - exact).max(axis=1).argmin())
    alone, together = bound(exact[[image]], [own[[image]]]).allowed, bound(exact, [own]).allowed
    assert together > 1.5 * alone
    weights = with_two_alike(weights20, split, image, alone + together)
    stand_in("onnxruntime-cpu", "Lies")
    only("pytorch", "onnxruntime-cpu")
    monkeypatch.setenv("LIES_ON", str(image))
    (found,) = score_all(weights, split).disagreements
    assert 2 * alone < found.margin < 2 * together
    assert (found.index, found.verdict) == (image, "tie")


def test_reduced_precision_may_disagree(weights20, exported, split, only, stand_in, valid):
    stand_in("onnxruntime-cpu", "Lies", gated=False)
    only("pytorch", "onnxruntime-cpu")
    result = score_all(weights20, split, file=exported("onnx", "float32", 17).path)
    assert [found.verdict for found in result.disagreements] == ["reduced precision"] * 2
    assert result.failures == []
    valid(result.as_dict())


def test_runtimes_that_die_hang_or_raise_are_rows_and_the_others_run(weights20, exported, split, only, stand_in, valid):
    bad = ["Segfault", "Exit", "Hang", "Raise", "Objects", "Narrow"]
    for name in bad:
        stand_in(name, name, patience_s=1.0 if name == "Hang" else 120.0)
    only("pytorch", *bad, "onnxruntime-cpu")
    result = score_all(weights20, split, file=exported("onnx", "float32", 17).path, batch_size=16)
    rows = {row.runtime: row for row in result.runtimes}
    assert {name: row.state for name, row in rows.items()} == {
        "pytorch": "ran", **dict.fromkeys(bad, "failed"), "onnxruntime-cpu": "ran"
    }  # fmt: skip
    if sys.platform != "win32":
        assert rows["Segfault"].reason == "crashed: signal 11 (SIGSEGV)"
    assert rows["Exit"].reason == "crashed: exit code 3: the library gave up"
    assert rows["Hang"].reason == "no answer within 1 s"
    assert rows["Raise"].reason.startswith("crashed: RuntimeError: out of cheese, on a batch of 16 images. If the file")
    assert rows["Objects"].reason == "logits are object, not float32"
    assert rows["Narrow"].reason.startswith("logits have shape (40, 5) for 40 images")
    assert result.failures == [f"{name}: {rows[name].reason}" for name in bad]
    valid(result.as_dict())
    with pytest.raises(jsonschema.ValidationError):
        valid({**result.as_dict(), "passed": "no"})


def test_pytorch_that_raises_is_a_row_too(weights20, exported, split, only, monkeypatch, valid):
    def crash(self, images):
        raise RuntimeError("out of cheese\nand more")

    monkeypatch.setattr("cifar_export.runtimes.pytorch.Eager.logits", crash)
    only("pytorch", "onnxruntime-cpu")
    result = score_all(weights20, split, file=exported("onnx", "float32", 17).path)
    assert [row.state for row in result.runtimes] == ["failed", "ran"]
    assert [failure.partition(", on")[0] for failure in result.failures] == [
        "pytorch: crashed: RuntimeError: out of cheese"
    ]
    valid(result.as_dict())


def test_an_export_that_fails_is_a_row(weights20, split, only, monkeypatch):
    def fail(*args, **kwargs):
        raise GateFailed("the exporter gave up.")

    monkeypatch.setattr("cifar_export.exporting.subject.export", fail)
    only("pytorch", "torchscript")
    result = score_all(weights20, split)
    assert [(row.state, row.reason) for row in result.runtimes] == [("ran", None), ("failed", "the exporter gave up.")]


def test_an_interruption_ends_the_process_that_hangs(weights20, exported, split, only, stand_in, monkeypatch):
    """It would wait ten minutes otherwise."""
    stand_in("Hang", "Hang", patience_s=600.0)
    only("Hang")

    started = []

    class Noted(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)

    def interrupt(done, total):
        raise KeyboardInterrupt  # a signal would reach pytest's worker too, at a moment of its own

    with pytest.raises(KeyboardInterrupt):
        score_all(weights20, split, file=exported("onnx", "float32", 17).path, progress=lambda name: interrupt)
    assert started
    assert all(process.poll() is not None for process in started)


def test_a_file_of_other_weights_is_refused(weights20, exported, split):
    with pytest.raises(GateFailed, match="is no export of these weights: metadata says weights_sha256"):
        score_all(dataclasses.replace(weights20, sha256="0" * 64), split, file=exported("onnx", "float32", 17).path)


def test_json_table_and_exit_code(run, weights20_file, exported, split, only, stand_in, monkeypatch, valid):
    only("pytorch", "onnxruntime-cpu", "onnxruntime-cuda")
    monkeypatch.setattr("cifar_export.data.load_split", lambda *args: split)
    file = exported("onnx", "float32", 17).path
    command = ["evaluate", "resnet20", "--weights", weights20_file, "--file", file, "--all-runtimes"]
    clean = run(*command, "--json")
    document = json.loads(clean.stdout)
    valid(document)
    assert (clean.exit_code, document["passed"], document["disagreements"]) == (0, True, [])
    rows = {row["runtime"]: row for row in document["runtimes"]}
    assert rows["pytorch"]["top1"] == rows["onnxruntime-cpu"]["top1"]
    assert rows["onnxruntime-cpu"]["provider"] == "CPUExecutionProvider"

    stand_in("onnxruntime-cpu", "Lies")
    only("pytorch", "onnxruntime-cpu", "onnxruntime-cuda")
    wrong = run(*command)
    assert wrong.exit_code == 1
    assert "runtimes disagree on 2 images; --json has them all" in wrong.stderr
    assert "error: float32 runtimes disagree on 2 clear images, the first is number 7" in wrong.stderr
    document = json.loads(run(*command, "--json").stdout)
    valid(document)
    found = document["disagreements"][0]
    assert (found["index"], found["label"], found["verdict"]) == (7, 7, "failure")


@pytest.fixture(scope="module")
def reduced20(weights20):
    """The seeded network with int8 grids."""
    return quantized(weights20, bundled_images()[40:72])


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_a_reduced_file_has_the_rows_that_run_it(reduced20, split, only, valid, tmp_path, precision):
    only("pytorch", "torchscript", "onnxruntime-cpu", "openvino", "opencv", "onnxruntime-cuda")
    fresh = score_all(reduced20, split, precision=precision)
    file = export(
        reduced20, "onnx", choices=OnnxChoices(precision=precision), output=tmp_path / "a.onnx", checked=False
    ).path
    of_file = score_all(reduced20, split, file=file)
    for result in (fresh, of_file):
        assert result.precision == precision
        assert {"onnxruntime-cpu", "openvino"} <= {row.runtime for row in result.runtimes}
        assert not {"pytorch", "opencv"} & {row.runtime for row in result.runtimes}
        # a format of its own, which has float16 too
        assert ("torchscript" in {row.runtime for row in result.runtimes}) == (
            result is fresh and precision == "float16"
        )
        assert result.failures == []
        valid(result.as_dict())


@pytest.mark.parametrize(("units", "verdict"), [(0.0, "failure"), (1e6, "tie")])
def test_a_reduced_file_is_judged_by_its_own_simulation(reduced20, split, only, stand_in, monkeypatch, units, verdict):
    """An image is clear to a runtime if its margin is more than twice what that runtime may be off."""
    stand_in("onnxruntime-cpu", "Lies", int8_units=(units, units))
    only("onnxruntime-cpu", "openvino")
    monkeypatch.setenv("LIES_ON", "11")
    result = score_all(reduced20, split, precision="int8")
    lies = next(found for found in result.disagreements if found.index == 11)
    exact = Reference(simulated(reduced20, "int8").double())
    logits = exact.logits(as_variant(split.images[11:12], "float32", reduced20.normalization))[0]
    assert lies.reference == logits.argmax() != lies.classes["onnxruntime-cpu"]
    assert lies.margin == pytest.approx(np.diff(np.sort(logits)[-2:])[0])
    assert lies.verdict == verdict
    assert (result.failures == ["int8 runtimes disagree on 1 clear image, the first is number 11"]) is (
        verdict == "failure"
    )


def test_reduced_precision_has_a_table_too(run, split, only, stand_in, monkeypatch, valid):
    only("onnxruntime-cpu", "openvino")
    monkeypatch.setattr("cifar_export.data.load_split", lambda *args: split)
    command = ["evaluate", "resnet20", "--all-runtimes", "--precision", "int8"]
    clean = run(*command, "--json")
    assert clean.exit_code == 0, clean.stderr
    document = json.loads(clean.stdout)
    valid(document)
    assert (document["precision"], len(document["runtimes"])) == ("int8", 2)
    stand_in("onnxruntime-cpu", "Lies")
    only("onnxruntime-cpu", "openvino")
    wrong = run(*command)
    assert wrong.exit_code == 1
    assert "error: int8 runtimes disagree on " in wrong.stderr


def test_one_runtime_and_all_of_them_exclude_each_other(run):
    result = run("evaluate", "resnet20", "--runtime", "pytorch", "--all-runtimes")
    assert (result.exit_code, "Leave one of them out" in result.stderr) == (2, True)


@pytest.mark.data
def test_runtimes_agree_on_real_images_with_trained_weights(cifar_data):
    from cifar_export.networks.zoo import NETWORKS
    from cifar_export.weights.sources import load_weights

    weights = load_weights(NETWORKS["cifar100_resnet20"], "bundled")
    official = load_split(cifar_data, weights.network.dataset, "test")
    result = score_all(weights, official, variant="uint8", limit=300)
    assert result.failures == []
    float32 = [row for row in result.runtimes if row.evaluation and spec_of(row.runtime).gated]
    assert len({row.evaluation.top1 for row in float32}) == 1
