"""Accuracy in every runtime: they agree, and where they do not it is said of which image, and whether it matters."""

import copy
import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from cifar_export.accuracy import agreement
from cifar_export.accuracy.agreement import SCHEMA, score_all
from cifar_export.data import Split, load_split
from cifar_export.errors import GateFailed
from cifar_export.exporting import subject
from cifar_export.gate.compare import bound
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.preprocess import as_variant
from cifar_export.runtimes import RUNTIMES, Runtime, spec_of
from cifar_export.runtimes.pytorch import Eager, Reference
from cifar_export.weights.core import build_network

from support.schemas import checker

LABELS = np.arange(40) % 10


@pytest.fixture(scope="module")
def valid():
    return checker(f"agreement-{SCHEMA}")


@pytest.fixture
def split():
    return Split(bundled_images()[:40], LABELS)


@pytest.fixture
def only(monkeypatch):
    """Let only these runtimes exist."""

    def choose(*names):
        monkeypatch.setattr(agreement, "RUNTIMES", {name: RUNTIMES[name] for name in names})

    return choose


@pytest.fixture
def meddle(monkeypatch):
    """Let the logits of one runtime pass through a function (logits, number of the first image) -> logits."""
    honest = subject.open_runtime

    def arrange(name, function):
        class Meddler(Runtime):
            def __init__(self, runtime):
                self.runtime, self.name, self.provider, self.at = runtime, runtime.name, runtime.provider, 0

            def logits(self, images):
                start, self.at = self.at, self.at + len(images)
                return function(self.runtime.logits(images).copy(), start)

        def open_runtime(asked, subject):
            runtime = honest(asked, subject)
            return Meddler(runtime) if asked == name else runtime

        monkeypatch.setattr(subject, "open_runtime", open_runtime)
        monkeypatch.setattr(agreement, "open_runtime", open_runtime)

    return arrange


def lie_about(*images):
    """Name the second best class for these images."""

    def change(logits, start):
        for image in images:
            if start <= image < start + len(logits):
                row = logits[image - start]
                second, best = np.argsort(row)[-2:]
                row[[second, best]] = row[[best, second]]
        return logits

    return change


def test_all_runtimes_agree_on_fresh_exports(weights20, split, only, valid):
    only("pytorch", "torchscript", "openvino", "onnxruntime-cuda")
    result = score_all(weights20, split, variant="uint8", batch_size=16)
    rows = {row.runtime: row for row in result.runtimes}
    accuracies = {(row.evaluation.top1, row.evaluation.top5) for row in rows.values() if row.evaluation}
    assert (len(accuracies), result.disagreements, result.failures) == (1, (), [])
    assert {"pytorch", "torchscript"} <= {name for name, row in rows.items() if row.evaluation}
    absent = [row for row in rows.values() if row.evaluation is None]
    assert all(row.reason.startswith("not run: ") and not row.failed for row in absent)
    valid(result.as_dict())


def test_a_clear_disagreement_is_a_failure_that_names_image_and_classes(weights20, exported, split, only, meddle):
    only("pytorch", "torchscript", "onnxruntime-cpu")
    meddle("onnxruntime-cpu", lie_about(7, 33))
    result = score_all(weights20, split, file=exported("onnx", "float32", 17).path, batch_size=16)
    first, second = result.disagreements
    assert ([first.index, second.index], first.label) == ([7, 33], 7)
    assert first.classes["onnxruntime-cpu"] != first.classes["pytorch"] == first.reference
    assert (first.verdict, first.margin > 1e-3) == ("failure", True)
    assert result.failures == ["float32 runtimes disagree on 2 clear images, the first is number 7"]


