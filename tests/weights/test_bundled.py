"""The bundled weights reach what their index says."""

import json

import pytest

from cifar_export.weights.index import bundled_entries

# the deeper ones take minutes, and `package` refuses each whose file does not reach its figures to the image
_NAMES = [n if n.endswith("resnet20") else pytest.param(n, marks=pytest.mark.slow) for n in sorted(bundled_entries())]


@pytest.mark.data
@pytest.mark.parametrize("name", _NAMES)
def test_bundled_weights_reach_the_figures_of_their_index(run, cifar_data, name):
    entry = bundled_entries()[name]
    options = ["--dataset", entry.dataset, "--data-dir", cifar_data, "--json"]
    document = json.loads(run("evaluate", entry.model, *options).stdout)
    assert (document["top1"], document["top5"]) == (entry.metrics["top1"], entry.metrics["top5"])
    assert document["images"] == 10_000
