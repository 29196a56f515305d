"""A whole run in one output folder: load or resume, train, keep checkpoint and log, write the weights.

checkpoint.pt        the state after the last complete epoch, replaced atomically
log.jsonl            one line when the run starts, one per epoch, one at the end
weights.safetensors  the last epoch's weights, once the run is complete
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exporter.data import Split, load_split
from exporter.errors import GateFailed, InvalidInput, from_os_error
from exporter.files import write_atomically
from exporter.training import checkpoint, environment
from exporter.training.distributed import Processes, processes
from exporter.training.loop import Job, Progress, ProgressCallback, Trainer
from exporter.training.recipe import Recipe
from exporter.weights import Weights, save_weights
from exporter.zoo import NetworkSpec

CHECKPOINT, LOG, WEIGHTS = "checkpoint.pt", "log.jsonl", "weights.safetensors"
RUNS = Path("artifacts/runs")
HELD_OUT_IMAGES = 5_000
_STEPS_BETWEEN_REPORTS = 10


@dataclass(frozen=True)
class TrainingResult:
    """A complete run: its log's last line says the same. `metrics`: `top1` and `top5` in percent."""

    output: Path
    metrics: dict[str, float]
    seconds: float
    sha256: str


def _append(path: Path, entry: dict[str, Any]) -> None:
    try:
        with path.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
    except OSError as error:
        raise from_os_error(error, f"write {path}") from error


def fit(
    job: Job, output: Path, here: Processes, *, resume: bool = False, on_progress: ProgressCallback | None = None
) -> Trainer:
    """Train `job` to its last epoch, keeping checkpoint and log in the folder `output`.

    With `resume` a checkpoint there is continued, to the same weights as without interruption; without one the run
    starts anew. Raises `InvalidInput` when a checkpoint is there and `resume` is not, or when it is of another run,
    and `GateFailed` when the loss is no longer finite.
    """
    saved_at, log = output / CHECKPOINT, output / LOG
    saved = checkpoint.load(saved_at) if saved_at.exists() else None
    if saved is not None and not resume:
        raise InvalidInput(f"{output} holds a run already. Continue it with --resume, or name another --output.")
    if saved is not None:
        job.identity.refuse_unless_same(saved.identity, saved_at)
    trainer = Trainer(job, here)
    if saved is not None:
        trainer.restore(saved)
    start = {
        "event": "start",
        "network": job.network.name,
        "seed": job.seed,
        "holdout": job.holdout,
        "resumed_after_epoch": trainer.epochs_done,
        "recipe": job.recipe.as_dict(),
        "normalization": job.network.dataset.normalization.as_dict(),
        **environment.describe(here.device, here.count, job.recipe),
    }
    if here.is_first:
        lines = [*({"event": "epoch", **entry} for entry in trainer.history), start]
        write_atomically(log, "".join(json.dumps(line) + "\n" for line in lines).encode())
    _train(trainer, saved_at, log, on_progress)
    return trainer


def _train(trainer: Trainer, saved_at: Path, log: Path, on_progress: ProgressCallback | None) -> None:
    job = trainer.job
    images, epochs = len(job.train.images), job.recipe.epochs
    began, done_before = time.perf_counter(), trainer.epochs_done

    def report(step: int, steps: int, result: dict[str, Any] | None = None) -> None:
        if on_progress is None or (result is None and step % _STEPS_BETWEEN_REPORTS):
            return
        spent = time.perf_counter() - began
        complete = trainer.epochs_done - done_before + (0 if result else step / steps)
        on_progress(
            Progress(
                epoch=trainer.epochs_done + (0 if result else 1),
                epochs=epochs,
                step=step,
                steps=steps,
                images_per_second=complete * images / spent,
                seconds_left=(epochs - done_before - complete) * spent / complete,
                result=result,
            )
        )

    while trainer.epochs_done < epochs:
        try:
            entry = trainer.train_epoch(report)
        except GateFailed as error:
            good = f"The last good checkpoint is {saved_at} (epoch {trainer.epochs_done})."
            raise GateFailed(
                f"{error} {good if trainer.epochs_done else 'There is no checkpoint yet.'}\n"
                "Lower the learning rate, or try another --seed."
            ) from error
        if trainer.processes.is_first:
            trainer.save(saved_at)
            _append(log, {"event": "epoch", **entry})
        steps = job.recipe.steps_per_epoch(images)
        report(steps, steps, entry)


