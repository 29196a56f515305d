"""The plain data of the networks: what a swapped label or a mistyped number would spoil without an error."""

from __future__ import annotations

from cifar_export.networks.zoo import CIFAR10, CIFAR100, NETWORKS, UPSTREAM_NORMALIZATION


def test_labels_stand_in_the_order_of_the_official_files() -> None:
    """`batches.meta.txt` of CIFAR-10, and `fine_label_names.txt` of CIFAR-100, which is sorted."""
    official = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    assert list(CIFAR10.labels) == official
    assert list(CIFAR100.labels) == sorted(CIFAR100.labels)
    assert len(set(CIFAR100.labels)) == 100
    some = [CIFAR100.labels[index] for index in (0, 1, 23, 49, 71, 99)]
    assert some == ["apple", "aquarium_fish", "cloud", "mountain", "sea", "worm"]


def test_normalizations_are_the_published_ones() -> None:
    """Those of the recipe that the published weights were trained with; for CIFAR-100 two are about."""
    assert CIFAR10.normalization.as_dict() == {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]}
    assert CIFAR100.normalization.as_dict() == {"mean": [0.5071, 0.4865, 0.4409], "std": [0.2009, 0.1984, 0.2023]}
    assert UPSTREAM_NORMALIZATION["cifar10"] == CIFAR10.normalization
    assert UPSTREAM_NORMALIZATION["cifar100"].as_dict() == {
        "mean": [0.5070, 0.4865, 0.4409],
        "std": [0.2673, 0.2564, 0.2761],
    }


def test_the_accuracy_to_reach_is_the_published_one() -> None:
    """The table of chenyaofo/CIFAR-pretrained-models."""
    assert {name: (spec.reference.top1, spec.reference.top5) for name, spec in NETWORKS.items()} == {
        "cifar10_resnet20": (91.65, 99.68),
        "cifar10_resnet32": (92.81, 99.72),
        "cifar10_resnet44": (93.24, 99.75),
        "cifar10_resnet56": (93.69, 99.68),
        "cifar100_resnet20": (66.61, 89.95),
        "cifar100_resnet32": (68.74, 90.23),
        "cifar100_resnet44": (69.49, 90.39),
        "cifar100_resnet56": (70.79, 91.10),
    }
