"""What every exported file says of itself."""

import pytest

from cifar_export.formats import FORMATS
from cifar_export.formats.metadata import contradictions, describe

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
