"""What one epoch does to the network."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cifar_export.data import Split
from cifar_export.errors import GateFailed, InvalidInput, Unavailable
from cifar_export.networks import resnet
from cifar_export.networks.zoo import NETWORKS
from cifar_export.training import augment, checkpoint, environment
from cifar_export.training.distributed import Processes, processes
from cifar_export.training.loop import Job, Trainer
from cifar_export.training.recipe import DISTILL, QUICK, RELEASE, SEED, SWA, Recipe
from cifar_export.weights.seeded import random_weights

NETWORK = NETWORKS["cifar10_resnet20"]
ALONE = Processes(0, 1, torch.device("cpu"))
EPOCHS = [{"event": "epoch", "epoch": number} for number in (1, 2)]
PLAIN = replace(SEED, epochs=2, batch_size=16, crop_padding=0, flip="none")


def separable(images: int, seed: int = 0) -> Split:
    """Noise whose brightness tells the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, images)
    pixels = rng.integers(0, 60, (images, 32, 32, 3)) + 20 * labels[:, None, None, None]
    return Split(pixels.astype(np.uint8), labels.astype(np.int64))


def trainer(recipe: Recipe, images: int = 32, seed: int = 0) -> Trainer:
    split = separable(images)
    return Trainer(Job(NETWORK, recipe, split, split, seed=seed), ALONE)


def epoch(one: Trainer) -> dict[str, float]:
    return one.train_epoch(lambda step, steps: None)


