"""The networks as plain data: eight with what has been published about each, and any other depth of their family.

Nothing here imports torch, so that listing, parsing and help stay instant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InvalidInput

InputVariant = Literal["float32", "uint8", "unit"]
INPUT_VARIANTS: tuple[InputVariant, ...] = ("float32", "uint8", "unit")
RELEASED_VARIANTS: tuple[InputVariant, ...] = ("float32", "uint8")
IMAGE_SIZE = 32
STAGE_WIDTHS = (16, 32, 64)


@dataclass(frozen=True)
class Normalization:
    """Per-channel mean and standard deviation (R, G, B) of pixel values scaled to 0..1; `(x / 255 - mean) / std`.

    It belongs to the weights, not to the data set: published CIFAR weights disagree about it.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def as_dict(self) -> dict[str, list[float]]:
        """`{"mean": [r, g, b], "std": [r, g, b]}`, as stored in JSON and in file metadata."""
        return {"mean": list(self.mean), "std": list(self.std)}


@dataclass(frozen=True)
class Accuracy:
    """Top-1 and top-5 accuracy in percent on the 10,000 test images."""

    top1: float
    top5: float


@dataclass(frozen=True)
class DatasetSpec:
    """A data set: its labels in index order, and the normalization that the seed's recipe trains with.

    `folder`: where a data set of one's own lies; None for CIFAR, which is looked for in the folder of data sets.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    normalization: Normalization
    train_images: int = 50_000
    test_images: int = 10_000
    folder: Path | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.labels)


@dataclass(frozen=True)
class ModelSpec:
    """A CIFAR ResNet of depth 6n + 2 (He et al. 2016, section 4.2), n basic blocks in each of three stages."""

    name: str
    blocks_per_stage: int

    @property
    def depth(self) -> int:
        """Number of weighted layers on the main path."""
        return 6 * self.blocks_per_stage + 2


@dataclass(frozen=True)
class NetworkSpec:
    """A model on a data set, with published figures where there are any.

    `reference` is the accuracy that chenyaofo/CIFAR-pretrained-models publishes, the bar for our own weights.
    `upstream_sha256` is the sha256 of the file that chenyaofo/pytorch-cifar-models releases: all 64 hex digits
    where we have seen the file, else the first eight, which its name carries. Both are None for other depths.
    """

    model: ModelSpec
    dataset: DatasetSpec
    reference: Accuracy | None = None
    upstream_sha256: str | None = None

    @property
    def name(self) -> str:
        """`cifar10_resnet20` and so on: the name of exported files and of torch.hub entry points."""
        return f"{self.dataset.name}_{self.model.name}"

    @property
    def upstream_file(self) -> str | None:
        """Name of the upstream release file; None where there is none."""
        return f"{self.name}-{self.upstream_sha256[:8]}.pt" if self.upstream_sha256 else None


CIFAR10 = DatasetSpec(
    name="cifar10",
    title="CIFAR-10",
    labels=tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
    normalization=Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
)

CIFAR100 = DatasetSpec(
    name="cifar100",
    title="CIFAR-100",
    labels=tuple(
        """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
        castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
        elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
        man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
        pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
        skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
        tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
        """.split()
    ),
    normalization=Normalization((0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023)),
)

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in (CIFAR10, CIFAR100)}

DEEPEST = 2000
"""He et al. went to 1202; what is deeper than this is a slip of the keyboard."""
LONGEST_NAME = 100
"""Characters of a network's name: what archives hold and all file systems take, with what follows it."""
DEPTHS = f"resnetN with N = 6n + 2 up to {DEEPEST}"

MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (ModelSpec("resnet20", 3), ModelSpec("resnet32", 5), ModelSpec("resnet44", 7), ModelSpec("resnet56", 9))
}

# What pytorch-cifar-models trained with; its CIFAR-100 std differs from the seed's.
UPSTREAM_NORMALIZATION: dict[str, Normalization] = {
    "cifar10": CIFAR10.normalization,
    "cifar100": Normalization((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)),
}

