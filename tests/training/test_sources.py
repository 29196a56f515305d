"""Which weights a run begins with and learns from, and which are refused: by the library, whoever calls it."""

from dataclasses import replace

import pytest
import torch

from cifar_export.errors import InvalidInput, Unavailable
from cifar_export.networks.zoo import MODELS, NETWORKS
from cifar_export.training import run
from cifar_export.training.holdout import HELD_OUT
from cifar_export.training.options import NamedWeights, Options
from cifar_export.training.recipe import DISTILL, QUICK
from cifar_export.training.sources import load_sources
from cifar_export.weights.index import bundled_entries
from cifar_export.weights.native import save_weights
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

TWENTY, THIRTY_TWO, FIFTY_SIX = (NETWORKS[f"cifar10_resnet{depth}"] for depth in (20, 32, 56))
HUNDRED = NETWORKS["cifar100_resnet20"]
OTHERS_KNOW = "may have been trained on the images that --holdout sets aside"


@pytest.fixture
def options(tmp_path):
    """A run of ResNet-32, without the data that it would need."""
    return Options(THIRTY_TWO, QUICK, tmp_path / "no data", output=tmp_path / "run", device="cpu")


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch):
    monkeypatch.setenv("CIFAR_EXPORT_UPSTREAM_URL", "http://127.0.0.1:9")


def refused(options, match):
    """By `train` itself, before the data is looked for, the network is asked or a folder is made."""
    with pytest.raises(InvalidInput, match=match):
        run.train(options)
    assert not options.folder.exists()


def test_nothing_is_loaded_unless_it_is_asked_for(options):
    assert load_sources(options) == (None, ())


def test_named_weights_are_loaded_and_loaded_ones_are_taken(options):
    named = NamedWeights("bundled", TWENTY)
    initial, _ = load_sources(replace(options, initial=named))
    assert initial.sha256 == bundled_entries()[TWENTY.name].sha256
    assert load_sources(replace(options, initial=initial))[0] is initial


def test_teachers_are_all_bundled_networks_of_the_data_set_unless_some_are_named(options):
    distilling = replace(options, network=HUNDRED, recipe=DISTILL)
    _, teachers = load_sources(distilling)
    assert [teacher.network.name for teacher in teachers] == [f"cifar100_{model}" for model in MODELS]
    assert [teacher.sha256 for teacher in teachers] == [
        bundled_entries()[teacher.network.name].sha256 for teacher in teachers
    ]
    _, teachers = load_sources(replace(distilling, teachers=(NamedWeights("bundled", HUNDRED),)))
    assert [teacher.network.name for teacher in teachers] == ["cifar100_resnet20"]


def test_a_run_that_is_resumed_needs_no_teachers(options):
    distilling = replace(options, recipe=DISTILL, resume=True)
    assert len(load_sources(distilling)[1]) == len(MODELS)  # there is no checkpoint: the run begins anew
    options.folder.mkdir()
    distilling.checkpoint.touch()
    assert load_sources(distilling)[1] == ()
    assert len(load_sources(replace(distilling, teachers=(NamedWeights("bundled", TWENTY),)))[1]) == 1
    assert len(load_sources(replace(distilling, resume=False))[1]) == len(MODELS)


@pytest.mark.parametrize("source", ["bundled", "upstream"])
@pytest.mark.parametrize("loaded", [False, True])
def test_weights_that_know_the_held_out_images_are_refused(options, source, loaded):
    given = NamedWeights(source, TWENTY)
    if loaded:
        given = replace(load_weights(TWENTY), source=source)
    refused(replace(options, holdout=True, initial=given), OTHERS_KNOW)
    refused(replace(options, holdout=True, recipe=DISTILL, teachers=(given,)), OTHERS_KNOW)
    with pytest.raises(Unavailable):  # without --holdout they are taken: what is missing is the data, or the network
        run.train(replace(options, initial=replace(given, normalization=THIRTY_TWO.dataset.normalization)))


def test_the_default_teachers_know_the_held_out_images_too(options):
    refused(replace(options, holdout=True, recipe=DISTILL), OTHERS_KNOW)


@pytest.mark.parametrize("images", ["test", HELD_OUT, None])
def test_weights_from_a_file_tell_whether_they_know_them(options, tmp_path, images):
    metrics = {"top1": 1.0} if images is None else {"top1": 1.0, "images": images}
    path = tmp_path / "weights.safetensors"
    save_weights(path, replace(random_weights(TWENTY, seed=1), source="trained", metrics=metrics))
    asked = replace(options, holdout=True, initial=NamedWeights(str(path), TWENTY))
    if images == HELD_OUT:
        assert load_sources(asked)[0].metrics == metrics
    else:
        refused(asked, OTHERS_KNOW)


def test_random_weights_know_nothing(options):
    seeded = random_weights(TWENTY, seed=1)
    assert load_sources(replace(options, holdout=True, initial=seeded)) == (seeded, ())


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (NamedWeights("upstream", FIFTY_SIX), "cifar10_resnet56, which is deeper"),
        (NamedWeights("no/such/file.pt", FIFTY_SIX), "cifar10_resnet56, which is deeper"),
        (NamedWeights("no/such/file.pt", TWENTY), "no/such/file.pt"),
    ],
)
def test_initial_weights_that_do_not_fit_are_refused_before_they_are_loaded(options, given, match):
    refused(replace(options, initial=given), match)


def test_published_weights_of_another_normalization_are_refused_before_they_are_downloaded(options):
    hundred = replace(options, network=NETWORKS["cifar100_resnet32"])
    refused(replace(hundred, initial=NamedWeights("upstream", HUNDRED)), r"0\.2673(.|\n)*0\.2009")
    own = HUNDRED.dataset.normalization  # who insists gets as far as the download
    with pytest.raises(Unavailable):
        run.train(replace(hundred, initial=NamedWeights("upstream", HUNDRED, own)))


def test_a_checkpoint_that_does_not_say_its_normalization_is_told_it(options, tmp_path):
    seeded = random_weights(TWENTY, seed=1)
    torch.save(seeded.state, tmp_path / "foreign.pt")
    named = NamedWeights(str(tmp_path / "foreign.pt"), TWENTY)
    refused(replace(options, initial=named), r"--mean R,G,B and --std R,G,B")
    told = replace(named, normalization=seeded.normalization)
    assert load_sources(replace(options, initial=told))[0].normalization == seeded.normalization


@pytest.mark.parametrize(
    ("recipe", "teachers", "match"),
    [
        (QUICK, (NamedWeights("bundled", TWENTY),), "recipe quick does not distill"),
        (DISTILL, (), "there are no teachers"),
        (DISTILL, (NamedWeights("bundled", HUNDRED),), "it tells other classes apart"),
    ],
)
def test_teachers_that_a_recipe_cannot_use_are_refused(options, recipe, teachers, match):
    refused(replace(options, recipe=recipe, teachers=teachers), match)


def test_a_body_is_frozen_only_where_there_is_a_trained_one(options):
    refused(replace(options, freeze_body=True), r"--freeze-body trains .* Add --initial-weights")
    seeded = random_weights(TWENTY, seed=1)
    assert load_sources(replace(options, freeze_body=True, initial=seeded)) == (seeded, ())
