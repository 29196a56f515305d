"""Runs in an output folder: interruptions, refusals, and what is left at the end."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cifar_export.data import Split
from cifar_export.errors import GateFailed, InvalidInput, Unavailable
from cifar_export.networks.zoo import NETWORKS
from cifar_export.training import checkpoint, environment, holdout, run
from cifar_export.training.log import read
from cifar_export.training.loop import Job, Trainer
from cifar_export.training.recipe import DISTILL, PRESETS, SEED
from cifar_export.weights.sources import load_weights

from support.paths import ROOT
from support.small_run import ALONE, GENTLE, JOB, NETWORK, RECIPE, TEACHER, first_epoch_without_batch_statistics


class Interrupted(Exception):
    pass


def interrupt_in_epoch(number: int):
    def callback(progress):
        if progress.epoch == number and progress.result is None:
            raise Interrupted

    return callback


@pytest.fixture(autouse=True)
def every_step_reports(monkeypatch):
    monkeypatch.setattr(run, "_STEPS_BETWEEN_REPORTS", 1)


def interrupted_run(folder: Path, job: Job = JOB) -> None:
    with pytest.raises(Interrupted):
        run.fit(job, folder, ALONE, on_progress=interrupt_in_epoch(2))


def child(script: str, *arguments: str, torchrun: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `script`, which finds `job` and `output` ready, in a process of its own."""
    prelude = """
    import os, signal, sys
    from pathlib import Path
    import torch
    torch.set_num_threads(int(os.environ["THREADS"]))
    from cifar_export.training import run
    from support.small_run import ALONE, JOB as job
    run._STEPS_BETWEEN_REPORTS = 1
    output = Path(sys.argv[1])
    """
    file = Path(arguments[0]).parent / "child.py"
    file.write_text(textwrap.dedent(prelude) + textwrap.dedent(script))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"] if torchrun else []
    return subprocess.run(
        [sys.executable, *launcher, str(file), *arguments],
        cwd=ROOT,
        # as many threads as here: sums in another order would be other sums
        env={**os.environ, "THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


KILL_IN_AN_EPOCH = """
def die(progress):
    if progress.epoch == 2 and progress.result is None:
        os.kill(os.getpid(), signal.SIGKILL)
run.fit(job, output, ALONE, on_progress=die)
"""
KILL_WHILE_A_CHECKPOINT_IS_WRITTEN = """
real = os.replace
def die(source, target):
    if str(target).endswith("checkpoint.pt") and target.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = die
run.fit(job, output, ALONE)
"""


@pytest.mark.parametrize("killed", [KILL_IN_AN_EPOCH, KILL_WHILE_A_CHECKPOINT_IS_WRITTEN], ids=["epoch", "checkpoint"])
def test_kill_9_and_resume_give_the_same_weights_bit_by_bit(tmp_path, killed):
    assert child(killed, str(tmp_path / "killed")).returncode == -signal.SIGKILL
    assert checkpoint.load(tmp_path / "killed" / "checkpoint.pt").epochs_done == 1
    for folder in ("killed", "straight"):
        run.fit(JOB, tmp_path / folder, ALONE, resume=True)
    resumed, straight = (checkpoint.load(tmp_path / folder / "checkpoint.pt") for folder in ("killed", "straight"))
    assert resumed.epochs_done == straight.epochs_done == RECIPE.epochs
    for part in ("model", "average"):
        ours, theirs = getattr(resumed, part), getattr(straight, part)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    momenta = [[state["momentum_buffer"] for state in one.optimizer["state"].values()] for one in (resumed, straight)]
    assert all(torch.equal(a, b) for a, b in zip(*momenta, strict=True))


def test_an_average_of_epochs_survives_an_interruption_bit_by_bit(tmp_path):
    job = replace(JOB, recipe=replace(RECIPE, ema_decay=0.0, average_from=0.3))
    interrupted_run(tmp_path / "interrupted", job)
    results = [run.fit(job, tmp_path / f, ALONE, resume=True)[0].result() for f in ("interrupted", "straight")]
    ours, theirs = (result.state_dict() for result in results)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def stopped_within_epoch_2(folder: Path, job: Job) -> None:
    def stop(progress):
        if (progress.epoch, progress.step) == (2, 3):
            raise Interrupted

    with pytest.raises(Interrupted):
        run.fit(job, folder, ALONE, on_progress=stop)


LEARNING = replace(DISTILL, epochs=3, batch_size=8)
WITHIN = {
    "pruned and averaged": replace(JOB, recipe=replace(RECIPE, batch_size=8, prune=0.3)),
    "averaged by epochs": replace(JOB, recipe=replace(RECIPE, batch_size=8, ema_decay=0.0, average_from=0.3)),
    "distilled": replace(JOB, recipe=LEARNING, initial=TEACHER, teachers=(TEACHER,)),
}


@pytest.mark.parametrize("job", WITHIN.values(), ids=WITHIN)
def test_a_run_continues_within_an_epoch_bit_by_bit(tmp_path, monkeypatch, job):
    straight, straight_log = run.fit(job, tmp_path / "straight", ALONE)
    monkeypatch.setattr(run, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    stopped_within_epoch_2(tmp_path / "run", job)
    begun = checkpoint.load(tmp_path / "run" / "checkpoint.pt")
    assert begun.epochs_done == 1
    assert begun.under_way.step == 3
    told = []
    resumed, log = run.fit(job, tmp_path / "run", ALONE, resume=True, on_note=told.append)
    assert told == ["continuing in epoch 2 of 3, after 3 of its steps."]
    ours, theirs = (checkpoint.load(tmp_path / folder / "checkpoint.pt") for folder in ("run", "straight"))
    assert ours.identity == theirs.identity
    for name, part in vars(theirs).items():
        if name not in ("identity", "seconds", "events", "under_way"):
            torch.testing.assert_close(getattr(ours, name), part, rtol=0, atol=0, equal_nan=True, msg=name)
    assert ours.under_way is None
    assert torch.equal(resumed.result().state_dict()["fc.weight"], straight.result().state_dict()["fc.weight"])
    starts = [event for event in log.events if event["event"] == "start"]
    assert [event.get("resumed_after_step") for event in starts] == [None, 3]
    exact = ("event", "epoch", "loss", "train_top1", "learning_rate", "images", "top1")
    ours, theirs = (
        [[event[name] for name in exact] for event in one.events if event["event"] == "epoch"]
        for one in (log, straight_log)
    )
    assert ours == theirs


def test_a_checkpoint_within_an_epoch_is_written_once_in_two_minutes(tmp_path, monkeypatch):
    written, clock = [], iter(range(0, 100_000, 50))
    real = checkpoint.save
    monkeypatch.setattr(run.time, "perf_counter", lambda: float(next(clock)))  # 50 s pass from a look to the next
    monkeypatch.setattr(checkpoint, "save", lambda path, state: (written.append(state), real(path, state)))
    run.fit(replace(JOB, recipe=replace(RECIPE, epochs=1, batch_size=4, prune=0.0)), tmp_path, ALONE)
    within = [state.under_way.step for state in written if state.under_way]
    assert 1 < len(within) < 16
    assert len(written) == len(within) + 1  # and the one at the epoch's end


def test_what_diverged_replaces_no_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    recipe = replace(RECIPE, epochs=2, prune=0.0, schedule_unit="epoch", warmup=0.0, peak_lr=0.01, final_lr=1e30)
    job = replace(JOB, recipe=replace(recipe, batch_size=8))
    with pytest.raises(GateFailed, match=r"The last good checkpoint is \S+, in epoch 2\."):
        run.fit(job, tmp_path, ALONE)
    saved = checkpoint.load(tmp_path / "checkpoint.pt")
    assert saved.epochs_done == 1
    assert all(bool(tensor.isfinite().all()) for tensor in (*saved.model.values(), saved.under_way.totals))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", 0),
        ("seen", -1),
        ("step", "two"),
        ("totals", torch.zeros(3)),
        ("fresh", torch.zeros(3)),
        ("fresh", None),
        ("seconds", None),
    ],
)
def test_a_checkpoint_whose_epoch_is_damaged_is_refused(tmp_path, monkeypatch, name, value):
    monkeypatch.setattr(run, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    job = replace(JOB, recipe=replace(RECIPE, batch_size=8))
    stopped_within_epoch_2(tmp_path, job)
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    content["under_way"][name] = value
    torch.save(content, path)
    with pytest.raises(InvalidInput, match=r"damaged(.|\n)*Remove it to start the run anew"):
        run.fit(job, tmp_path, ALONE, resume=True)


def test_two_processes_share_each_batch_and_agree(tmp_path):
    script = """
    from dataclasses import replace
    from cifar_export.training.distributed import processes
    from cifar_export.training.loop import Trainer
    from cifar_export.training.recipe import DISTILL
    from support.small_run import GENTLE, TEACHER, first_epoch_without_batch_statistics
    with processes(torch.device("cpu")) as here:
        trainer, log = run.fit(job, output, here)
        weights = {name: p.detach() for name, p in trainer.network.named_parameters()}
        weights["losses"] = trainer._losses
        learning = replace(job, recipe=replace(DISTILL, batch_size=32), teachers=(TEACHER,))
        taught = Trainer(learning, here)
        taught.ask_teachers(lambda *_: None)
        weights["targets"] = taught._targets
        assert here.agree(3)
        assert not here.agree(here.rank)
        weights |= first_epoch_without_batch_statistics(Trainer(replace(job, recipe=GENTLE), here))
        torch.save(weights, output / f"rank{here.rank}.pt")
        here.wait()
    """
    result = child(script, str(tmp_path / "run"), torchrun=True)
    assert result.returncode == 0, result.stderr
    first, second = (torch.load(tmp_path / "run" / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not bool(first["losses"].isnan().any())  # each knows what the other saw, or they would prune otherwise
    taught = Trainer(replace(JOB, recipe=DISTILL, teachers=(TEACHER,)), ALONE)
    taught.ask_teachers(lambda *_: None)  # each process asked about half of the images
    torch.testing.assert_close(first["targets"], taught._targets, rtol=1e-4, atol=1e-5)
    frozen = first_epoch_without_batch_statistics(Trainer(replace(JOB, recipe=GENTLE), ALONE))
    for name, expected in frozen.items():  # the same images, crops and mean gradient
        assert (first[name] - expected).norm() < 1e-3 * expected.norm(), name
    alone, _ = run.fit(JOB, tmp_path / "alone", ALONE)
    # Batch norm sees half a batch at a time, hence the tolerance.
    events = [[e for e in read(tmp_path / f / "log.jsonl") if e["event"] == "epoch"] for f in ("run", "alone")]
    for shared, single in zip(*events, strict=True):
        assert shared["loss"] == pytest.approx(single["loss"], rel=0.2)
    distance, size = (
        sum(float((p - other[name]).square().sum()) for name, p in alone.network.state_dict().items() if name in first)
        for other in (first, dict.fromkeys(first, 0))
    )
    assert distance < 0.1 * size
    assert read(tmp_path / "run" / "log.jsonl")[0]["processes"] == 2


def test_the_command_under_torchrun_leaves_one_run_and_prints_one_document(tmp_path, write_cifar):
    write_cifar(tmp_path / "data", NETWORK.dataset, train=100, test=50)
    script = """
    from dataclasses import replace
    from cifar_export import __main__ as cli
    import cifar_export.commands.train
    small = replace(job.network, dataset=replace(job.network.dataset, train_images=100, test_images=50))
    cifar_export.commands.train.network = lambda model, dataset: small
    cli.main(["train", "resnet20", "--output", str(output), *sys.argv[2:]])
    """
    options = ["--data-dir", str(tmp_path / "data"), "--recipe", "swa", "--device", "cpu", "--json"]
    result = child(script, str(tmp_path / "run"), *options, "--epochs", "2", torchrun=True)
    assert result.returncode == 0, result.stderr
    weights = load_weights(NETWORK, str(tmp_path / "run" / "weights.safetensors"))
    assert json.loads(result.stdout)["sha256"] == weights.sha256
    result = child(script, str(tmp_path / "run"), *options, "--epochs", "3", "--resume", torchrun=True)
    assert result.returncode == 1, result.stderr  # torchrun's own, whatever its processes ended with
    assert "its recipe's epochs is 2, not 3" in json.loads(result.stdout)["error"]


def test_an_interruption_leaves_no_gap_and_no_double_in_the_log(tmp_path):
    interrupted_run(tmp_path)
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"event": "epoch", "epoch": 2, "logged": "after the checkpoint"')
    run.fit(JOB, tmp_path, ALONE, resume=True)
    events = read(tmp_path / "log.jsonl")
    assert [event["event"] for event in events] == ["start", "epoch", "start", "epoch", "epoch"]
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2, 3]
    assert [event["resumed_after_epoch"] for event in events if event["event"] == "start"] == [0, 1]


def test_who_resumes_is_told_where_the_run_goes_on_and_what_is_different(tmp_path, monkeypatch):
    told = []
    run.fit(JOB, tmp_path / "new", ALONE, resume=True, on_note=told.append)
    assert told == [f"there is no checkpoint in {tmp_path / 'new'}: the run begins anew."]
    interrupted_run(tmp_path / "run")
    told.clear()
    with pytest.raises(Interrupted):
        run.fit(JOB, tmp_path / "run", ALONE, resume=True, on_note=told.append, on_progress=interrupt_in_epoch(2))
    assert told == ["continuing after epoch 1 of 3."]
    ours = environment.versions()
    for versions, done in (({"torch": "9.9"}, 1), (ours, 2)):  # then as at first: the part between stays another
        told.clear()
        monkeypatch.setattr(environment, "versions", versions.copy)
        with pytest.raises(Interrupted):
            run.fit(JOB, tmp_path / "run", ALONE, resume=True, on_note=told.append, on_progress=interrupt_in_epoch(3))
        assert told[0] == f"continuing after epoch {done} of 3."
        assert "versions so far" in told[1]
        assert "9.9" in told[1]
        assert len(told) == 2


@pytest.mark.parametrize("name", PRESETS)
def test_recipes_for_trained_weights_say_so_when_they_begin_with_random_ones(tmp_path, name):
    job, told = replace(JOB, recipe=replace(RECIPE, name=name)), []
    for begun in (job, replace(job, initial=TEACHER)):
        with pytest.raises(Interrupted):
            run.fit(begun, tmp_path / "run", ALONE, on_note=told.append, on_progress=interrupt_in_epoch(1))
    expected = [f"recipe {name} is meant for trained weights, but this run begins with random ones."]
    assert [note.partition(" Name some")[0] for note in told] == expected * (name in ("restart", "swa", "distill"))
    interrupted_run(tmp_path / "run", job)
    told.clear()
    with pytest.raises(Interrupted):
        run.fit(job, tmp_path / "run", ALONE, resume=True, on_note=told.append, on_progress=interrupt_in_epoch(2))
    assert told == ["continuing after epoch 1 of 3."]


def test_a_device_without_memory_for_it_is_named(options, monkeypatch):
    def no_room(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Trainer, "train_epoch", no_room)
    with pytest.raises(Unavailable, match=r"is full: CUDA out of memory(.|\n)*--device cpu"):
        run.train(options)


def test_one_process_at_a_time_trains_in_a_folder(options):
    def train_beside(progress):
        with pytest.raises(Unavailable, match="another process trains in"):
            run.train(replace(options, seed=7))
        raise Interrupted

    leftover = options.folder / ".0123abcd.tmp.checkpoint.pt"  # of a process that was killed
    options.folder.mkdir()
    leftover.touch()
    with pytest.raises(Interrupted):
        run.train(options, train_beside)
    assert [event["seed"] for event in read(options.folder / "log.jsonl")] == [options.seed]
    assert sorted(path.name for path in options.folder.iterdir()) == ["log.jsonl"]


def test_a_run_that_is_refused_leaves_no_folder(options):
    with pytest.raises(InvalidInput, match="no teachers"):
        run.train(replace(options, recipe=DISTILL, teachers=()))
    assert not options.folder.exists()


def test_finished_weights_without_their_checkpoint_are_not_overwritten(options):
    run.train(options)
    (options.folder / "checkpoint.pt").unlink()
    before = {path.name: path.read_bytes() for path in options.folder.iterdir()}
    for resume in (False, True):
        with pytest.raises(InvalidInput, match="a finished run without its checkpoint"):
            run.train(replace(options, resume=resume))
    assert {path.name: path.read_bytes() for path in options.folder.iterdir()} == before


def test_half_of_torchruns_environment_is_an_error(options, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidInput, match="RANK, MASTER_ADDR, MASTER_PORT is not"):
        run.train(options)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    interrupted_run(tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(InvalidInput, match="--resume"):
        run.fit(JOB, tmp_path, ALONE)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(JOB, network=NETWORKS["cifar10_resnet32"]), "network is cifar10_resnet20, not cifar10_resnet32"),
        (replace(JOB, network=NETWORKS["cifar100_resnet20"]), "network is cifar10_resnet20, not cifar100_resnet20"),
        (replace(JOB, recipe=replace(RECIPE, name="other")), "recipe is quick, not other"),
        (replace(JOB, recipe=replace(RECIPE, epochs=9)), "recipe's epochs is 3, not 9"),
        (replace(JOB, seed=1), "seed is 0, not 1"),
        (replace(JOB, holdout=True), "holdout is False, not True"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path, other, named):
    interrupted_run(tmp_path)
    with pytest.raises(InvalidInput, match=named):
        run.fit(other, tmp_path, ALONE, resume=True)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None], ids=["empty", "text", "truncated"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    interrupted_run(tmp_path)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:5000] if damage is None else damage)
    with pytest.raises(InvalidInput, match="Remove it to start the run anew"):
        run.fit(JOB, tmp_path, ALONE, resume=True)


def test_a_checkpoint_with_one_wrong_bit_is_refused(tmp_path):
    interrupted_run(tmp_path)
    path = tmp_path / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="Remove it to start the run anew"):
        run.fit(JOB, tmp_path, ALONE, resume=True)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("model", {}),
        ("optimizer", {}),
        ("average", {"conv1.weight": torch.zeros(1)}),
        ("losses", torch.zeros(3)),
    ],
)
def test_a_checkpoint_with_a_part_of_something_else_is_refused(tmp_path, part, value):
    interrupted_run(tmp_path)
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, replace(checkpoint.load(path), **{part: value}))
    with pytest.raises(InvalidInput, match=r"damaged(.|\n)*Remove it to start the run anew"):
        run.fit(JOB, tmp_path, ALONE, resume=True)


