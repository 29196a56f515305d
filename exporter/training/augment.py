"""Random crops and mirrorings of a whole batch at once, on the device where the images lie as uint8.

The same distribution as torchvision's `RandomCrop(32, padding)` and `RandomHorizontalFlip()`. All chance of an epoch
is drawn before it begins, from (seed, epoch) alone: a resumed run and each of several processes draw the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..networks.zoo import IMAGE_SIZE, Normalization
from .recipe import Flip, Recipe

# Names of the streams of chance, so that no two draws of one seed ever share numbers.
_EPOCH, _ALTERNATION, _INITIALIZATION, _PRUNING = 0, 1, 2, 3


def _generator(seed: int, stream: int, epoch: int = 0) -> torch.Generator:
    """Make a CPU generator that depends on nothing but these arguments."""
    state = np.random.SeedSequence([seed, stream, epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))


def initialization_seed(seed: int) -> int:
    """Say what to seed torch's global generator with before the network is made."""
    return _generator(seed, _INITIALIZATION).initial_seed()


@dataclass(frozen=True)
class EpochDraws:
    """One epoch's chance: `order` is a permutation of the images used; the rest is indexed by image, not by position.

    `top` and `left` (int64, 0..2*padding) are the crop's corner in the padded image, `mirrored` is bool. `weight`
    (float32) is how often an image's loss counts.
    """

    order: Tensor
    top: Tensor
    left: Tensor
    mirrored: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> EpochDraws:
        """Copy the draws to `device`."""
        return EpochDraws(
            *(tensor.to(device) for tensor in (self.order, self.top, self.left, self.mirrored, self.weight))
        )


def _mirrored(flip: Flip, images: int, seed: int, epoch: int, generator: torch.Generator) -> Tensor:
    if flip == "none":
        return torch.zeros(images, dtype=torch.bool)
    if flip == "random":
        return torch.rand(images, generator=generator) < 0.5
    first = torch.rand(images, generator=_generator(seed, _ALTERNATION)) < 0.5
    return first ^ (epoch % 2 == 1)


def _pruned(losses: Tensor, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose which images to leave out (bool) and how often each of the others counts (float32)."""
    # float64: a mean of equal losses must not be rounded above them. False for NaN: what was never seen stays.
    easy = losses < losses.double().nanmean()
    left_out = easy & (torch.rand(len(losses), generator=generator) < probability)
    return left_out, torch.where(easy, 1 / (1 - probability), 1.0)


def draw_epoch(recipe: Recipe, losses: Tensor, seed: int, epoch: int) -> EpochDraws:
    """Order, crops and mirrorings of the images in epoch `epoch` (from 0) of a run seeded with `seed`.

    `losses`: float32 (images,) on the CPU, the last one of each image, NaN before it was first seen. Only a recipe that
    prunes looks at them, and it prunes nothing where less than a batch would stay.
    """
    images, generator = len(losses), _generator(seed, _EPOCH, epoch)
    corners = 2 * recipe.crop_padding + 1
    order, weight = torch.randperm(images, generator=generator), torch.ones(images)
    if recipe.prunes(epoch):
        left_out, counts = _pruned(losses, recipe.prune, _generator(seed, _PRUNING, epoch))
        if images - int(left_out.sum()) >= recipe.batch_size:
            order, weight = order[~left_out[order]], counts
    return EpochDraws(
        order=order,
        top=torch.randint(corners, (images,), generator=generator),
        left=torch.randint(corners, (images,), generator=generator),
        mirrored=_mirrored(recipe.flip, images, seed, epoch, generator),
        weight=weight,
    )


def pad(images: Tensor, padding: int) -> Tensor:
    """uint8 (n, height, width, 3) with `padding` black pixels added on each side: done once, before training."""
    return torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding))


def crop(padded: Tensor, picked: Tensor, draws: EpochDraws) -> Tensor:
    """Crop the images `picked` (int64 (batch,)) and mirror them where drawn: uint8 (batch, 32, 32, 3).

    One gather: mirroring is reading a crop's columns from right to left.
    """
    pixels = torch.arange(IMAGE_SIZE, device=padded.device)
    rows = draws.top[picked][:, None] + pixels
    columns = torch.where(draws.mirrored[picked][:, None], pixels.flip(0), pixels) + draws.left[picked][:, None]
    return padded[picked[:, None, None], rows[:, :, None], columns[:, None, :]]


class Normalizer:
    """uint8 (batch, 32, 32, 3) to normalized float32 (batch, 3, 32, 32) in channels-last memory.

    Called, it is one multiply-add in float32, up to an ulp from the true value: for training.
    """

    def __init__(self, normalization: Normalization, device: torch.device) -> None:
        self._mean = torch.tensor(normalization.mean, dtype=torch.float64, device=device)
        self._std = torch.tensor(normalization.std, dtype=torch.float64, device=device)
        self._scale = (1 / (255 * self._std)).float()
        self._shift = (-self._mean / self._std).float()

    def __call__(self, images: Tensor) -> Tensor:
        """`(x / 255 - mean) / std`; the permutation only renames axes, no byte moves."""
        return torch.addcmul(self._shift, images.float(), self._scale).permute(0, 3, 1, 2)

    def exactly(self, images: Tensor) -> Tensor:
        """Compute the same in float64 and round once, as every evaluation of exported files does: for reports."""
        return ((images.double() / 255 - self._mean) / self._std).float().permute(0, 3, 1, 2)
