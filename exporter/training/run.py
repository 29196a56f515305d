"""A run in one output folder: load or resume, train, keep checkpoint and log, write the weights.

checkpoint.pt        the state after the last complete epoch or, in a long one, of minutes ago, replaced atomically
log.jsonl            one line when the run starts or resumes, one per epoch, one at the end
weights.safetensors  the last epoch's weights, or their average where the recipe keeps one, once the run is complete
curve.png            loss and accuracy by epoch, likewise
tensorboard/         on request
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data import load_split
from ..errors import GateFailed, InvalidInput, Unavailable, first_line, from_os_error
from ..networks.normalization import normalization_from
from ..system.files import leftover_of, no_empty_parents, require_target
from ..system.locks import lock_in, only_one
from ..weights.core import Weights
from . import checkpoint, environment, teachers, tensorboard
from .distributed import Processes, processes
from .holdout import hold_out
from .initial import begun_from, has_other_classes, normalized_as
from .log import Log
from .loop import Job, Progress, ProgressCallback, Trainer
from .options import CHECKPOINT, CURVE, LOG, WEIGHTS
from .options import Options as Options
from .recipe import CONTINUING
from .result import TrainingResult, write_result
from .sources import load_sources

_STEPS_BETWEEN_REPORTS = 10
_SECONDS_BETWEEN_CHECKPOINTS = 120.0
"""Within an epoch. On a CPU epochs take up to a quarter of an hour; a checkpoint takes a fraction of a second."""
_DECISIVE = ("hardware", "processes", "threads", "precision", "versions")
"""Of what a log says of its circumstances, what decides the last bits of the weights."""

NoteCallback = Callable[[str], None]


def train(
    options: Options, on_progress: ProgressCallback | None = None, on_note: NoteCallback | None = None
) -> TrainingResult | None:
    """Train one network as `options` say; the output folder then holds weights, log, curve and checkpoint.

    `on_note` hears, in a line each, what a user should know about how the run begins or goes on. Under torchrun every
    process calls this; the first one writes, reports and gets the result, the others None. Raises `InvalidInput` for
    weights that may not be used (see `load_sources`), `Unavailable` without data or device and while another process
    trains in the same folder, and what `fit` raises. Whatever interrupts it, the last checkpoint
    is there for `resume`.
    """
    _refuse_foreign(options.folder)
    initial, teaching = load_sources(options)
    device = environment.pick_device(options.device)
    environment.keep_freed_memory()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    training = load_split(options.data_dir, options.network.dataset, "train")
    if options.holdout:
        training, reported = hold_out(training)
    else:
        reported = load_split(options.data_dir, options.network.dataset, "test")
    if options.limit is not None:
        training = training.thinned(options.limit)
    job = Job(
        begun_from(options.network, initial),
        options.recipe,
        training,
        reported,
        seed=options.seed,
        holdout=options.holdout,
        # a report costs a CPU some 7 % of an epoch, a GPU next to nothing
        evaluate_every=5 if device.type == "cpu" else 1,
        initial=initial,
        teachers=teaching,
        freeze_body=options.freeze_body,
    )
    with processes(device) as here, _alone_in(options.folder) if here.is_first else contextlib.nullcontext():
        callbacks = [on_progress] if on_progress and here.is_first else []
        if options.tensorboard and here.is_first:
            callbacks.append(tensorboard.writer(options.folder / "tensorboard"))

        def notify(progress: Progress) -> None:
            for callback in callbacks:
                callback(progress)

        note = on_note if here.is_first else None
        try:
            trainer, log = fit(job, options.folder, here, resume=options.resume, on_progress=notify, on_note=note)
        except torch.OutOfMemoryError as error:
            raise Unavailable(
                f"the memory of {environment.hardware(here.device, 1)} is full: {first_line(error)}\n"
                "Stop what else uses it, or train with --device cpu. --resume continues at the last checkpoint."
            ) from error
        result = write_result(trainer, log) if here.is_first else None
        here.wait()  # others must not leave while the first still computes: their exit would end it
        del trainer  # what averages its gradients goes before the group that it speaks to
    return result


def _refuse_foreign(folder: Path) -> None:
    """Raise `InvalidInput` where `folder` holds what is no run's: somebody's files, which a run must not mix with."""
    ours = {CHECKPOINT, LOG, WEIGHTS, CURVE, "tensorboard", lock_in(folder).name}
    try:
        names = sorted(path.name for path in folder.iterdir() if (leftover_of(path) or path.name) not in ours)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, f"use {folder}") from error
    if names:
        raise InvalidInput(
            f"{folder} holds what is no run's ({names[0]}). Name a folder that is new or empty with --output."
        )


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Refuse while another process trains in `folder`; leave nothing of it but what was trained."""
    busy = Unavailable(f"another process trains in {folder}. Wait until it is done, or name another --output.")
    for name in (CHECKPOINT, LOG, WEIGHTS, CURVE):
        require_target(folder / name)  # not only at the end, after hours
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(no_empty_parents(lock_in(folder)))
            stack.enter_context(only_one(lock_in(folder), busy))
            for path in folder.iterdir():
                if leftover_of(path) in (CHECKPOINT, LOG, WEIGHTS, CURVE):  # of a killed process: nobody else is here
                    path.unlink()
        except OSError as error:
            raise from_os_error(error, f"write {folder}") from error
        yield


