"""Training that starts from trained weights: of the network itself, or of a shallower one that is grown."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cifar_export.errors import InvalidInput
from cifar_export.networks import resnet
from cifar_export.networks.zoo import NETWORKS, Normalization, network
from cifar_export.training import checkpoint, initial, run
from cifar_export.training.distributed import Processes
from cifar_export.training.log import read
from cifar_export.training.loop import Job, Trainer
from cifar_export.training.recipe import RESTART
from cifar_export.weights.core import build_network
from cifar_export.weights.seeded import random_weights

from support.data_files import noise

ALONE = Processes(0, 1, torch.device("cpu"))
SHALLOW = random_weights(NETWORKS["cifar100_resnet20"], seed=1)


def job(model: str, weights=SHALLOW) -> Job:
    recipe = replace(RESTART, epochs=1, batch_size=16, precision="float32")
    return Job(network(model, "cifar100"), recipe, noise(32, 100), noise(32, 100), initial=weights)


@pytest.mark.parametrize("model", ["resnet20", "resnet32", "resnet44", "resnet56"])
def test_a_grown_network_begins_with_the_logits_of_the_shallower_one(model):
    deep = Trainer(job(model), ALONE).network.eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = build_network(SHALLOW)(images)
        assert expected.std() > 0.1
        torch.testing.assert_close(deep(images), expected)


def test_every_added_block_learns():
    trainer = Trainer(job("resnet32"), ALONE)
    before = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    trainer.train_epoch(lambda *_: None)
    after = trainer.network.state_dict()
    unmoved = [
        name for name, tensor in after.items() if tensor.is_floating_point() and torch.equal(tensor, before[name])
    ]
    assert unmoved == []
    scales = [name for name in after if name.endswith("bn2.weight") and name not in SHALLOW.state]
    assert len(scales) == 3 * 2  # resnet32 has two blocks a stage more
    assert all(bool((before[name] == 0).all()) for name in scales)


def test_the_given_weights_are_left_alone():
    before = {name: tensor.clone() for name, tensor in SHALLOW.state.items()}
    Trainer(job("resnet20"), ALONE).train_epoch(lambda *_: None)
    assert all(torch.equal(before[name], tensor) for name, tensor in SHALLOW.state.items())


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (random_weights(NETWORKS["cifar100_resnet44"], 1), "cifar100_resnet44, which is deeper"),
        (replace(SHALLOW, normalization=Normalization((0.4, 0.5, 0.6), (0.2, 0.2, 0.2))), r"mean \[0.4, 0.5, 0.6\]"),
    ],
    ids=["deeper", "normalization"],
)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, weights, told):
    with pytest.raises(InvalidInput, match=told):
        run.fit(job("resnet32", weights), tmp_path / "run", ALONE)
    assert not (tmp_path / "run").exists()


def test_loading_is_in_place_and_keeps_fresh_convolutions():
    spec = NETWORKS["cifar100_resnet32"]
    fresh = resnet.build(spec)
    added = fresh.layer3[4].conv1.weight
    before = added.clone()
    initial.load(fresh, spec, SHALLOW)
    assert torch.equal(added, before)
    assert torch.equal(fresh.fc.weight, SHALLOW.state["fc.weight"])


def interrupted(folder: Path, job: Job) -> None:
    """Train the first epoch of `job` only."""

    def stop(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.fit(job, folder, ALONE, on_progress=stop)


def test_a_run_goes_on_without_the_weights_it_started_from_but_not_with_others(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_STEPS_BETWEEN_REPORTS", 1)
    two_epochs = replace(job("resnet20").recipe, epochs=2)
    begun = replace(job("resnet20"), recipe=two_epochs)
    interrupted(tmp_path / "run", begun)
    other = replace(begun, initial=random_weights(NETWORKS["cifar100_resnet20"], seed=2))
    says = r"its initial weights' sha256 is(.|\n)*--initial-weights and --teacher may be left out"
    with pytest.raises(InvalidInput, match=says):
        run.fit(other, tmp_path / "run", ALONE, resume=True)
    run.fit(replace(begun, initial=None), tmp_path / "run", ALONE, resume=True)  # they may be gone by now
    straight, _ = run.fit(begun, tmp_path / "straight", ALONE)
    events = read(tmp_path / "run" / "log.jsonl")
    starts = [event["initial"] for event in events if event["event"] == "start"]
    assert starts == [{"network": "cifar100_resnet20", "sha256": SHALLOW.sha256}] * 2
    saved = checkpoint.load(tmp_path / "run" / "checkpoint.pt")
    assert saved.identity.initial == SHALLOW.sha256
    assert all(torch.equal(saved.model[name], tensor) for name, tensor in straight.network.state_dict().items())


def test_a_run_from_random_weights_does_not_go_on_as_one_from_trained_weights(tmp_path):
    run.fit(job("resnet20", None), tmp_path, ALONE)
    with pytest.raises(InvalidInput, match="its initial weights' sha256 is None"):
        run.fit(job("resnet20"), tmp_path, ALONE, resume=True)


OTHER = replace(
    random_weights(NETWORKS["cifar10_resnet20"], 1), normalization=Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
)


def test_weights_of_other_classes_give_their_body_and_the_last_layer_begins_anew(tmp_path):
    notes = []
    asked = job("resnet20", OTHER)
    asked = replace(asked, network=initial.begun_from(asked.network, OTHER))
    before = Trainer(asked, ALONE).network.state_dict()
    assert all(torch.equal(before[name], OTHER.state[name]) for name in before if not name.startswith("fc."))
    assert torch.equal(before["fc.weight"], Trainer(replace(asked, initial=None), ALONE).network.fc.weight)
    run.fit(asked, tmp_path / "run", ALONE, on_note=notes.append)
    assert notes == [
        "the body is that of cifar10_resnet20, images are normalized as it was trained, and the last layer begins anew "
        "for 100 classes."
    ]
    (start, *_) = read(tmp_path / "run" / "log.jsonl")
    assert start["normalization"] == OTHER.normalization.as_dict()


def test_a_run_on_another_body_goes_on_with_its_normalization_without_that_body(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_STEPS_BETWEEN_REPORTS", 1)
    plain = replace(job("resnet20", OTHER), recipe=replace(job("resnet20").recipe, epochs=2))
    begun = replace(plain, network=initial.begun_from(plain.network, OTHER))
    interrupted(tmp_path / "run", begun)
    resumed, _ = run.fit(replace(plain, initial=None), tmp_path / "run", ALONE, resume=True)
    straight, _ = run.fit(begun, tmp_path / "straight", ALONE)
    for name, tensor in straight.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_a_frozen_body_stays_as_it_was_and_the_last_layer_learns(tmp_path):
    asked = replace(job("resnet20"), freeze_body=True)
    trainer = Trainer(asked, ALONE)
    trainer.train_epoch(lambda *_: None)
    after = trainer.network.state_dict()
    changed = {name for name in after if not torch.equal(after[name], SHALLOW.state[name])}
    assert changed == {"fc.weight", "fc.bias"}
    run.fit(asked, tmp_path / "run", ALONE)
    with pytest.raises(InvalidInput, match="its frozen body is True, not False"):
        run.fit(replace(asked, freeze_body=False), tmp_path / "run", ALONE, resume=True)