@pytest.mark.parametrize("part", ["average", "losses"])
def test_a_checkpoint_that_lost_what_its_recipe_keeps_is_refused(tmp_path, part):
    run.fit(JOB, tmp_path, ALONE)  # to its end, where a random average would be the result
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, replace(checkpoint.load(path), **{part: None}))
    with pytest.raises(InvalidInput, match=f"lacks a part that its recipe needs: {part}"):
        run.fit(JOB, tmp_path, ALONE, resume=True)


@pytest.mark.parametrize("events", [[], [{}], [{"event": "start"}], [{"event": "epoch", "epoch": 1}], ["start"], "log"])
def test_a_checkpoint_whose_log_is_another_is_refused(tmp_path, events):
    interrupted_run(tmp_path)
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, replace(checkpoint.load(path), events=events))
    with pytest.raises(InvalidInput, match="not a checkpoint that this version can read"):
        run.fit(JOB, tmp_path, ALONE, resume=True)


@pytest.mark.parametrize("recipe", [RECIPE, replace(SEED, epochs=3, batch_size=32)], ids=lambda recipe: recipe.name)
def test_a_runs_checkpoint_is_not_taken_for_its_result(tmp_path, recipe):
    interrupted_run(tmp_path, replace(JOB, recipe=recipe))
    with pytest.raises(InvalidInput, match="it is the checkpoint of a training run") as caught:
        load_weights(NETWORK, str(tmp_path / "checkpoint.pt"), NETWORK.dataset.normalization)
    assert str(caught.value).count("\n") < 2


