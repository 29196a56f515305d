"""Batched augmentation against torchvision's transforms, one image at a time."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from cifar_export.networks.preprocess import as_variant
from cifar_export.networks.zoo import CIFAR10
from cifar_export.training import augment
from cifar_export.training.recipe import QUICK

CPU = torch.device("cpu")
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8))


def fixed(top: int, left: int, mirrored: bool) -> augment.EpochDraws:
    count = len(IMAGES)
    return augment.EpochDraws(
        torch.arange(count),
        torch.full((count,), top),
        torch.full((count,), left),
        torch.full((count,), mirrored),
        torch.ones(count),
    )


@given(
    padding=st.integers(0, 5),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    mirrored=st.booleans(),
    picked=st.lists(st.integers(0, len(IMAGES) - 1), min_size=1, max_size=4),
)
def test_a_given_crop_is_torchvisions(padding, corner, mirrored, picked):
    top, left = (round(2 * padding * place) for place in corner)
    ours = augment.crop(augment.pad(IMAGES, padding), torch.tensor(picked), fixed(top, left, mirrored))
    theirs = tv.crop(tv.pad(IMAGES[picked].permute(0, 3, 1, 2), [padding]), top, left, 32, 32)
    theirs = tv.horizontal_flip(theirs) if mirrored else theirs
    assert torch.equal(ours, theirs.permute(0, 2, 3, 1))


def unseen(images: int) -> torch.Tensor:
    """The losses of images that no epoch has seen yet."""
    return torch.full((images,), torch.nan)


def test_crops_and_mirrorings_have_torchvisions_distribution():
    draws_each, padding = 4000, 1
    image = IMAGES[:1]
    recipe = replace(QUICK, crop_padding=padding, flip="random")
    draws = augment.draw_epoch(recipe, unseen(draws_each), seed=0, epoch=0)
    ours = augment.crop(augment.pad(image, padding).expand(draws_each, -1, -1, -1), torch.arange(draws_each), draws)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transform = v2.Compose([v2.RandomCrop(32, padding=padding), v2.RandomHorizontalFlip()])
        chw = image[0].permute(2, 0, 1)
        theirs = [transform(chw).permute(1, 2, 0) for _ in range(draws_each)]
    counted, expected = (Counter(bytes(one.contiguous().numpy()) for one in many) for many in (ours, theirs))
    assert set(counted) == set(expected)  # all 3 x 3 corners, mirrored or not, and nothing else
    assert len(counted) == 18
    chi_square = sum((counted[k] - expected[k]) ** 2 / (counted[k] + expected[k]) for k in counted)
    assert chi_square < 40.8  # 17 degrees of freedom, p = 0.001


def test_alternating_mirrors_half_the_images_and_the_others_next_time():
    recipe = replace(QUICK, flip="alternating")
    first, second, third = (augment.draw_epoch(recipe, unseen(5000), 1, epoch).mirrored for epoch in range(3))
    assert 2350 < int(first.sum()) < 2650
    assert torch.equal(first, ~second)
    assert torch.equal(first, third)


def test_no_flip_means_none():
    assert not augment.draw_epoch(replace(QUICK, flip="none"), unseen(100), 0, 0).mirrored.any()


def test_an_epochs_chance_depends_on_seed_and_epoch_alone():
    def draws(seed: int, epoch: int) -> list[list[int]]:
        drawn = augment.draw_epoch(QUICK, unseen(200), seed, epoch)
        return [drawn.order.tolist(), drawn.top.tolist(), drawn.left.tolist()]

    torch.manual_seed(1)
    before = draws(0, 1)
    torch.manual_seed(2)
    assert draws(0, 1) == before
    for other in (draws(0, 2), draws(1, 1)):
        assert all(a != b for a, b in zip(before, other, strict=True))
    assert sorted(before[0]) == list(range(200))
    assert set(before[1]) <= set(range(9))


def test_pruning_leaves_out_easy_images_only_and_keeps_the_expected_sum_of_losses():
    recipe = replace(QUICK, epochs=100, prune=0.75)
    losses = torch.rand(8000, generator=torch.Generator().manual_seed(0)) ** 4
    losses[:500] = torch.nan
    easy = losses < losses[500:].mean()
    used_in_all, sums = 0, []
    for epoch in range(20):
        draws = augment.draw_epoch(recipe, losses, 0, epoch)
        left_out = torch.ones(8000, dtype=torch.bool)
        left_out[draws.order] = False
        assert bool(easy[left_out].all())  # never a hard one, never one that was not seen
        assert left_out.sum() / easy.sum() == pytest.approx(0.75, abs=0.02)
        assert set(draws.weight[draws.order[easy[draws.order]]].tolist()) == {4.0}
        assert set(draws.weight[draws.order[~easy[draws.order]]].tolist()) == {1.0}
        used_in_all += int(easy[draws.order].sum())
        sums.append(float((draws.weight * losses)[draws.order].nansum()))
    assert used_in_all / 20 == pytest.approx(0.25 * int(easy.sum()), rel=0.02)
    assert np.mean(sums) == pytest.approx(float(losses.nansum()), rel=0.01)


@pytest.mark.parametrize(
    ("recipe", "epoch", "losses"),
    [
        (replace(QUICK, prune=0.0), 0, torch.linspace(0, 1, 100)),
        (replace(QUICK, prune=0.5), QUICK.epochs - 1, torch.linspace(0, 1, 100)),
        (replace(QUICK, prune=0.9, batch_size=90), 0, torch.linspace(0, 1, 100)),
        (replace(QUICK, prune=0.9, batch_size=1), 0, torch.full((100,), 0.7)),
        (replace(QUICK, prune=0.9, batch_size=1), 0, unseen(100)),
    ],
    ids=["none asked for", "last epochs", "less than a batch would stay", "all are alike", "none is known"],
)
def test_without_pruning_every_image_is_used_and_counts_once(recipe, epoch, losses):
    draws = augment.draw_epoch(recipe, losses, 0, epoch)
    assert sorted(draws.order.tolist()) == list(range(100))
    assert bool((draws.weight == 1).all())


@pytest.mark.parametrize("images", [7, 100, 1000])
def test_equal_losses_prune_nothing_whatever_they_are(images):
    """A mean in float32 is above some of them, by its rounding."""
    recipe = replace(QUICK, prune=0.9, batch_size=1)
    for tenths in range(1, 40):
        draws = augment.draw_epoch(recipe, torch.full((images,), tenths / 10), 0, 0)
        assert len(draws.order) == images, tenths


def test_normalized_images_are_torchvisions_and_channels_last():
    mean, std = CIFAR10.normalization.mean, CIFAR10.normalization.std
    expected = tv.normalize(tv.to_dtype(IMAGES.permute(0, 3, 1, 2), torch.float32, scale=True), mean, std)
    normalize = augment.Normalizer(CIFAR10.normalization, CPU)
    torch.testing.assert_close(normalize(IMAGES), expected, rtol=0, atol=2e-6)
    assert normalize(IMAGES).is_contiguous(memory_format=torch.channels_last)


def test_reports_see_the_very_images_that_evaluations_see():
    ours = augment.Normalizer(CIFAR10.normalization, CPU).exactly(IMAGES)
    assert np.array_equal(ours.numpy(), as_variant(IMAGES.numpy(), "float32", CIFAR10.normalization))


def test_padding_is_black():
    padded = augment.pad(torch.full((1, 32, 32, 3), 255, dtype=torch.uint8), 4)
    assert padded.shape == (1, 40, 40, 3)
    assert int((padded == 255).sum()) == 32 * 32 * 3
    assert bool((padded[:, 4:36, 4:36] == 255).all())


@pytest.mark.parametrize("seed", [0, 2**40])
def test_initialization_is_seeded(seed):
    assert augment.initialization_seed(seed) == augment.initialization_seed(seed)
    assert augment.initialization_seed(seed) != augment.initialization_seed(seed + 1)
