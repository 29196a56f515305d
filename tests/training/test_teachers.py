"""Training on what other networks answer: knowledge distillation."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cifar_export.data import Split
from cifar_export.errors import InvalidInput
from cifar_export.networks import resnet
from cifar_export.networks.zoo import NETWORKS
from cifar_export.training import augment, checkpoint, run, teachers
from cifar_export.training.distributed import Processes
from cifar_export.training.log import read
from cifar_export.training.loop import Job, Trainer
from cifar_export.training.recipe import DISTILL, QUICK
from cifar_export.weights.core import build_network
from cifar_export.weights.seeded import random_weights

from support.data_files import noise

NETWORK = NETWORKS["cifar10_resnet20"]
ALONE = Processes(0, 1, torch.device("cpu"))
RECIPE = replace(DISTILL, epochs=2, batch_size=16, precision="float32", crop_padding=0, flip="none", warmup=0.0)


@pytest.fixture(scope="module")
def two():
    return tuple(random_weights(NETWORKS[f"cifar10_{model}"], seed=1) for model in ("resnet20", "resnet32"))


@pytest.fixture
def job(two):
    return Job(NETWORK, RECIPE, noise(32), noise(32), teachers=two)


@pytest.fixture(autouse=True)
def every_step_reports(monkeypatch):
    monkeypatch.setattr(run, "_STEPS_BETWEEN_REPORTS", 1)


def test_targets_are_the_mean_answer_on_images_and_their_mirror_images(two, monkeypatch):
    monkeypatch.setattr(teachers, "BATCH", 7)  # the last batch is shorter
    split, done = noise(32), []
    targets = teachers.soft_targets(
        two, NETWORK, split.images, RECIPE, ALONE.device, lambda number, batches: done.append((number, batches))
    )
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in vars(NETWORK.dataset.normalization).values())
    inputs = (torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        answers = [
            (build_network(teacher)(view) / RECIPE.temperature).softmax(1)
            for teacher in two
            for view in (inputs, inputs.flip(3))
        ]
    torch.testing.assert_close(targets, torch.stack(answers).mean(0), rtol=1e-4, atol=1e-5)
    assert done == [(number, 10) for number in range(1, 11)]


def test_the_distance_is_torchs_divergence_with_gradients_of_the_same_size_at_every_temperature():
    generator = torch.Generator().manual_seed(0)
    logits, other = torch.randn(2, 8, 10, generator=generator)
    targets = (other / 3).softmax(1)
    expected = 9 * F.kl_div((logits / 3).log_softmax(1), targets, reduction="batchmean")
    torch.testing.assert_close(teachers.distance(logits, targets, 3.0).mean(), expected)
    assert teachers.distance(other, targets, 3.0).abs().max() < 1e-5  # nothing, where the answers are the same
    # at a high temperature it is half the squared difference of centred logits, a class (Hinton et al., section 2.1)
    centred = (logits - logits.mean(1, keepdim=True)) - (other - other.mean(1, keepdim=True))
    hot = teachers.distance(logits.double(), (other.double() / 1e4).softmax(1), 1e4)
    torch.testing.assert_close(hot.float(), centred.square().sum(1) / 20, rtol=1e-3, atol=1e-5)


def test_a_step_weighs_labels_and_answers(job):
    one = Trainer(replace(job, recipe=replace(RECIPE, batch_size=32, distill=0.75)), ALONE)
    one.ask_teachers(lambda *_: None)
    split = noise(32)
    inputs = augment.Normalizer(NETWORK.dataset.normalization, ALONE.device)(torch.from_numpy(split.images))
    targets = teachers.soft_targets(job.teachers, NETWORK, split.images, RECIPE, ALONE.device)
    with torch.no_grad():
        logits = one.network(inputs)
    ours = (logits / RECIPE.temperature).log_softmax(1)
    expected = 0.25 * F.cross_entropy(logits, torch.from_numpy(split.labels))
    expected += 0.75 * RECIPE.temperature**2 * F.kl_div(ours, targets, reduction="batchmean")
    assert one.train_epoch(lambda *_: None)["loss"] == pytest.approx(expected.item(), rel=1e-4)


def test_what_only_teachers_know_is_learned(job):
    """The labels are noise and weigh nothing; after training the network answers more as its teachers do."""
    one = Trainer(replace(job, recipe=replace(RECIPE, epochs=8, distill=1.0, peak_lr=0.05)), ALONE)
    one.ask_teachers(lambda *_: None)
    losses = [one.train_epoch(lambda *_: None)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0] / 2


def stop_in_epoch(number: int):
    def callback(progress):
        if progress.epoch == number and progress.result is None:
            raise KeyboardInterrupt

    return callback


def test_a_run_goes_on_without_its_teachers_to_the_same_weights_but_not_with_others(job, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run.fit(job, tmp_path / "run", ALONE, on_progress=stop_in_epoch(2))
    other = replace(job, teachers=job.teachers[:1])
    with pytest.raises(InvalidInput, match=r"its teachers' sha256 is(.|\n)*--teacher if you like"):
        run.fit(other, tmp_path / "run", ALONE, resume=True)
    shuffled = Split(job.train.images[::-1], job.train.labels[::-1])
    with pytest.raises(InvalidInput, match="its training images' sha256 is"):  # answers are kept in the images' order
        run.fit(replace(job, train=shuffled), tmp_path / "run", ALONE, resume=True)
    run.fit(replace(job, teachers=()), tmp_path / "run", ALONE, resume=True)
    run.fit(job, tmp_path / "straight", ALONE)
    resumed, straight = (checkpoint.load(tmp_path / folder / "checkpoint.pt") for folder in ("run", "straight"))
    assert resumed.targets is not None
    assert torch.equal(resumed.targets, straight.targets)
    assert all(torch.equal(resumed.model[name], tensor) for name, tensor in straight.model.items())
    starts = [event["teachers"] for event in read(tmp_path / "run" / "log.jsonl") if event["event"] == "start"]
    assert starts == [[{"network": t.network.name, "sha256": t.sha256} for t in job.teachers]] * 2


def test_asking_the_teachers_is_reported_and_can_be_interrupted(job, tmp_path):
    heard = []
    run.fit(job, tmp_path / "run", ALONE, on_progress=heard.append)
    asked = [progress for progress in heard if progress.epoch == 0]
    assert [(progress.step, progress.steps) for progress in asked] == [(1, 2), (2, 2)]
    assert heard[: len(asked)] == asked
    assert all(math.isfinite(progress.images_per_second) and progress.result is None for progress in asked)
    assert (asked[0].seconds_left > 0, asked[-1].seconds_left) == (True, 0)
    with pytest.raises(KeyboardInterrupt):
        run.fit(job, tmp_path / "stopped", ALONE, on_progress=stop_in_epoch(0))
    assert not (tmp_path / "stopped" / run.CHECKPOINT).exists()
    trainer, _ = run.fit(job, tmp_path / "stopped", ALONE)
    assert trainer.epochs_done == RECIPE.epochs


def test_the_time_that_asking_takes_counts(job):
    one = Trainer(job, ALONE)
    one.ask_teachers(lambda *_: None)
    assert one.seconds > 0


def test_an_output_that_cannot_be_written_is_said_before_the_teachers_are_asked(job, tmp_path):
    (tmp_path / "file").touch()
    heard = []
    with pytest.raises(InvalidInput, match=r"log\.jsonl"):
        run.fit(job, tmp_path / "file" / "run", ALONE, on_progress=heard.append)
    assert heard == []


def test_a_checkpoint_that_lost_its_answers_is_refused(job, tmp_path):
    run.fit(job, tmp_path, ALONE)
    path = tmp_path / run.CHECKPOINT
    checkpoint.save(path, replace(checkpoint.load(path), targets=None))
    with pytest.raises(InvalidInput, match=r"lacks a part that its recipe wants: targets\. Remove it"):
        run.fit(job, tmp_path, ALONE, resume=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"teachers": ()}, "recipe distill distills, but there are no teachers"),
        ({"recipe": QUICK}, "recipe quick does not distill"),
        (
            {"teachers": (random_weights(NETWORKS["cifar100_resnet20"], 1),)},
            "cifar100_resnet20: it tells other classes",
        ),
    ],
    ids=["none", "not asked for", "data set"],
)
def test_teachers_that_cannot_teach_are_refused_before_anything_is_written(job, tmp_path, change, told):
    with pytest.raises(InvalidInput, match=told):
        run.fit(replace(job, **change), tmp_path / "run", ALONE)
    assert not (tmp_path / "run").exists()


def test_teachers_are_asked_in_the_normalization_they_were_trained_with(two):
    darker = replace(two[0].normalization, mean=(0.0, 0.0, 0.0), std=(0.5, 0.5, 0.5))
    same = teachers.soft_targets(two[:1], NETWORK, noise(4).images, RECIPE, ALONE.device)
    other = teachers.soft_targets(
        (replace(two[0], normalization=darker),), NETWORK, noise(4).images, RECIPE, ALONE.device
    )
    model = resnet.build(NETWORK)
    model.load_state_dict(two[0].state)
    inputs = torch.from_numpy(noise(4).images).permute(0, 3, 1, 2) / 255 / 0.5
    with torch.no_grad():
        answers = [(model.eval()(view) / RECIPE.temperature).softmax(1) for view in (inputs, inputs.flip(3))]
    torch.testing.assert_close(other, torch.stack(answers).mean(0), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(other, same)