@dataclass(frozen=True)
class Options:
    """What the user asked for. `output` None: `artifacts/runs/<network>-<recipe>-seed<seed>`.

    `holdout`: train without 5,000 images of the training set and report on them, so that the test set stays
    unseen while recipes and epochs are chosen. `threads` None: as many as torch finds.
    """

    network: NetworkSpec
    recipe: Recipe
    data_dir: Path
    output: Path | None = None
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    holdout: bool = False
    resume: bool = False

    @property
    def folder(self) -> Path:
        """The folder the run is kept in."""
        held = "-holdout" if self.holdout else ""
        return self.output or RUNS / f"{self.network.name}-{self.recipe.name}{held}-seed{self.seed}"


def hold_out(train: Split) -> tuple[Split, Split]:
    """Split the training set in two: the rest, and 5,000 images to report on. The same for every run and seed."""
    order = np.random.default_rng(0).permutation(len(train.images))
    held, kept = np.sort(order[:HELD_OUT_IMAGES]), np.sort(order[HELD_OUT_IMAGES:])
    return Split(train.images[kept], train.labels[kept]), Split(train.images[held], train.labels[held])


def train(options: Options, on_progress: ProgressCallback | None = None) -> TrainingResult:
    """Train one network as `options` say; the output folder then holds weights, log and checkpoint.

    Under torchrun every process calls this; the first one writes and reports. Raises `Unavailable` without data or
    device, `InvalidInput` and `GateFailed` as `fit` does. Ctrl-C leaves a checkpoint that `resume` continues.
    """
    device = environment.pick_device(options.device)
    environment.keep_freed_memory()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    training = load_split(options.data_dir, options.network.dataset, "train")
    if options.holdout:
        training, reported = hold_out(training)
    else:
        reported = load_split(options.data_dir, options.network.dataset, "test")
    job = Job(
        options.network,
        options.recipe,
        training,
        reported,
        seed=options.seed,
        holdout=options.holdout,
        # a report costs a CPU some 7 % of an epoch, a GPU next to nothing
        evaluate_every=5 if device.type == "cpu" else 1,
    )
    with processes(device) as here:
        trainer = fit(job, options.folder, here, resume=options.resume, on_progress=on_progress)
        result = _finish(trainer, options.folder) if here.is_first else None
        here.wait()
    return result if result is not None else _result(trainer, options.folder, "")


def _finish(trainer: Trainer, output: Path) -> TrainingResult:
    """Write the weights of the last epoch and the log's last line."""
    job = trainer.job
    metrics = {key: trainer.history[-1][key] for key in ("top1", "top5")}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in trainer.result().state_dict().items()}
    weights = Weights(
        network=job.network,
        state=state,
        normalization=job.network.dataset.normalization,
        source="trained",
        sha256="",
        recipe=job.recipe.as_dict(),
        metrics=metrics | {"images": "held-out training images" if job.holdout else "test"},
    )
    sha256 = save_weights(output / WEIGHTS, weights)
    result = _result(trainer, output, sha256)
    _append(output / LOG, {"event": "end", "seconds": trainer.seconds, "sha256": sha256, **metrics})
    return result


def _result(trainer: Trainer, output: Path, sha256: str) -> TrainingResult:
    last = trainer.history[-1]
    return TrainingResult(output, {"top1": last["top1"], "top5": last["top5"]}, trainer.seconds, sha256)
