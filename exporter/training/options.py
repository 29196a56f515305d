"""What a run is asked to do. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..networks.zoo import NetworkSpec, Normalization
from .recipe import Recipe

if TYPE_CHECKING:
    from ..weights.core import Weights

CHECKPOINT, LOG, WEIGHTS, CURVE = "checkpoint.pt", "log.jsonl", "weights.safetensors", "curve.png"
"""Names of the files of a run, in its folder."""
FINETUNING = "finetuning.pt"
"""The checkpoint of a finetuning with rounded weights."""
RUNS = Path("artifacts/runs")
HIGHEST_SEED = 2**32 - 1
"""What every generator of random numbers takes."""
MOST_EPOCHS = 100_000
"""Far beyond any recipe; a schedule of more would not fit into memory."""


@dataclass(frozen=True)
class NamedWeights:
    """Trained weights that are yet to be loaded.

    `source`: "bundled", "upstream", or the path of a file. `network`: the network they are of. `normalization`: what
    they were trained with, where their file does not say; None for what is known of them. `key` and `shortcut`: how
    to read a file (`weights.foreign.Reading`).
    """

    source: str
    network: NetworkSpec
    normalization: Normalization | None = None
    key: str | None = None
    shortcut: str | None = None


@dataclass(frozen=True)
class Options:
    """What the user asked for. `output` None: a folder under `artifacts/runs` named after network, recipe and seed.

    `holdout`: train without 5,000 images of the training set and report on them, so that the test set stays unseen
    while recipes and epochs are chosen. `threads` None: as many as torch finds. `initial`: weights to start from, of
    this network or a shallower one; None for random ones. `teachers`: for a recipe that distills; None for all the
    bundled networks of the data set, and for none where a run is resumed, which knows what they answered. `limit`:
    train on so many images only, spread over the training set. `freeze_body`: train the last layer alone, on a body
    that stays as the initial weights have it.
    """

    network: NetworkSpec
    recipe: Recipe
    data_dir: Path
    output: Path | None = None
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    holdout: bool = False
    resume: bool = False
    tensorboard: bool = False
    initial: Weights | NamedWeights | None = None
    teachers: tuple[Weights | NamedWeights, ...] | None = None
    limit: int | None = None
    freeze_body: bool = False

    @property
    def folder(self) -> Path:
        """The folder the run is kept in."""
        held = "-holdout" if self.holdout else ""
        return self.output or RUNS / f"{self.network.name}-{self.recipe.name}{held}-seed{self.seed}"

    @property
    def checkpoint(self) -> Path:
        """The file with the state that a run is continued from, if it got that far."""
        return self.folder / CHECKPOINT
