"""The network that a command is asked for, with the weights to use: from the options to weights that are loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput, printable
from ..networks.labels import read_labels
from ..networks.normalization import parse_normalization
from ..networks.zoo import DATASETS, DatasetSpec, NetworkSpec, Normalization, network
from ..networks.zoo import model as model_of
from .subjects import called

if TYPE_CHECKING:
    from ..weights.core import Weights


@dataclass(frozen=True)
class Asked:
    """The network that a user asked for, and the weights to use with it."""

    spec: NetworkSpec
    source: str
    normalization: Normalization | None
    key: str | None = None
    shortcut: str | None = None
    seed: int | None = None
    file: Path | None = None
    """The exported file that was named in the place of a network."""
    file_weights: str | None = None
    """sha256 of the weights that this file says it was made of."""

    def load(self, *, quiet: bool) -> Weights:
        """Load the weights, downloading what must be, and tell what was changed. Raises what `load_weights` raises."""
        from ..weights.foreign import Reading
        from ..weights.sources import load_weights
        from .progress import bar

        with bar("downloading", quiet=quiet) as progress:
            reading = Reading(self.key, self.shortcut)
            try:
                weights = load_weights(self.spec, self.source, self.normalization, progress, reading, self.seed)
            except InvalidInput:
                if self.file is None or self.source != "bundled":
                    raise
                raise self._of_others() from None  # none are bundled
        if self.file is not None and self.source == "bundled" and self.file_weights != weights.sha256:
            raise self._of_others()
        for change in weights.changes:
            click.echo(f"weights: {change}", err=True)
        return weights

    def _of_others(self) -> InvalidInput:
        made_of = f"of a file with sha256 {printable(str(self.file_weights))}"
        return InvalidInput(f"{self.file} was made of other weights than bundled ones: {made_of}. Add --weights PATH.")


def dataset_of(dataset: str | None, weights: str = "bundled", *, quiet: bool = False) -> str | DatasetSpec:
    """The data set asked for, else the one that the file of `weights` says it is of, else CIFAR-10."""
    if dataset in DATASETS:
        return dataset
    if dataset is not None:
        from ..data.named import dataset_named
        from .progress import bar

        with bar("reading pictures", quiet=quiet) as progress:
            return dataset_named(dataset, progress)
    if weights in ("bundled", "upstream", "random"):
        return "cifar10"
    from ..weights.sources import said_dataset

    return said_dataset(Path(weights)) or "cifar10"


def asked(
    model: str,
    dataset: str | None,
    weights: str,
    mean: str | None,
    std: str | None,
    key: str | None = None,
    shortcut: str | None = None,
    seed: int | None = None,
    labels: Path | None = None,
) -> Asked:
    """Read the values of `network_options`.

    Raises `InvalidInput` for a mean or a deviation that is none, and where the name and an option contradict each
    other.
    """
    normalization = parse_normalization(mean, std)
    name = called(model)
    if name.is_foreign and weights in ("bundled", "upstream", "random"):
        raise InvalidInput(
            f"{model} does not say which network it is, for it carries no metadata of ours. Add --weights PATH, or "
            f"name the network, and add --file {model}."
        )
    weights = _of_one(model, "--weights", name.weights, weights)
    named_model = _model_of(weights, key) if name.is_foreign else str(name.model)
    if labels is not None:
        if name.dataset is not None:
            raise InvalidInput(f"{model} says its classes itself. Leave --labels away.")
        spec = _of_labels(named_model, labels, weights, dataset)
    else:
        spec = network(named_model, _dataset_of_one(model, name.dataset, dataset, weights))
    metadata = (name.facts.metadata or {}) if name.facts else {}
    _require_same_normalization(model, metadata, normalization)
    made_of = metadata.get("weights_sha256")
    return Asked(spec, weights, normalization, key, shortcut, seed, name.file, made_of)


def _require_same_normalization(name: str, metadata: dict[str, Any], given: Normalization | None) -> None:
    """Raise `InvalidInput` where a file says another normalization than the options."""
    if given is not None and metadata and {key: metadata.get(key) for key in ("mean", "std")} != given.as_dict():
        said = f"mean {metadata.get('mean')} and std {metadata.get('std')}"
        raise InvalidInput(
            f"{name} says {said:.200}, and the options say mean {list(given.mean)} and std {list(given.std)}. "
            "Leave --mean and --std away."
        )


def _model_of(weights: str, key: str | None) -> str:
    """The model that a file of weights is of."""
    from ..weights.foreign import Reading
    from ..weights.sources import model_of_weights

    return model_of_weights(Path(weights), Reading(key))


def _of_one(name: str, option: str, said: object, asked_for: Any) -> Any:
    """What the name says, else what the option says. Raises `InvalidInput` where they contradict each other."""
    if said is None:
        return asked_for
    if asked_for not in (None, "bundled", str(said)):
        raise InvalidInput(f"{name} says {said}, and {option} says {asked_for}. Leave {option} away.")
    return str(said)


def _dataset_of_one(
    name: str, said: str | DatasetSpec | None, asked_for: str | None, weights: str
) -> str | DatasetSpec:
    """The data set that the name says, else the one asked for.

    A file of one's own classes says their labels alone: the folder of its pictures may be asked for beside it.
    """
    if not isinstance(said, DatasetSpec):
        return dataset_of(_of_one(name, "--dataset", said, asked_for), weights)
    if asked_for is None:
        return said
    folder = dataset_of(asked_for)
    if not isinstance(folder, DatasetSpec) or folder.labels != said.labels:
        raise InvalidInput(
            f"{name} says {said.name}, with {said.classes} classes, and --dataset says {asked_for}, which has other "
            "ones. Leave --dataset away, or name the folder of its pictures."
        )
    return replace(folder, name=said.name)


def _of_labels(model: str, labels: Path, weights: str, dataset: str | None) -> NetworkSpec:
    """The network whose classes stand in the file `labels`."""
    if dataset is not None:
        raise InvalidInput("--labels and --dataset both name classes. Leave one of them out.")
    if weights in ("bundled", "upstream"):
        raise InvalidInput(f"--labels is for weights of yours, not for {weights} ones. Add --weights PATH.")
    return NetworkSpec(model_of(model), read_labels(labels))


def refuse_guessing(wanted: Asked, file: Path | None) -> None:
    """Raise `InvalidInput` for a stranger's file of normalized images where nobody says how they are normalized."""
    if file is None or wanted.normalization is not None or wanted.source not in ("bundled", "upstream"):
        return
    from ..exporting.subject import facts_of

    facts = facts_of(file, None, trust=True)
    if facts.metadata is None and facts.variant == "float32":
        raise InvalidInput(
            f"{file} does not say how its images are normalized, and guessing costs accuracy unseen. "
            "Add --mean R,G,B and --std R,G,B, or --input unit if it takes images in 0..1."
        )


def refuse_trust_without_file(file: Path | None, trust_file: bool) -> None:
    """Raise `InvalidInput` for --trust-file without --file."""
    if trust_file and file is None:
        raise InvalidInput("--trust-file without --file. Name the file that you trust.")