@pytest.mark.parametrize("part", ["identity", "model", "events"])
def test_a_checkpoint_that_lacks_a_part_is_refused(tmp_path, part):
    interrupted_run(tmp_path)
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    del content[part]
    torch.save(content, path)
    with pytest.raises(InvalidInput, match="not a checkpoint that this version can read"):
        run.fit(JOB, tmp_path, ALONE, resume=True)


def test_a_checkpoint_of_an_older_version_is_continued(tmp_path):
    job = replace(JOB, recipe=replace(RECIPE, prune=0.0))  # what came later is at its default
    interrupted_run(tmp_path / "older", job)
    path = tmp_path / "older" / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    for name in ("prune", "prune_until", "average_from", "distill", "temperature"):
        del content["identity"]["recipe"][name]
    for name in ("teachers", "images"):
        del content["identity"][name]
    del content["losses"], content["targets"]
    torch.save(content, path)
    for folder in ("older", "straight"):
        run.fit(job, tmp_path / folder, ALONE, resume=True)
    ours, theirs = (checkpoint.load(tmp_path / folder / "checkpoint.pt").model for folder in ("older", "straight"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path):
    class Code:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"format": 1, "model": Code()}, tmp_path / "checkpoint.pt")
    with pytest.raises(InvalidInput, match="not a checkpoint"):
        run.fit(JOB, tmp_path, ALONE, resume=True)
    assert not (tmp_path / "ran").exists()


