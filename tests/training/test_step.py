"""A step that is recorded and repeated trains as one that is computed anew each time.

The CPU, which records nothing, runs the same functions: a recording there is a function that computes the step again
from what the recorder was given. The test marked `cuda` records for real.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_export.errors import GateFailed
from cifar_export.training import checkpoint, loop, run, step
from cifar_export.training.distributed import Processes
from cifar_export.training.loop import Job, Trainer
from cifar_export.training.recipe import DISTILL

from support.data_files import noise
from support.small_run import ALONE, JOB, NETWORK, RECIPE, TEACHER

PLAIN = replace(RECIPE, batch_size=8, ema_decay=0.0, prune=0.0)
JOBS = {  # 64 images: 24 steps in three epochs, and some less where images are left out
    "plain": replace(JOB, recipe=PLAIN),
    "averaged": replace(JOB, recipe=replace(PLAIN, ema_decay=0.9)),
    "averaged by epochs": replace(JOB, recipe=replace(PLAIN, average_from=0.3)),
    "pruned": replace(JOB, recipe=replace(PLAIN, prune=0.3, ema_decay=0.9)),
    "distilled": replace(JOB, recipe=replace(DISTILL, epochs=3, batch_size=8), initial=TEACHER, teachers=(TEACHER,)),
    "last layer alone": replace(JOB, recipe=PLAIN, initial=TEACHER, freeze_body=True),
    "a last batch of another size": replace(JOB, recipe=replace(PLAIN, batch_size=7, drop_last=False)),
}
Again = Callable[[], None]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Again]:
    """Let trainers record their steps; what they recorded is listed."""
    recordings: list[Again] = []

    def record(compute: Again, stream: object) -> Again:
        recordings.append(compute)
        return compute

    monkeypatch.setattr(loop, "recorder", lambda processes: record)
    return recordings


def trained(job: Job, here: Processes = ALONE) -> tuple[Trainer, list[dict[str, Any]]]:
    one = Trainer(job, here)
    one.ask_teachers(lambda *_: None)
    return one, [one.train_epoch(lambda *_: None) for _ in range(job.recipe.epochs)]


def state(one: Trainer) -> dict[str, Any]:
    """All that a checkpoint has of a run's numbers."""
    saved = vars(one.checkpoint([]))
    return {name: saved[name] for name in ("model", "optimizer", "average", "losses", "targets", "epochs_done")}


def assert_same(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


TOLD = ("loss", "train_top1", "learning_rate", "images")


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_repeated_step_trains_to_the_same_bits(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    one, entries = trained(job)
    recordings: list[Again] = []
    monkeypatch.setattr(
        loop, "recorder", lambda processes: lambda compute, stream: (recordings.append(compute), compute)[1]
    )
    other, others = trained(job)
    assert_same(state(other), state(one))
    assert [[entry[name] for name in TOLD] for entry in others] == [[entry[name] for name in TOLD] for entry in entries]
    assert len(recordings) == 1  # once in the whole run
    assert other.why_not_recorded == ""


def test_the_first_steps_are_computed_before_one_is_recorded(recorded: list[Again]) -> None:
    one = Trainer(JOBS["plain"], ALONE)
    seen: list[int] = []
    one.train_epoch(lambda done, steps: seen.append(len(recorded)))
    assert seen == [0] * step.WARM_UP + [1] * (8 - step.WARM_UP)


def test_a_run_of_repeated_steps_continues_within_an_epoch_bit_by_bit(
    recorded: list[Again], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Exception):
        pass

    def stop(progress: Any) -> None:
        if (progress.epoch, progress.step) == (2, 3):
            raise Interrupted

    job = JOBS["pruned"]
    straight, _ = run.fit(job, tmp_path / "straight", ALONE)
    monkeypatch.setattr(run, "_STEPS_BETWEEN_REPORTS", 1)
    monkeypatch.setattr(run, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(Interrupted):
        run.fit(job, tmp_path / "run", ALONE, on_progress=stop)
    begun = checkpoint.load(tmp_path / "run" / "checkpoint.pt")
    assert begun.under_way is not None
    assert begun.under_way.step == 3
    assert isinstance(begun.optimizer["param_groups"][0]["lr"], float)  # as in every checkpoint before
    resumed, _ = run.fit(job, tmp_path / "run", ALONE, resume=True)
    assert_same(state(resumed), state(straight))
    assert len(recorded) == 3


def test_a_step_that_cannot_be_recorded_is_computed_anew_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(compute: Again, stream: object) -> Again:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    job = JOBS["averaged"]
    expected, _ = trained(job)
    monkeypatch.setattr(loop, "recorder", lambda processes: fail)
    told: list[str] = []
    one, _ = run.fit(job, tmp_path, ALONE, on_note=told.append)
    assert told == [
        "training was slower than it could be, because a step cannot be recorded: RuntimeError: operation not "
        "permitted when stream is capturing."
    ]
    assert_same(state(one), state(expected))


def test_repeated_steps_that_diverge_end_the_run(recorded: list[Again], tmp_path: Path) -> None:
    recipe = replace(PLAIN, schedule_unit="epoch", warmup=0.0, peak_lr=0.01, final_lr=1e30)
    with pytest.raises(GateFailed, match=r"epoch 2\. The last good checkpoint is \S+, after epoch 1\."):
        run.fit(replace(JOB, recipe=replace(recipe, epochs=2)), tmp_path, ALONE)
    assert len(recorded) == 1


def test_steps_are_recorded_by_a_single_process_on_a_gpu_alone() -> None:
    assert step.recorder(ALONE) is None
    assert step.recorder(Processes(0, 1, torch.device("cuda"))) is step.cuda_graph
    assert step.recorder(Processes(0, 2, torch.device("cuda"))) is None


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["plain", "averaged", "pruned", "distilled", "a last batch of another size"])
def test_a_gpu_that_repeats_a_step_trains_as_one_that_computes_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU: PyTorch finds none")
    here = Processes(0, 1, torch.device("cuda"))
    # gently, so that another order of summation, which kernels are free to choose, stays small over 24 steps
    job = replace(JOBS[name], recipe=replace(JOBS[name].recipe, peak_lr=1e-3, precision="float32"))
    job = replace(job, network=NETWORK, train=noise(64), report=noise(64))
    repeated, _ = trained(job, here)
    assert repeated.why_not_recorded == ""
    monkeypatch.setattr(loop, "recorder", lambda processes: None)
    computed, _ = trained(job, here)
    torch.testing.assert_close(state(repeated)["model"], state(computed)["model"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(state(repeated)["average"], state(computed)["average"], rtol=1e-3, atol=1e-4)
