"""The state between two epochs or two steps of one, in one file that is replaced atomically.

All chance comes from (seed, epoch): beside network and optimizer there is only what earlier epochs or teachers said.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..system.files import write_atomically
from ..system.outside import read_regular
from ..weights.reader import MAX_BYTES, read_checkpoint
from . import recipe as recipes

FORMAT = 1
REMOVE = "Remove it to start the run anew."
"""What to do about a checkpoint that can't be continued."""


@dataclass(frozen=True)
class Identity:
    """What a run is a run of. A checkpoint continues only the run whose identity is the same."""

    network: str
    recipe: Mapping[str, Any]
    seed: int
    holdout: bool
    initial: str | None = None
    """sha256 of the weights it starts from; None for random ones."""
    teachers: Sequence[str] = ()
    """sha256 of each teacher's weights."""
    images: str | None = None
    """sha256 of the training images and labels in their order; None in checkpoints of older versions."""
    freeze_body: bool = False
    """Whether the last layer alone is trained."""

    def refuse_unless_same(self, other: Identity, path: Path) -> None:
        """Raise `InvalidInput` that names the first difference between this run and the checkpoint's (`other`).

        Initial weights and teachers need not be named again: they may be gone, and the checkpoint holds all that is
        needed.
        """
        for what, here, there in (
            ("network", self.network, other.network),
            ("recipe", self.recipe["name"], other.recipe.get("name")),
            *((f"recipe's {key}", value, other.recipe.get(key)) for key, value in self.recipe.items()),
            ("seed", self.seed, other.seed),
            ("holdout", self.holdout, other.holdout),
            ("initial weights' sha256", self.initial or other.initial, other.initial),
            ("teachers' sha256", list(self.teachers or other.teachers), list(other.teachers)),
            ("frozen body", self.freeze_body, other.freeze_body),
            ("training images' sha256", self.images if other.images else None, other.images),
        ):
            if here != there:
                raise InvalidInput(
                    f"{path} is the checkpoint of another run: its {what} is {_short(there)}, not {_short(here)}.\n"
                    "Resume with the same options (--initial-weights and --teacher may be left out), or name another "
                    "--output."
                )


def _short(value: Any) -> Any:
    """Shorten hashes to eight digits, those of a list too."""
    if isinstance(value, list):
        return ", ".join(map(_short, value)) or "none"
    return value[:8] if isinstance(value, str) and len(value) == 64 else value


@dataclass
class UnderWay:
    """An epoch after `step` steps, in `seconds`, on `seen` images; only what an epoch does not draw anew.

    `totals` are the summed loss and the right answers, float64 (2,); `fresh` the losses of this epoch, float32
    (images,), NaN for those that were not seen yet.
    """

    totals: Tensor
    fresh: Tensor
    step: int = 0
    seen: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """A run after `epochs_done` epochs, and `under_way` in the next one (None between two).

    `model`, `optimizer` and `average` (None without a weight average) are state dicts on the CPU; `losses` are the
    images' last ones, float32 (None where the recipe does not prune); `targets` are the teachers' answers, float32
    (images, classes) (None where it has no teachers); `events` are the lines of the log so far; `seconds` is the time
    trained so far, over all interruptions, without the epoch that is under way.
    """

    identity: Identity
    epochs_done: int
    seconds: float
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    average: dict[str, Tensor] | None
    losses: Tensor | None = None
    targets: Tensor | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    under_way: UnderWay | None = None


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`: afterwards it is the old file or the whole new one, also after a power cut.

    Raises `Unavailable` on a full disk and `InvalidInput` where `path` cannot be written.
    """
    content = {**vars(checkpoint), "identity": {**vars(checkpoint.identity)}}
    if checkpoint.under_way is not None:
        content["under_way"] = {**vars(checkpoint.under_way)}
    write(path, content)


def load(path: Path) -> Checkpoint:
    """Read what `save` wrote. Raises `InvalidInput` for anything else; nothing in the file is executed.

    What a recipe of an older version does not say is at its default, which is what that version did.
    """
    refusal = f"{path} is not a checkpoint that this version can read. {REMOVE}"
    content = read(path, refusal)
    try:
        epochs = [event["epoch"] for event in content["events"] if event["event"] == "epoch"]
        if content["events"][0]["event"] != "start" or epochs != list(range(1, content["epochs_done"] + 1)):
            raise TypeError("the log is not of these epochs")
        identity = Identity(**content.pop("identity"))
        identity = replace(identity, recipe=recipes.from_dict(identity.recipe).as_dict())
        if content.get("under_way") is not None:
            content["under_way"] = UnderWay(**content["under_way"])
        return Checkpoint(identity=identity, **content)
    except (KeyError, TypeError, IndexError, AttributeError, InvalidInput) as error:
        raise InvalidInput(refusal) from error


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write the parts of a checkpoint, tensors and plain values, and the format. Raises as `save` does."""
    # By way of memory (at most some 30 MB): torch's own writer turns a full disk into a RuntimeError without errno.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    write_atomically(path, buffer.getvalue())


def read(path: Path, refusal: str) -> dict[str, Any]:
    """The parts that `write` wrote. Raises `InvalidInput`: `refusal`, or why `path` is no file that can be read."""
    data = read_regular(path, MAX_BYTES)
    try:
        content = read_checkpoint(path, data)
    except InvalidInput as error:
        raise InvalidInput(refusal) from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise InvalidInput(refusal)
    return content
