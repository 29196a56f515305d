"""The list of networks: counted from the networks, equal to what is published."""

import json

from cifar_export.networks.zoo import DATASETS, NETWORKS
from cifar_export.weights.catalog import catalog
from cifar_export.weights.index import BundledEntry
from cifar_export.weights.sources import load_weights


def test_json_has_eight_rows_with_all_that_is_promised(run):
    rows = json.loads(run("models", "--json").stdout)
    assert [row["network"] for row in rows] == list(NETWORKS)
    for row in rows:
        assert row["classes"] == len(DATASETS[row["dataset"]].labels)
        assert len(row["normalization"]["mean"]) == len(row["normalization"]["std"]) == 3
        assert row["weights"] in ("bundled", "upstream")
        assert (row["top1"] is None) == (row["weights"] != "bundled")
        assert row["reference"] is None or row["reference"]["top1"] > 60


def test_the_table_has_a_row_for_each(run):
    lines = run("models").stdout.splitlines()
    assert sum("resnet" in line for line in lines) == len(NETWORKS)


def test_weights_below_the_reference_are_marked(run, monkeypatch):
    import cifar_export.weights.catalog

    spec = NETWORKS["cifar10_resnet20"]
    entry = BundledEntry(
        network=spec.name, model="resnet20", dataset="cifar10", file="cifar10_resnet20-00000000.safetensors",
        sha256="0" * 64, normalization=spec.dataset.normalization, recipe={}, seed=0,
        metrics={"top1": 91.2, "top5": 99.6}, below_reference=True,
    )  # fmt: skip
    monkeypatch.setattr(cifar_export.weights.catalog, "bundled_entries", lambda: {spec.name: entry})
    assert "91.20 / 99.60 (below reference)" in run("models").stdout
    assert "90.63–91.74" in run("models").stdout  # Wilson's 95 % of 9,120 in 10,000
    row = json.loads(run("models", "--json").stdout)[0]
    assert row["top1_interval"] == [90.63, 91.74]
    assert (row["plan"], row["runs_evaluated"]) == (None, None)
    assert (row["below_reference"], row["top1"], row["weights"]) == (True, 91.2, "bundled")


def test_the_normalization_listed_is_that_of_the_weights_a_command_would_use():
    rows = {row.spec.name: row for row in catalog()}
    for name, row in rows.items():
        if row.bundled:
            assert row.normalization == load_weights(NETWORKS[name]).normalization
        elif name.startswith("cifar100"):  # upstream's differs from the seed's
            assert row.normalization.std == (0.2673, 0.2564, 0.2761)
