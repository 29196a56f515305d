"""What every exported file says of itself."""

import pytest

from cifar_export.formats import FORMATS
from cifar_export.formats.metadata import contradictions, describe
from cifar_export.networks.zoo import NETWORKS
from cifar_export.weights.seeded import random_weights

from support.planting import plant


@pytest.mark.parametrize("text", ["[0.4914,", "[" * 100_000], ids=["cut", "deep"])
def test_damaged_metadata_does_not_make_a_file_foreign(weights20, exported, tmp_path, text):
    def damage(model):
        next(entry for entry in model.metadata_props if entry.key == "mean").value = text

    file = plant(exported("onnx", "float32", 17).path, tmp_path / "damaged.onnx", damage)
    facts = FORMATS["onnx"].load().inspect(file)
    (problem,) = contradictions(facts.metadata, describe(weights20, "float32", checked=True))
    assert problem.startswith("metadata says mean: '[")
    assert len(problem) < 300


IDENTITY = {"model", "dataset", "labels", "mean", "std", "weights_sha256"}


def test_each_part_of_a_networks_identity_is_compared_and_nothing_else(weights20):
    """A file of another tool's version, or one that was not checked, is still an export of these weights."""
    ours = describe(weights20, "float32", checked=True)
    other = describe(random_weights(NETWORKS["cifar100_resnet32"], seed=1), "uint8", checked=False)
    other |= {"schema": 2, "tool": "another", "tool_version": "0", "mean": [0.5] * 3, "std": [0.25] * 3}
    assert all(ours[key] != other[key] for key in ours)
    named = {key: contradictions(ours | {key: other[key]}, ours) for key in ours}
    assert {key for key, problems in named.items() if problems} == IDENTITY
    for key in IDENTITY:
        assert [problem.partition(": ")[0] for problem in named[key]] == [f"metadata says {key}"]
        without = {name: value for name, value in ours.items() if name != key}
        assert len(contradictions(without, ours)) == 1
