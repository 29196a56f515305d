"""Recipes as data, and the learning rate they ask for."""

import math
from dataclasses import replace

import pytest
import torch

from cifar_export.errors import InvalidInput
from cifar_export.training.recipe import DISTILL, PRESETS, QUICK, SEED, from_dict, preset


def test_the_seed_recipe_is_the_published_one():
    assert (SEED.epochs, SEED.batch_size, SEED.peak_lr, SEED.final_lr) == (200, 256, 0.1, 0.001)
    assert (SEED.momentum, SEED.nesterov, SEED.weight_decay, SEED.decay_norm_and_bias) == (0.9, True, 1e-4, True)
    assert (SEED.crop_padding, SEED.flip, SEED.label_smoothing, SEED.ema_decay) == (4, "random", 0, 0)


def test_the_seed_recipe_follows_torchs_cosine_schedule():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=200, eta_min=0.001)
    for epoch in range(200):
        for step in (0, 195):
            asked = SEED.learning_rate(epoch * 196 + step, 196)
            assert asked == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        schedule.step()


def test_quick_warms_up_and_then_falls_to_zero():
    rates = [QUICK.learning_rate(step, 390) for step in range(QUICK.epochs * 390)]
    peak = rates.index(max(rates))
    assert peak == pytest.approx(QUICK.warmup * len(rates), abs=1)
    assert max(rates) == pytest.approx(QUICK.peak_lr, rel=1e-3)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[0] < 1e-3
    assert 0 < rates[-1] < 1e-6


def test_the_rate_rises_by_equal_steps_to_the_peak_and_falls_by_the_cosine():
    """Written out: of 100 steps 9 warm up, by a tenth of the peak each; the cosine begins at the peak itself."""
    recipe = replace(QUICK, epochs=10, warmup=0.09, peak_lr=2.0, final_lr=0.5, schedule_unit="step")
    rates = [recipe.learning_rate(step, 10) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0])
    middle = 9 + 91 / 2
    assert (rates[54] + rates[55]) / 2 == pytest.approx(1.25 - 0.75 * math.pi / 91 * (54.5 - middle), rel=1e-4)
    assert rates[99] == pytest.approx(0.5 + 0.75 * (1 - math.cos(math.pi / 91)))


@pytest.mark.parametrize("recipe", PRESETS.values(), ids=lambda recipe: recipe.name)
def test_a_recipe_survives_json(recipe):
    assert from_dict(recipe.as_dict()) == recipe


def test_a_recipe_of_another_version_is_refused():
    with pytest.raises(InvalidInput, match="magic"):
        from_dict(QUICK.as_dict() | {"magic": 1})


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(InvalidInput, match="seed, quick, release"):
        preset("fast")


def test_other_epochs_change_nothing_else():
    assert QUICK.with_changes(epochs=3) == replace(QUICK, epochs=3)
    assert QUICK.with_changes(prune=0.0) == replace(QUICK, prune=0.0)
    assert QUICK.with_changes() == QUICK


@pytest.mark.parametrize(("drop_last", "images", "steps"), [(True, 1000, 7), (False, 1000, 8), (True, 100, 1)])
def test_the_rest_of_an_epoch_is_dropped_or_not(drop_last, images, steps):
    assert replace(QUICK, drop_last=drop_last).steps_per_epoch(images) == steps


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch_size": 0}])
def test_a_recipe_that_trains_nothing_is_refused(change):
    with pytest.raises(InvalidInput, match="at least 1"):
        replace(QUICK, **change)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        *(({"distill": value}, "distill must be from 0 to 1") for value in (-0.1, 1.1, math.nan)),
        *(
            ({"temperature": value}, "temperature must be a finite number greater")
            for value in (0.0, -1.0, math.inf, math.nan)
        ),
    ],
)
def test_a_recipe_that_weighs_or_tempers_teachers_by_nonsense_is_refused(change, told):
    with pytest.raises(InvalidInput, match=told):
        replace(DISTILL, **change)


@pytest.mark.parametrize("prune", [-0.1, 1.0, float("nan")])
def test_a_recipe_that_prunes_everything_or_less_than_nothing_is_refused(prune):
    with pytest.raises(InvalidInput, match="prune must be at least 0 and less than 1"):
        replace(QUICK, prune=prune)


def test_two_averages_at_once_are_refused():
    with pytest.raises(InvalidInput, match="ema_decay and average_from are two averages"):
        replace(QUICK, ema_decay=0.9, average_from=0.5)


def test_averaging_begins_after_its_share_of_the_epochs():
    recipe = replace(QUICK, epochs=5, average_from=0.5)
    assert [recipe.epochs_averaged(done) for done in range(6)] == [0, 0, 0, 1, 2, 3]
    assert not any(QUICK.epochs_averaged(done) for done in range(QUICK.epochs + 1))


def test_the_last_epochs_prune_nothing():
    recipe = replace(QUICK, epochs=8, prune=0.5, prune_until=0.75)
    assert [recipe.prunes(epoch) for epoch in range(8)] == [True] * 6 + [False] * 2
    assert not any(replace(recipe, prune=0.0).prunes(epoch) for epoch in range(8))
