"""The plain data of the networks: what a swapped label or a mistyped number would spoil without an error."""

from __future__ import annotations

import pytest

from cifar_export.errors import InvalidInput
from cifar_export.networks.zoo import (
    CIFAR10,
    CIFAR100,
    NETWORKS,
    UPSTREAM_NORMALIZATION,
    find_network,
    in_order,
    model,
    named,
    network,
    parts_of,
)


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
    published = {name: spec.reference for name, spec in NETWORKS.items() if spec.reference}
    eight = {
        "cifar10_resnet20": (91.65, 99.68),
        "cifar10_resnet32": (92.81, 99.72),
        "cifar10_resnet44": (93.24, 99.75),
        "cifar10_resnet56": (93.69, 99.68),
        "cifar100_resnet20": (66.61, 89.95),
        "cifar100_resnet32": (68.74, 90.23),
        "cifar100_resnet44": (69.49, 90.39),
        "cifar100_resnet56": (70.79, 91.10),
    }
    assert {name: (published[name].top1, published[name].top5) for name in eight} == eight


@pytest.mark.parametrize(("name", "blocks"), [("resnet8", 1), ("resnet14", 2), ("resnet110", 18), ("resnet1202", 200)])
def test_any_depth_of_the_family_is_a_network_without_published_figures(name: str, blocks: int) -> None:
    assert (model(name).blocks_per_stage, model(name).depth) == (blocks, int(name[6:]))
    spec = network(name, "cifar100")
    assert spec.name == f"cifar100_{name}"
    assert named(spec.name) == spec
    assert (spec.reference, spec.upstream_sha256, spec.upstream_file) == (None, None, None)


def test_the_eight_are_found_with_what_is_published() -> None:
    assert all(
        named(name) is spec and network(spec.model.name, spec.dataset.name) is spec for name, spec in NETWORKS.items()
    )


@pytest.mark.parametrize(
    "name",
    ["resnet", "resnet2", "resnet18", "resnet21", "resnet020", "resnet-4", "resnet2006", "resnet٢٠", "ResNet20", ""],
)
def test_names_of_no_model(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"Known: resnet20, .*any resnetN with N = 6n \+ 2"):
        model(name)
    assert find_network(f"cifar10_{name}") is None
    with pytest.raises(InvalidInput, match="there is no network"):
        named(f"cifar10_{name}")


def test_the_order_is_by_data_set_and_then_by_depth() -> None:
    names = ["cifar100_resnet8", "cifar10_resnet110", "cifar10_resnet20", "other", "cifar10_resnet110"]
    assert in_order(names) == ["cifar10_resnet20", "cifar10_resnet110", "cifar100_resnet8"]
    assert in_order(NETWORKS) == list(NETWORKS)
    own = ["zoo_resnet8", "my_own-2_resnet110", "my_own-2_resnet20"]
    assert in_order([*own, *names]) == [*in_order(names), "my_own-2_resnet20", "my_own-2_resnet110", "zoo_resnet8"]


@pytest.mark.parametrize(
    "name", ["_resnet8", "-a_resnet8", "a/b_resnet8", "ä_resnet8", "a_resnet9", f"{'a' * 93}_resnet8"]
)
def test_what_no_folder_of_a_network_is_called(name: str) -> None:
    assert parts_of(name) is None
