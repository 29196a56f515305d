"""Training recipes as plain data: what is printed by `--show-recipe`, stored with the weights and checked on resume.

Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InvalidInput

Flip = Literal["random", "alternating", "none"]


@dataclass(frozen=True)
class Recipe:
    """Stochastic gradient descent on shifted and mirrored images, from the first step to the last.

    Two runs of equal recipe, network, seed and hardware give equal weights. All numbers are per *global* batch, so
    they hold for any number of processes.
    """

    name: str
    epochs: int
    batch_size: int
    """Images per step, over all processes."""
    peak_lr: float
    final_lr: float
    """The learning rate that the cosine ends at."""
    warmup: float
    """Fraction of all steps in which the learning rate rises linearly from 0 to `peak_lr`."""
    schedule_unit: Literal["step", "epoch"]
    """Whether the learning rate moves with every step or, as `CosineAnnealingLR` is mostly used, once an epoch."""
    momentum: float
    nesterov: bool
    weight_decay: float
    decay_norm_and_bias: bool
    """Whether weight decay also pulls on batch-norm scales, shifts and the classifier's bias."""
    label_smoothing: float
    crop_padding: int
    """Black pixels added on each side before a random crop back to 32x32."""
    flip: Flip
    """`random`: each image mirrored with probability 1/2 each time it is seen. `alternating`: a coin for each image
    once, then every other epoch (K. Jordan, "94% on CIFAR-10 in 3.29 seconds", 2024, section 3.6): both
    mirrorings are seen equally often."""
    precision: Literal["bf16", "float32"]
    """`bf16`: bfloat16 autocast where the hardware computes in it, else float32. The log says which it was."""
    drop_last: bool
    """Whether the incomplete batch at an epoch's end is left out (it is other images each time)."""
    ema_decay: float = 0.0
    """Decay per step of an exponential moving average of the weights, which then is the result; 0 for none."""
    prune: float = 0.0
    """Probability that an epoch leaves out an image whose last loss was below the average; 0 for none. Those that stay
    count 1 / (1 - prune) times, so that an epoch's gradients are expected to add up to those of the whole set: over
    fewer steps, each larger by as much (Qin et al. 2024, "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic
    Data Pruning", section 3). Weight decay stays the same in every step."""
    prune_until: float = 0.875
    """Fraction of the epochs after which nothing is pruned any more (InfoBatch's delta): batch norms, which saw hard
    images oftener, come to see all alike. Reports before that understate the network."""
    average_from: float = 1.0
    """Fraction of the epochs after which the result is the plain average of the weights at each epoch's end, its batch
    norms measured anew (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima", algorithm 1); 1 for none."""
    distill: float = 0.0
    """Weight in the loss of the divergence from the teachers' answers, times `temperature` squared, against
    1 - `distill` for the labels' cross-entropy; 0 for no teachers (Hinton, Vinyals, Dean 2015, "Distilling the
    Knowledge in a Neural Network", section 2)."""
    temperature: float = 1.0
    """What logits are divided by where teachers and network are compared; only with `distill`."""

    def __post_init__(self) -> None:
        """Refuse what could not be trained. Raises `InvalidInput`."""
        if self.epochs < 1 or self.batch_size < 1:
            raise InvalidInput(f"recipe {self.name}: epochs and batch size must be at least 1.")
        if not 0 <= self.prune < 1:
            raise InvalidInput(f"recipe {self.name}: prune must be at least 0 and less than 1.")
        if not 0 <= self.distill <= 1:
            raise InvalidInput(f"recipe {self.name}: distill must be from 0 to 1.")
        if not 0 < self.temperature < math.inf:
            raise InvalidInput(f"recipe {self.name}: temperature must be a finite number greater than 0.")
        if self.averages_epochs and self.ema_decay:
            raise InvalidInput(f"recipe {self.name}: ema_decay and average_from are two averages. Keep one.")

    def as_dict(self) -> dict[str, Any]:
        """Turn into plain JSON data; `from_dict(r.as_dict()) == r`."""
        return dataclasses.asdict(self)

    def with_changes(self, *, epochs: int | None = None, prune: float | None = None) -> Recipe:
        """Stretch or shrink the recipe to `epochs`, let it leave out another share; as it is where both are None."""
        return dataclasses.replace(
            self, epochs=self.epochs if epochs is None else epochs, prune=self.prune if prune is None else prune
        )

    def steps_per_epoch(self, images: int) -> int:
        """Count the steps that one pass over `images` takes."""
        whole = images // self.batch_size
        return whole if self.drop_last and whole else math.ceil(images / self.batch_size)

    def prunes(self, epoch: int) -> bool:
        """Whether epoch `epoch` (from 0) leaves images out."""
        return self.prune > 0 and epoch < self.prune_until * self.epochs

    @property
    def averages_epochs(self) -> bool:
        """Whether the result is an average of epochs."""
        return self.average_from < 1

    def epochs_averaged(self, epochs_done: int) -> int:
        """Count the epochs whose weights are in the average after `epochs_done` epochs."""
        return max(0, epochs_done - math.floor(self.average_from * self.epochs))

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """Give the learning rate of step `step` of the run (from 0): linear warm-up, then a cosine to `final_lr`."""
        if self.schedule_unit == "epoch":
            position, total = step // steps_per_epoch, self.epochs
        else:
            position, total = step, self.epochs * steps_per_epoch
        warmup = self.warmup * total
        if position < warmup:
            return self.peak_lr * (position + 1) / (warmup + 1)
        progress = (position - warmup) / (total - warmup)
        return self.final_lr + (self.peak_lr - self.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def from_dict(fields: Mapping[str, Any]) -> Recipe:
    """Read what `Recipe.as_dict` wrote. Raises `InvalidInput` for unknown or missing fields."""
    try:
        return Recipe(**fields)
    except TypeError as error:
        raise InvalidInput(f"this is not a recipe of this version: {error}.") from error


SEED = Recipe(
    name="seed",
    epochs=200,
    batch_size=256,
    peak_lr=0.1,
    final_lr=0.001,
    warmup=0.0,
    schedule_unit="epoch",
    momentum=0.9,
    nesterov=True,
    weight_decay=1e-4,
    decay_norm_and_bias=True,
    label_smoothing=0.0,
    crop_padding=4,
    flip="random",
    precision="float32",
    drop_last=False,
)
"""What chenyaofo/CIFAR-pretrained-models published: the reproduction of its accuracy table."""

QUICK = Recipe(
    name="quick",
    epochs=40,
    batch_size=128,
    peak_lr=0.2,
    final_lr=0.0,
    warmup=0.15,
    schedule_unit="step",
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
    decay_norm_and_bias=False,
    label_smoothing=0.05,
    crop_padding=4,
    flip="alternating",
    precision="bf16",
    drop_last=True,
    prune=0.5,
)
"""For machines without a GPU: as many images as 27 epochs have, about a seventh of `seed`'s.

Measured on CIFAR-10 with resnet20 from random weights, seed 0, one run each, top-1 of the test images: 91.01 % after 44
minutes on one Zen 4 core. Without pruning, 1.48 times as many images: 91.18 %. Also without label smoothing, with
random flips and for 30 epochs: 90.90 %. On CIFAR-100 the last two reached 68.12 % and 66.82 %. What alternating flips
and label smoothing brought each has not been measured: they came in on published evidence. Pruning was compared on
held-out images before it came in (docs/accuracy.md).
"""

RELEASE = dataclasses.replace(QUICK, name="release", epochs=300, warmup=0.05, ema_decay=0.999, prune=0.0)
"""`quick` at a GPU's length, with an average over the weights of about the last 1,000 steps.

Measured on CIFAR-100, seed 0, one run each, shortened: resnet20 reached 68.49 % of the test images in 109 epochs,
resnet32 71.16 % in 91, resnet44 72.24 % in 82, resnet56 72.84 % in 64. The whole, and what its parts bring, have not
been measured.
"""

RESTART = dataclasses.replace(QUICK, name="restart", epochs=24, peak_lr=0.1, warmup=0.05)
"""From trained weights on: a warm restart (Loshchilov and Hutter 2017, "SGDR"), also of a network grown deeper.

Measured on CIFAR-100: resnet56 grown from resnet44 (70.74 % of the test images) was at 71.87 % after 14 epochs in which
nothing was pruned.
"""

SWA = dataclasses.replace(RESTART, name="swa", peak_lr=0.05, final_lr=0.05, average_from=0.25)
"""From trained weights on at a constant learning rate, averaging: stochastic weight averaging.

Measured once: resnet32 on CIFAR-10 went from 92.64 to 92.75 % of the test images in 16 epochs. Its last two, which
pruned nothing, were at 92.79 and 92.75 %; after 10 epochs, 6 of them averaged and all pruned, it was at 92.23 %.
"""

DISTILL = dataclasses.replace(
    RESTART, name="distill", epochs=40, label_smoothing=0.0, prune=0.0, distill=0.9, temperature=2.0
)
"""From trained weights on, with the average answer of several networks as the target beside the labels.

Measured on CIFAR-10, once each, taught by the four networks that were bundled then: resnet32 went from 92.75 to 93.19 %
of the test images in 24 epochs, resnet44 from 92.51 to 93.29 % in 34, resnet56 from 92.66 to 92.99 % in 14 and, from
there, to 93.46 % in 50, to 93.64 % in another 50 and to 93.73 % in 50 more. What the teachers bring over the same
epochs without them was not measured.
"""

CONTINUING = ("restart", "swa", "distill")
"""Names of the presets that are meant to go on from trained weights."""

PRESETS: dict[str, Recipe] = {recipe.name: recipe for recipe in (SEED, QUICK, RELEASE, RESTART, SWA, DISTILL)}


def preset(name: str) -> Recipe:
    """Find the preset of that name. Raises `InvalidInput` naming the known ones."""
    if name not in PRESETS:
        raise InvalidInput(f"there is no recipe {name!r}. Known recipes: {', '.join(PRESETS)}.")
    return PRESETS[name]