def test_resume_without_a_checkpoint_starts_anew(tmp_path):
    trainer, _ = run.fit(replace(JOB, recipe=replace(RECIPE, epochs=1)), tmp_path, ALONE, resume=True)
    assert trainer.epochs_done == 1


def test_a_diverged_run_names_the_epoch_and_the_last_good_checkpoint(tmp_path):
    recipe = replace(RECIPE, epochs=2, prune=0.0, schedule_unit="epoch", warmup=0.0, peak_lr=0.01, final_lr=1e30)
    with pytest.raises(GateFailed) as caught:
        run.fit(replace(JOB, recipe=recipe), tmp_path, ALONE)
    assert "in epoch 2." in str(caught.value)
    assert f"{tmp_path / 'checkpoint.pt'}, after epoch 1." in str(caught.value)
    saved = checkpoint.load(tmp_path / "checkpoint.pt")
    assert saved.epochs_done == 1
    assert all(bool(tensor.isfinite().all()) for tensor in saved.model.values())


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 2:  # the log and the first checkpoint still fit, the log of the second epoch does not
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match=r"log\.jsonl: No space left on device"):
        run.fit(JOB, tmp_path, ALONE)
    assert checkpoint.load(tmp_path / "checkpoint.pt").epochs_done == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "log.jsonl"]