def fit(
    job: Job,
    output: Path,
    here: Processes,
    *,
    resume: bool = False,
    on_progress: ProgressCallback | None = None,
    on_note: NoteCallback | None = None,
) -> tuple[Trainer, Log]:
    """Train `job` to its last epoch, keeping checkpoint and log in the folder `output`.

    With `resume` a checkpoint there is continued, on the same CPU to the same weights, bit by bit, as without the
    interruption; without one the run starts anew. Raises `InvalidInput` when a checkpoint is there and `resume` is
    not, when it is of another run, or when weights are there without one; `GateFailed` when the loss is no longer
    finite.
    """
    saved_at = output / CHECKPOINT
    saved = checkpoint.load(saved_at) if saved_at.exists() else None
    if saved is not None and not resume:
        raise InvalidInput(f"{output} holds a run already. Continue it with --resume, or name another --output.")
    if saved is None and (output / WEIGHTS).exists():
        raise InvalidInput(f"{output} holds a finished run without its checkpoint. Name another --output.")
    if saved is not None:
        job.identity.refuse_unless_same(saved.identity, saved_at)
        normalization = saved.events[0].get("normalization")
        if normalization is not None:  # it may be that of initial weights, which need not be given again
            job = replace(job, network=normalized_as(job.network, normalization_from(normalization)))
    else:
        teachers.refuse_unless_usable(job.teachers, job.network, job.recipe)
    on_progress = on_progress or (lambda _: None)
    trainer, log = Trainer(job, here), Log(output / LOG, saved.events if saved else ())
    if saved is not None:
        trainer.restore(saved)
    if not here.agree(trainer.epochs_done):
        raise InvalidInput(f"the processes see different checkpoints. {output} must be one folder for all of them.")
    if trainer.why_not_compiled and on_note:
        on_note(f"training is slower than it could be, because torch.compile fails here: {trainer.why_not_compiled}.")
    if saved is None and job.initial is None and job.recipe.name in CONTINUING and on_note:
        on_note(
            f"recipe {job.recipe.name} is meant for trained weights, but this run begins with random ones. "
            "Name some with --initial-weights."
        )
    if saved is None and job.initial is not None and has_other_classes(job.initial, job.network) and on_note:
        on_note(
            f"the body is that of {job.initial.network.name}, images are normalized as it was trained, and the last "
            f"layer begins anew for {job.network.dataset.classes} classes."
        )
    if resume and on_note:
        for line in _notes(trainer, log, output):
            on_note(line)
    if trainer.epochs_done < job.recipe.epochs:
        log.events.append(_start_event(trainer, log))
    if here.is_first:
        log.write()
    if saved is None:
        trainer.ask_teachers(_asking(trainer, on_progress))
    _train(trainer, log, saved_at, on_progress)
    if trainer.why_not_recorded and on_note:
        on_note(f"training was slower than it could be, because a step cannot be recorded: {trainer.why_not_recorded}.")
    return trainer, log


def _notes(trainer: Trainer, log: Log, output: Path) -> Iterator[str]:
    """Say what a user who resumes should know."""
    if not log.events:
        yield f"there is no checkpoint in {output}: the run begins anew."
        return
    yield f"continuing {_where(trainer)} of {trainer.job.recipe.epochs}{_steps(trainer)}."
    here = environment.describe(trainer.processes.device, trainer.processes.count, trainer.job.recipe)
    starts = [event for event in log.events if event["event"] == "start"]
    for what in _DECISIVE:
        before = list({str(event[what]): None for event in starts if what in event})
        if any(value != str(here[what]) for value in before):
            yield (
                f"{what} so far: {', then '.join(before)}; now: {here[what]}. The weights will not be bit for bit "
                "those of an uninterrupted run."
            )