def test_an_image_that_float32_cannot_decide_is_a_tie(weights20, split, only, meddle, valid):
    state = dict(weights20.state)
    for name, lift in (("fc.weight", 0.0), ("fc.bias", 100.0)):  # classes 3 and 5 are one, and always the best
        state[name] = state[name].clone()
        state[name][5] = state[name][3] = state[name][3] + lift
    only("pytorch", "torchscript")
    favor = np.float32(1e-5) * (np.arange(10) == 5)
    meddle("torchscript", lambda logits, start: logits + favor)
    result = score_all(replace(weights20, state=state), split, limit=5)
    assert [(found.verdict, found.classes) for found in result.disagreements] == [
        ("tie", {"pytorch": 3, "torchscript": 5})
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
    return replace(weights, state=state)


def logits_of(weights, pixels):
    """In float64, and by PyTorch in float32."""
    images = as_variant(pixels, "float32", weights.normalization)
    network = build_network(weights)
    return Reference(copy.deepcopy(network).double()).logits(images), Eager(network, "cpu").logits(images)


@pytest.mark.parametrize(("bounds", "verdict"), [(1.5, "tie"), (2.5, "failure"), (10.0, "failure")])
def test_an_image_is_clear_where_its_margin_is_over_twice_the_bound(weights20, split, only, meddle, bounds, verdict):
    exact, own = logits_of(weights20, split.images)
    allowed = bound(exact, [own]).allowed
    weights = with_two_alike(weights20, split, 11, bounds * allowed)
    only("pytorch", "torchscript")
    meddle("torchscript", lie_about(11))
    (found,) = score_all(weights, split).disagreements
    assert found.margin == pytest.approx(bounds * allowed, rel=0.1)
    assert (found.index, found.verdict) == (11, verdict)


def test_the_bound_is_that_of_many_images_not_of_the_disputed_one(weights20, split, only, meddle):
    """On one image float32 may be right by luck; the margin below would be clear then."""
    exact, own = logits_of(weights20, split.images)
    image = int(np.abs(own - exact).max(axis=1).argmin())
    alone, together = bound(exact[[image]], [own[[image]]]).allowed, bound(exact, [own]).allowed
    assert together > 1.5 * alone
    weights = with_two_alike(weights20, split, image, alone + together)
    only("pytorch", "torchscript")
    meddle("torchscript", lie_about(image))
    (found,) = score_all(weights, split).disagreements
    assert 2 * alone < found.margin < 2 * together
    assert (found.index, found.verdict) == (image, "tie")


def test_reduced_precision_may_disagree(weights20, split, only, meddle, monkeypatch, valid):
    only("pytorch", "torchscript")
    monkeypatch.setitem(RUNTIMES, "torchscript", replace(RUNTIMES["torchscript"], gated=False))
    meddle("torchscript", lie_about(2))
    result = score_all(weights20, split)
    assert [found.verdict for found in result.disagreements] == ["reduced precision"]
    assert result.failures == []
    valid(result.as_dict())


def test_a_runtime_that_crashes_is_a_row_and_a_failure(weights20, split, only, meddle, valid):
    def crash(logits, start):
        raise RuntimeError("out of cheese\nand more")

    only("pytorch", "torchscript")
    meddle("torchscript", crash)
    result = score_all(weights20, split)
    assert result.runtimes[0].evaluation.images == 40
    (failure,) = result.failures
    assert failure.startswith("torchscript: ")
    assert "out of cheese" in failure
    assert "\n" not in failure
    valid(result.as_dict())
    with pytest.raises(jsonschema.ValidationError):
        valid({**result.as_dict(), "passed": "no"})


def test_a_file_of_other_weights_is_refused(weights20, exported, split):
    with pytest.raises(GateFailed, match="is no export of these weights: metadata says weights_sha256"):
        score_all(replace(weights20, sha256="0" * 64), split, file=exported("onnx", "float32", 17).path)


def test_json_table_and_exit_code(run, weights20_file, exported, split, only, meddle, monkeypatch, valid):
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

    meddle("onnxruntime-cpu", lie_about(4))
    wrong = run(*command)
    assert wrong.exit_code == 1
    assert "Images on which runtimes disagree" in wrong.stdout
    assert "error: float32 runtimes disagree on 1 clear image, the first is number 4" in wrong.stderr
    document = json.loads(run(*command, "--json").stdout)
    valid(document)
    found = document["disagreements"][0]
    assert (found["index"], found["label"], found["verdict"]) == (4, 4, "failure")


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
