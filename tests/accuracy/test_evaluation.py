"""Accuracy: the same images right in every runtime, and figures that published weights are known to reach."""

import json

import numpy as np
import onnx
import pytest

from cifar_export.accuracy.evaluation import evaluate
from cifar_export.accuracy.score import score
from cifar_export.data import Split, load_split
from cifar_export.errors import GateFailed
from cifar_export.networks.zoo import CIFAR10

IDENTITY = CIFAR10.normalization


class Fixed:
    """A runtime that returns given logits, batch after batch."""

    name, provider = "fixed", "test"

    def __init__(self, logits):
        self.rest = np.asarray(logits, dtype=np.float32)

    def logits(self, images):
        now, self.rest = self.rest[: len(images)], self.rest[len(images) :]
        return now


def split_of(labels) -> Split:
    return Split(np.zeros((len(labels), 32, 32, 3), np.uint8), np.asarray(labels, np.int64))


def test_top1_and_top5_count_what_they_say():
    logits = np.zeros((4, 10))
    logits[0, 3] = 1  # right
    logits[1, [1, 2, 4, 5, 3]] = [5, 4, 3, 2, 1]  # right among five
    logits[2, [1, 2, 4, 5, 6, 3]] = [6, 5, 4, 3, 2, 1]  # wrong: 3 is the sixth
    logits[3, 3] = -1  # wrong
    result = evaluate(Fixed(logits), split_of([3, 3, 3, 3]), IDENTITY, batch_size=3)
    assert (result.top1, result.top5, result.images) == (25.0, 50.0, 4)
    assert result.predictions.tolist() == [3, 1, 1, 0]


def test_limit_takes_the_first_images():
    result = evaluate(Fixed(np.eye(10)), split_of(range(10)), IDENTITY, limit=7, batch_size=4)
    assert (result.images, result.top1) == (7, 100.0)


def test_progress_reaches_the_end():
    seen = []
    evaluate(Fixed(np.eye(10)), split_of(range(10)), IDENTITY, batch_size=4, progress=lambda *at: seen.append(at))
    assert seen == [(4, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize(
    ("logits", "said"), [(np.full((2, 10), np.nan), "NaN"), (np.zeros((2, 5)), "another data set")]
)
def test_broken_logits_are_no_accuracy(logits, said):
    with pytest.raises(GateFailed, match=said):
        evaluate(Fixed(logits), split_of([9, 9]), IDENTITY)


def test_logits_for_more_classes_than_the_data_set_has_are_of_another_one():
    with pytest.raises(GateFailed, match=r"\(2, 100\) for 2 images with 10 classes"):
        evaluate(Fixed(np.zeros((2, 100))), split_of([1, 2]), IDENTITY, classes=10)


def test_a_foreign_file_with_a_fixed_batch_is_fed_in_its_size(weights20, exported, tmp_path):
    model = onnx.load(exported("onnx", "float32", 17).path)
    del model.metadata_props[:]
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    file = tmp_path / "fixed batch.onnx"
    onnx.save(model, file)
    split = split_of([1, 2, 3])
    for batch_size in (1, 2):
        assert score(weights20, split, "onnxruntime-cpu", file=file, batch_size=batch_size).images == 3


def test_a_file_of_other_weights_is_refused(run, exported, tmp_path, cifar_data):
    from cifar_export.networks.zoo import NETWORKS
    from cifar_export.weights.native import save_weights
    from cifar_export.weights.seeded import random_weights

    other = tmp_path / "other.safetensors"
    save_weights(other, random_weights(NETWORKS["cifar10_resnet20"], seed=9))
    file = exported("onnx", "float32", 17).path
    result = run("evaluate", "resnet20", "--weights", other, "--file", file, "--data-dir", cifar_data)
    assert result.exit_code == 1
    assert "is no export of these weights: metadata says weights_sha256" in result.stderr


THIRD_PARTY = [
    # model, data set, checkpoint, options, top-1, top-5: measured by others' code on the 10,000 test images
    ("resnet20", "cifar10", "resnet20-12fca82f.th",
     ["--mean", ".485,.456,.406", "--std", ".229,.224,.225"], 91.73, 99.66),
    ("resnet56", "cifar100", "cifar100_resnet56-f2eff4c8.pt",
     ["--mean", ".5070,.4865,.4409", "--std", ".2673,.2564,.2761"], 72.63, 91.94),
]  # fmt: skip


def third_party(cifar_data, file):
    path = cifar_data / "checkpoints" / file
    if not path.is_file():
        pytest.skip(f"needs the third-party checkpoint {file} in $CIFAR_DATA/checkpoints")
    return path


@pytest.mark.data
@pytest.mark.parametrize(
    ("model", "dataset", "file", "options", "top1", "top5"),
    [THIRD_PARTY[0], pytest.param(*THIRD_PARTY[1], marks=pytest.mark.slow)],
)
def test_third_party_weights_reach_their_known_accuracy(run, cifar_data, model, dataset, file, options, top1, top5):
    path = third_party(cifar_data, file)
    command = ["evaluate", model, "--dataset", dataset, "--weights", path, *options, "--data-dir", cifar_data, "--json"]
    document = json.loads(run(*command, "--runtime", "onnxruntime-cpu").stdout)
    assert document["provider"] == "CPUExecutionProvider"
    assert abs(document["top1"] - top1) <= 0.02
    assert abs(document["top5"] - top5) <= 0.02
    assert document["images"] == 10_000


def predictions_everywhere(cifar_data, row, limit):
    """Predicted classes by (runtime, input variant), PyTorch first."""
    from cifar_export.accuracy.score import score
    from cifar_export.networks.normalization import parse_normalization
    from cifar_export.networks.zoo import network
    from cifar_export.weights.sources import load_weights

    model, dataset, file, options, *_ = row
    spec = network(model, dataset)
    weights = load_weights(spec, str(third_party(cifar_data, file)), parse_normalization(options[1], options[3]))
    split = load_split(cifar_data, spec.dataset, "test")
    return {
        (runtime, variant): score(weights, split, runtime, variant=variant, limit=limit).predictions
        for runtime in ("pytorch", "onnxruntime-cpu", "torchscript", "torch-export")
        for variant in ("float32", "uint8")
    }


@pytest.mark.data
def test_the_same_images_are_right_in_every_format(cifar_data):
    found = predictions_everywhere(cifar_data, THIRD_PARTY[0], limit=300)
    for where, predictions in found.items():
        assert np.array_equal(predictions, found["pytorch", "float32"]), where


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("row", THIRD_PARTY, ids=lambda row: row[2])
def test_the_same_images_are_right_in_every_format_on_the_whole_test_set(cifar_data, row):
    found = predictions_everywhere(cifar_data, row, limit=None)
    for where, predictions in found.items():
        assert np.array_equal(predictions, found["pytorch", "float32"]), where