def _where(trainer: Trainer) -> str:
    """After or in which epoch it is."""
    return f"after epoch {trainer.epochs_done}" if trainer.under_way is None else f"in epoch {trainer.epochs_done + 1}"


def _steps(trainer: Trainer) -> str:
    return "" if trainer.under_way is None else f", after {trainer.under_way.step} of its steps"


def _start_event(trainer: Trainer, log: Log) -> dict[str, Any]:
    job, here = trainer.job, trainer.processes
    return {
        "event": "start",
        "network": job.network.name,
        "seed": job.seed,
        "holdout": job.holdout,
        "initial": _named(job.initial) or _at_the_beginning(log, "initial"),
        "teachers": [_named(teacher) for teacher in job.teachers] or _at_the_beginning(log, "teachers"),
        "resumed_after_epoch": trainer.epochs_done,
        **({"resumed_after_step": trainer.under_way.step} if trainer.under_way else {}),
        "recipe": job.recipe.as_dict(),
        "normalization": job.network.dataset.normalization.as_dict(),
        "images": len(job.train.images),
        "freeze_body": job.freeze_body,
        **environment.describe(here.device, here.count, job.recipe),
    }


def _named(weights: Weights | None) -> dict[str, Any] | None:
    return None if weights is None else {"network": weights.network.name, "sha256": weights.sha256}


def _at_the_beginning(log: Log, what: str) -> Any:
    """Say what the run's very beginning said: a resumed run need not be given its weights again."""
    return log.events[0].get(what) if log.events else None


def _asking(trainer: Trainer, on_progress: ProgressCallback) -> Callable[[int, int], None]:
    """Make what reports how far the teachers have been asked."""
    began, images = time.perf_counter(), len(trainer.job.train.images)

    def report(done: int, batches: int) -> None:
        speed = images * done / batches / (time.perf_counter() - began)
        left = images * (1 - done / batches) / speed
        on_progress(Progress(0, trainer.job.recipe.epochs, done, batches, speed, left))

    return report


def _train(trainer: Trainer, log: Log, saved_at: Path, on_progress: ProgressCallback) -> None:
    recipe, images = trainer.job.recipe, len(trainer.job.train.images)
    epochs = recipe.epochs
    began = kept_at = time.perf_counter()
    kept = _where(trainer) if trainer.epochs_done or trainer.under_way else None

    def keep() -> None:
        nonlocal kept, kept_at
        if trainer.processes.is_first:
            checkpoint.save(saved_at, trainer.checkpoint(log.events))
        kept, kept_at = _where(trainer), time.perf_counter()

    def on_step(step: int, steps: int) -> None:
        late = time.perf_counter() - kept_at >= _SECONDS_BETWEEN_CHECKPOINTS
        # a checkpoint of broken weights would replace the last good one
        if late and step < steps and trainer.processes.count == 1 and trainer.is_finite():
            keep()
        report(step, steps)

    def images_left(part_done: float) -> float:
        """Count the images still to see, if every pruned epoch uses as many as the latest one."""
        to_come = range(trainer.epochs_done, epochs)
        pruned = sum(map(recipe.prunes, to_come))
        return (pruned - part_done) * trainer.images_an_epoch + (len(to_come) - pruned) * images

    def report(step: int, steps: int, result: dict[str, Any] | None = None) -> None:
        if result is None and step % _STEPS_BETWEEN_REPORTS:
            return
        speed = trainer.images_seen / (time.perf_counter() - began)
        on_progress(
            Progress(
                epoch=trainer.epochs_done + (0 if result else 1),
                epochs=epochs,
                step=step,
                steps=steps,
                images_per_second=speed,
                seconds_left=images_left(0 if result else step / steps) / speed,
                result=result,
            )
        )

    while trainer.epochs_done < epochs:
        try:
            entry = trainer.train_epoch(on_step)
        except GateFailed as error:
            good = f"The last good checkpoint is {saved_at}, {kept}."
            raise GateFailed(
                f"{error} {good if kept else 'There is no checkpoint yet.'}\n"
                "Try another --seed or --recipe; the same run would fail there again."
            ) from error
        log.events.append({"event": "epoch", **entry})
        keep()
        if trainer.processes.is_first:
            log.write()
        report(1, 1, entry)
