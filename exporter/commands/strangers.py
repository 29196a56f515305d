"""A file that says nothing of itself, and what its user says of it: nothing is guessed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput
from ..formats.onnx_choices import LAYOUTS
from ..networks.labels import read_labels
from ..networks.normalization import parse_normalization
from ..networks.zoo import DATASETS, DatasetSpec, InputVariant, Normalization
from .asked import dataset_of
from .subjects import called

if TYPE_CHECKING:
    from ..formats.onnx_choices import Layout

IDENTITY = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
layout_option = click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    help="Layout of the images that a FILE of somebody else takes, where it does not say: channels first or last.",
)


@dataclass(frozen=True)
class Stranger:
    """A file without metadata of ours, of which a user says what is to be known.

    `variant`: what it takes; `normalization` is that of its images, `IDENTITY` where the graph does it itself.
    `dataset` is None where nobody named its classes.
    """

    file: Path
    format: str
    variant: InputVariant
    normalization: Normalization
    dataset: DatasetSpec | None

    @property
    def name(self) -> str:
        """What it is called on the screen."""
        return _FOREIGN.format(self.file.name)

    def require_dataset(self) -> DatasetSpec:
        """Its data set. Raises `InvalidInput` where nobody named it."""
        if self.dataset is None:
            raise InvalidInput(f"{self.file} does not say its classes. Add --dataset, or --labels FILE (one a line).")
        return self.dataset


_FOREIGN = "a foreign file, {}"


def name_of(file: Path | None) -> str | None:
    """What a file without metadata of ours is called on the screen; None for other files and none."""
    return _FOREIGN.format(file.name) if file is not None and called(str(file)).is_foreign else None


def refuse_two_files(name: str, file: Path | None) -> None:
    """Raise `InvalidInput` where the network is named by a file, and --file names one, too."""
    if file is not None and called(name).file is not None:
        raise InvalidInput(f"{name} and --file {file} both name a file. Leave one of them out.")


def is_stranger(name: str, weights: str) -> bool:
    """Whether `name` is a file without metadata of ours that comes without its weights."""
    return weights == "bundled" and called(name).is_foreign


def stranger_of(name: str, given: dict[str, Any], variant: InputVariant | None, *, trust: bool) -> Stranger:
    """The file called `name`, with what the options of a network (`given`) say of it.

    Raises `InvalidInput` where the normalization is not known, for what contradicts the file, and for options that are
    for weights.
    """
    from ..exporting.subject import facts_of

    unfit = next((key for key in ("key", "shortcut", "seed") if given.get(key) is not None), None)
    if unfit:
        raise InvalidInput(f"--{unfit} is for weights, and {name} is a file. Leave it out, or add --weights PATH.")
    if given["labels"] is not None and given["dataset"] is not None:
        raise InvalidInput("--labels and --dataset both name classes. Leave one of them out.")
    dataset = read_labels(given["labels"]) if given["labels"] is not None else None
    if given["dataset"] is not None:
        named = dataset_of(given["dataset"])
        dataset = named if isinstance(named, DatasetSpec) else DATASETS[named]
    normalization = parse_normalization(given["mean"], given["std"])
    facts = facts_of(Path(name), variant, trust=trust)
    taken = facts.variant or "float32"
    if taken == "float32" and normalization is None:
        raise InvalidInput(
            f"{name} does not say how its images are normalized, and guessing costs accuracy unseen. "
            "Add --mean R,G,B and --std R,G,B, or --input unit if it takes images in 0..1."
        )
    if taken != "float32" and normalization is not None:
        raise InvalidInput(f"{name} takes {taken} images, which it normalizes itself. Leave --mean and --std out.")
    return Stranger(Path(name), facts.format, taken, normalization or IDENTITY, dataset)


@contextlib.contextmanager
def as_laid_out(name: str, layout: Layout | None) -> Iterator[str]:
    """Yield `name`, or that of a copy which states the layout that its user does; it lives as long as the block.

    Raises `InvalidInput` for what is no ONNX file of somebody else.
    """
    if layout is None:
        yield name
        return
    if not called(name).is_foreign or not name.lower().endswith(".onnx"):
        raise InvalidInput(f"--layout is for an ONNX file of somebody else, and {name} is none. Leave it out.")
    from ..formats.onnx_layout import laid_out

    with laid_out(Path(name), layout) as path:
        yield str(path)