def test_an_unwritable_output_is_found_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="file"):
        run.fit(JOB, tmp_path / "file" / "run", ALONE, on_progress=lambda progress: pytest.fail("it trained"))


def test_the_time_left_knows_that_pruned_epochs_are_shorter(tmp_path):
    recipe = replace(RECIPE, epochs=5, prune_until=0.5, drop_last=False)
    heard = []
    run.fit(replace(JOB, recipe=recipe), tmp_path, ALONE, on_progress=heard.append)
    done = [progress for progress in heard if progress.result is not None]
    assert done[1].result["images"] < 64  # the second epoch, as the third, leaves some out; the last two don't
    left = [progress.seconds_left * progress.images_per_second for progress in done]
    assert left[1:] == pytest.approx([done[1].result["images"] + 2 * 64, 2 * 64, 64, 0])


@pytest.fixture
def options(tmp_path, write_cifar) -> run.Options:
    """A run on a tiny data set in the official layout."""
    dataset = write_cifar(tmp_path / "data", NETWORK.dataset, train=100, test=50)
    return run.Options(
        network=replace(NETWORK, dataset=dataset),
        recipe=replace(RECIPE, epochs=1),
        data_dir=tmp_path / "data",
        output=tmp_path / "run",
        device="cpu",
    )


def test_a_complete_run_leaves_weights_log_curve_and_numbers(options):
    heard = []
    result = run.train(options, heard.append)
    assert sorted(p.name for p in options.folder.iterdir()) == [
        "checkpoint.pt",
        "curve.png",
        "log.jsonl",
        "weights.safetensors",
    ]
    weights = load_weights(NETWORK, str(result.weights))
    assert weights.sha256 == result.sha256
    assert weights.normalization == NETWORK.dataset.normalization
    assert weights.recipe == options.recipe.as_dict()
    assert (weights.metrics["top1"], weights.metrics["top5"]) == (result.top1, result.top5)
    average = checkpoint.load(options.folder / "checkpoint.pt").average
    assert all(torch.equal(weights.state[name], average[name]) for name in average)
    start, epoch, end = read(options.folder / "log.jsonl")
    assert {"hardware", "precision", "versions", "commit", "seed", "recipe", "normalization"} <= set(start)
    assert {"epoch", "loss", "train_top1", "learning_rate", "images_per_second", "seconds", "top1"} <= set(epoch)
    assert (end["event"], end["sha256"], end["top1"]) == ("end", result.sha256, result.top1)
    assert end["seconds"] == pytest.approx(epoch["seconds"])
    assert heard[-1].result["top1"] == result.top1
    assert heard[-1].seconds_left == pytest.approx(0)
    with Image.open(options.folder / "curve.png") as curve:
        assert curve.format == "PNG"
        assert curve.size == (900, 620)
    json.dumps(result.as_dict(), allow_nan=False)