_PUBLISHED: dict[str, tuple[Accuracy, str]] = {
    # the seed's top-1 and top-5, sha256 (or its start) of the upstream file
    "cifar10_resnet20": (Accuracy(91.65, 99.68), "4118986f"),
    "cifar10_resnet32": (Accuracy(92.81, 99.72), "ef93fc4d"),
    "cifar10_resnet44": (Accuracy(93.24, 99.75), "2a3cabcb"),
    "cifar10_resnet56": (Accuracy(93.69, 99.68), "187c023a"),
    "cifar100_resnet20": (Accuracy(66.61, 89.95), "23dac2f1"),
    "cifar100_resnet32": (Accuracy(68.74, 90.23), "84213ce6"),
    "cifar100_resnet44": (Accuracy(69.49, 90.39), "ffe32858"),
    "cifar100_resnet56": (Accuracy(70.79, 91.10), "f2eff4c8461ca1e0d39af83a65f7243bf7d29ec421efee3064bcee93a3caaa73"),
}

NETWORKS: dict[str, NetworkSpec] = {
    spec.name: spec
    for spec in (
        NetworkSpec(model, dataset, *_PUBLISHED.get(f"{dataset.name}_{model.name}", (None, None)))
        for dataset in DATASETS.values()
        for model in MODELS.values()
    )
}


def require_variant(name: str, known: tuple[InputVariant, ...] = INPUT_VARIANTS) -> None:
    """Raise `InvalidInput`, naming the `known` ones, where `name` is none of them."""
    if name not in known:
        raise InvalidInput(f"no input {name!r}. Known: {', '.join(known)}.")


def find_model(name: str) -> ModelSpec | None:
    """The model called `resnetN`, N = 6n + 2 up to `DEEPEST`; None for any other name."""
    if name in MODELS:
        return MODELS[name]
    if not (match := re.fullmatch(r"resnet([1-9]\d{0,3})", name, re.ASCII)):
        return None
    blocks, rest = divmod(int(match[1]) - 2, 6)
    return ModelSpec(name, blocks) if not rest and blocks >= 1 and int(match[1]) <= DEEPEST else None


def model(name: str) -> ModelSpec:
    """The model of that name. Raises `InvalidInput` that says which there are."""
    found = find_model(name)
    if found is None:
        raise InvalidInput(f"no model {name!r}. Known: {', '.join(MODELS)}, and any {DEPTHS}.")
    return found


def network(model_name: str, dataset: str | DatasetSpec) -> NetworkSpec:
    """The network of that name. Raises `InvalidInput` naming the known ones."""
    spec = model(model_name)
    if isinstance(dataset, DatasetSpec):
        known = NETWORKS.get(f"{dataset.name}_{model_name}")
        return known if known and known.dataset == dataset else NetworkSpec(spec, dataset)
    if dataset not in DATASETS:
        raise InvalidInput(f"no data set {dataset!r}. Known: {', '.join(DATASETS)}.")
    return NETWORKS.get(f"{dataset}_{model_name}") or NetworkSpec(spec, DATASETS[dataset])


def find_network(name: str) -> NetworkSpec | None:
    """The network called `<dataset>_<model>`, as files are; None for any other name."""
    dataset, _, model_name = name.partition("_")
    return network(model_name, dataset) if dataset in DATASETS and find_model(model_name) else None


def named(name: str) -> NetworkSpec:
    """The network called `<dataset>_<model>`, as files are. Raises `InvalidInput` naming the known ones."""
    found = find_network(name)
    if found is None:
        known = f"Known networks: {', '.join(NETWORKS)}, and any other {DEPTHS}"
        raise InvalidInput(f"there is no network {name!r}. {known}.")
    return found


def parts_of(name: str) -> tuple[str, ModelSpec] | None:
    """Data set and model in a network's name, whoever's the data set is; None for what is no such name.

    It is part of the names of files and folders, at most `LONGEST_NAME` characters of `A-Za-z0-9_-`.
    """
    dataset, _, model_name = name.rpartition("_")
    found = find_model(model_name)
    fits = len(name) <= LONGEST_NAME and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", dataset, re.ASCII)
    return (dataset, found) if found and fits else None


def in_order(names: Iterable[str]) -> list[str]:
    """The names of networks among `names`, each once: by data set (CIFAR's, then others), then shallow to deep."""
    found = {name: parts for name in names if isinstance(name, str) and (parts := parts_of(name))}
    places = {name: place for place, name in enumerate(DATASETS)}

    def place(name: str) -> tuple[int, str, int]:
        dataset, spec = found[name]
        return places.get(dataset, len(places)), dataset, spec.depth

    return sorted(found, key=place)