def test_an_epoch_is_what_plain_pytorch_does():
    ours = trainer(PLAIN)
    theirs = resnet.build(NETWORK)
    theirs.load_state_dict(ours.network.state_dict())
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    split = separable(32)
    inputs = augment.Normalizer(NETWORK.dataset.normalization, ALONE.device)(torch.from_numpy(split.images))
    labels = torch.from_numpy(split.labels)
    order = augment.draw_epoch(PLAIN, torch.full((32,), torch.nan), 0, 0).order
    losses = []
    for batch in order.split(16):
        loss = F.cross_entropy(theirs(inputs[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    entry = epoch(ours)
    assert entry["loss"] == pytest.approx(np.mean(losses), rel=1e-3)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.network.state_dict()[name], parameter.data, rtol=1e-3, atol=1e-4)


def test_it_learns_what_can_be_learned():
    one = trainer(replace(QUICK, epochs=10, batch_size=32, peak_lr=0.1, label_smoothing=0, flip="random"), images=224)
    entries = [epoch(one) for _ in range(10)]
    assert entries[-1]["loss"] < 0.5 * entries[0]["loss"]
    assert entries[-1]["train_top1"] > entries[0]["train_top1"] + 30
    assert entries[-1]["top1"] > 60
    assert entries[-1]["top5"] >= entries[-1]["top1"]


def test_seeds_decide_the_weights():
    first, again, other = (trainer(PLAIN, seed=seed) for seed in (0, 0, 1))
    for one in (first, again, other):
        epoch(one)
    states = [
        torch.cat([t.flatten().double() for t in one.network.state_dict().values()]) for one in (first, again, other)
    ]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_making_a_trainer_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trainer(PLAIN)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("decayed", [True, False])
def test_weight_decay_spares_norms_and_biases_unless_told(decayed):
    recipe = replace(PLAIN, decay_norm_and_bias=decayed, weight_decay=0.5, peak_lr=1e-3, epochs=1)
    one = trainer(recipe)
    rates = {id(p): group["weight_decay"] for group in one.optimizer.param_groups for p in group["params"]}
    for name, parameter in one.network.named_parameters():
        is_matrix = name.endswith("weight") and "bn" not in name and "downsample.1" not in name
        assert rates[id(parameter)] == (0.5 if is_matrix or decayed else 0.0), name


def test_the_average_lags_behind_the_network_and_is_the_result():
    one = trainer(replace(PLAIN, ema_decay=0.5, batch_size=32))
    start = one.network.state_dict()["fc.weight"].clone()
    epoch(one)
    after_one = one.network.state_dict()["fc.weight"].clone()
    decay = 1 / 10  # the first step's, shorter than the recipe's
    expected = decay * start + (1 - decay) * after_one
    torch.testing.assert_close(one.result().state_dict()["fc.weight"], expected)
    assert one.result() is not one.network
    assert int(one.result().state_dict()["bn1.num_batches_tracked"]) == 1


def test_averaged_epochs_are_their_mean_with_batch_norms_measured_on_it():
    recipe = replace(PLAIN, epochs=4, batch_size=16, average_from=0.5)
    one, after = trainer(recipe), []
    for number in range(4):
        entry = epoch(one)
        after.append(one.network.state_dict()["fc.weight"].clone())
        assert (one.result() is one.network) == (number < 2)
        assert entry["top1"] == one.evaluate()["top1"]
    torch.testing.assert_close(one.result().state_dict()["fc.weight"], (after[2] + after[3]) / 2)

    expected = copy.deepcopy(one.result())
    inputs = augment.Normalizer(NETWORK.dataset.normalization, ALONE.device)(torch.from_numpy(separable(32).images))
    with torch.no_grad():  # one batch holds all 32 images
        first = expected.conv1(inputs)
    norm = one.result().bn1
    torch.testing.assert_close(norm.running_mean, first.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.running_var, first.var((0, 2, 3)), rtol=1e-4, atol=1e-4)
    assert norm.momentum == one.network.bn1.momentum
    assert one.network.training


def test_label_smoothing_is_torchs():
    recipe = replace(PLAIN, label_smoothing=0.3, batch_size=32)
    one = trainer(recipe)
    split = separable(32)
    inputs = augment.Normalizer(NETWORK.dataset.normalization, ALONE.device)(torch.from_numpy(split.images))
    with torch.no_grad():
        expected = F.cross_entropy(one.network(inputs), torch.from_numpy(split.labels), label_smoothing=0.3)
    assert epoch(one)["loss"] == pytest.approx(expected.item(), rel=1e-4)


def test_a_pruned_epoch_is_the_weighted_step_on_the_images_that_stay():
    recipe = replace(PLAIN, prune=0.5, batch_size=16, drop_last=True)
    one = trainer(recipe)
    before = {name: tensor.clone() for name, tensor in one.network.state_dict().items()}
    known = torch.linspace(0, 1, 32)
    one._losses.copy_(known)
    entry = epoch(one)
    draws = augment.draw_epoch(recipe, known, 0, 0)
    stay = draws.order[:16]  # one step
    assert entry["images"] == 16 < len(draws.order) < 32
    assert set(draws.weight[stay].tolist()) == {1.0, 2.0}

    theirs = resnet.build(NETWORK)
    theirs.load_state_dict(before)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    split = separable(32)
    inputs = augment.Normalizer(NETWORK.dataset.normalization, ALONE.device)(torch.from_numpy(split.images))
    losses = F.cross_entropy(theirs(inputs[stay]), torch.from_numpy(split.labels)[stay], reduction="none")
    (losses * draws.weight[stay]).mean().backward()
    optimizer.step()
    assert entry["loss"] == pytest.approx(losses.mean().item(), rel=1e-4)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(one.network.state_dict()[name], parameter.data, rtol=1e-3, atol=1e-4)

    expected = known.clone()  # images that were not used keep the loss they had
    expected[stay] = losses.detach()
    torch.testing.assert_close(one._losses, expected, rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_no_number_stops_the_run():
    one = trainer(replace(PLAIN, peak_lr=1e30, final_lr=1e30))
    with pytest.raises(GateFailed, match=r"the loss became .* in epoch 1|the weights became infinite in epoch 1"):
        epoch(one)
    assert one.epochs_done == 0


def test_reports_come_when_due_and_at_the_end():
    split = separable(32)
    one = Trainer(Job(NETWORK, replace(PLAIN, epochs=3), split, split, evaluate_every=2), ALONE)
    assert ["top1" in epoch(one) for _ in range(3)] == [False, True, True]


def test_training_goes_on_in_training_mode_after_a_report():
    one = trainer(PLAIN)
    one.evaluate()
    assert one.network.training


def test_more_processes_than_a_batch_has_images_are_refused():
    split = separable(32)
    with pytest.raises(InvalidInput, match="17 processes"):
        Trainer(Job(NETWORK, PLAIN, split, split), Processes(0, 17, ALONE.device))


def test_more_processes_than_images_are_refused():
    split = separable(3)
    with pytest.raises(InvalidInput, match="4 processes can't share 3 training images"):
        Trainer(Job(NETWORK, PLAIN, split, split), Processes(0, 4, ALONE.device))


def of_torchrun(monkeypatch: pytest.MonkeyPatch, **changed: str) -> None:
    """The environment of the second of two processes."""
    usual = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in (usual | changed).items():
        monkeypatch.setenv(name, value)


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch):
    of_torchrun(monkeypatch)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(Unavailable, match="process 2 here"), processes(torch.device("cuda")):
        pass


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.slow])])
@pytest.mark.parametrize("recipe", [SEED, RELEASE, SWA, DISTILL], ids=lambda recipe: recipe.name)
def test_each_device_learns_as_the_cpu_does_also_over_an_interruption(recipe, device, tmp_path):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    recipe = replace(recipe, epochs=4, batch_size=64, peak_lr=0.02, precision="float32", prune=0.0, drop_last=False)
    split = separable(200)  # the last batch is another size
    taught = (random_weights(NETWORK, seed=1),) if recipe.distill else ()
    job = Job(NETWORK, recipe, split, split, teachers=taught)
    losses = {}
    for name in dict.fromkeys(("cpu", device)):
        here = Processes(0, 1, torch.device(name))
        one = Trainer(job, here)
        one.ask_teachers(lambda *_: None)
        losses[name] = [epoch(one)["loss"] for _ in range(2)]
        checkpoint.save(tmp_path / name, one.checkpoint([{"event": "start"}, *EPOCHS]))
        one = Trainer(job, here)
        one.restore(checkpoint.load(tmp_path / name))
        losses[name] += [epoch(one)["loss"] for _ in range(2)]
    assert losses[device] == pytest.approx(losses["cpu"], rel=0.05)
    assert losses[device][-1] < losses[device][0]


def test_training_goes_on_without_compiling_where_that_is_impossible(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")

    network = torch.nn.Identity()
    assert environment.compiled(network, torch.device("cpu")) == (network, "")
    monkeypatch.setattr(torch, "compile", fail)
    assert environment.compiled(network, torch.device("cuda")) == (network, "RuntimeError: Failed to find C compiler")


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "MASTER_PORT"])
def test_an_environment_that_is_no_torchruns_is_refused(monkeypatch, name):
    of_torchrun(monkeypatch, **{name: "x"})
    with pytest.raises(InvalidInput, match=f"{name} in the environment is not a number: 'x'"), processes(ALONE.device):
        pass


def test_processes_that_do_not_find_each_other_say_so(monkeypatch):
    def nobody(_: str) -> None:  # the real one waits for minutes
        raise torch.distributed.DistNetworkError("The client socket has timed out.")

    of_torchrun(monkeypatch)
    monkeypatch.setattr(torch.distributed, "init_process_group", nobody)
    with pytest.raises(Unavailable, match="do not find each other"), processes(ALONE.device):
        pass