def test_a_complete_run_resumed_gives_the_same_files(options):
    first = run.train(options)
    log = (options.folder / "log.jsonl").read_text()
    again = run.train(replace(options, resume=True))
    assert again.sha256 == first.sha256
    assert (options.folder / "log.jsonl").read_text() == log


def test_a_holdout_run_never_reads_the_test_set(options, monkeypatch):
    monkeypatch.setattr(holdout, "HELD_OUT_IMAGES", 30)
    (options.data_dir / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    result = run.train(replace(options, holdout=True))
    assert result.holdout
    assert read(options.folder / "log.jsonl")[0]["holdout"] is True
    with pytest.raises(Unavailable, match="test_batch"):
        run.train(replace(options, output=options.folder / "other"))


def test_held_out_images_are_a_fixed_tenth_that_is_not_trained_on():
    split = Split(np.arange(50_000).reshape(-1, 1, 1, 1), np.arange(50_000))
    kept, held = holdout.hold_out(split)
    assert (len(kept.images), len(held.images)) == (45_000, 5_000)
    assert sorted([*kept.labels, *held.labels]) == list(range(50_000))
    assert np.array_equal(held.labels, holdout.hold_out(split)[1].labels)
    assert np.array_equal(held.images.ravel(), held.labels)


def test_cuda_without_a_gpu_is_said_before_anything_is_read(options, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Unavailable, match="--device cpu"):
        run.train(replace(options, device="cuda", data_dir=Path("nowhere")))


def test_tensorboard_that_is_not_installed_is_said_with_the_fix(options, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(Unavailable, match=r"cifar-export\[tensorboard\]"):
        run.train(replace(options, tensorboard=True))


def test_tensorboard_gets_every_epoch(options):
    pytest.importorskip("tensorboard", reason="needs the extra `tensorboard`")
    run.train(replace(options, tensorboard=True))
    written = list((options.folder / "tensorboard").iterdir())
    assert any("tfevents" in path.name for path in written)
    with pytest.raises(InvalidInput, match="holds a run already"):
        run.train(replace(options, tensorboard=True))
    assert list((options.folder / "tensorboard").iterdir()) == written  # a refused run adds nothing


def test_runs_of_different_kinds_have_different_folders(options):
    named = {
        replace(options, output=None, **change).folder
        for change in ({}, {"seed": 1}, {"holdout": True}, {"network": NETWORKS["cifar100_resnet20"]})
    }
    assert len(named) == 4


def test_bf16_is_used_only_where_it_is_computed(monkeypatch):
    for has, expected in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(environment, "computes_bf16", lambda device, has=has: has)
        assert environment.precision(RECIPE, ALONE.device) == expected
        assert environment.precision(replace(RECIPE, precision="float32"), ALONE.device) == "float32"
