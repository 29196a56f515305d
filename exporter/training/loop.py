"""The training loop: from a recipe and images in memory to the weights of the last epoch.

Within an epoch nothing waits for the device: losses are summed there and read once, at the epoch's end. On a GPU a step
is recorded once and repeated (`step`).
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from ..data import Split
from ..errors import GateFailed, InvalidInput
from ..networks import resnet
from ..networks.zoo import DATASETS, NetworkSpec
from ..system.torch_state import full_float32
from ..weights.core import Weights
from . import augment, environment, initial, teachers
from .checkpoint import REMOVE, Checkpoint, Identity, UnderWay
from .distributed import Processes
from .recipe import Recipe
from .step import Average, RepeatedStep, recorder

EVALUATION_BATCH = 500
NORM_IMAGES = 10_000
"""How many training images the batch norms of averaged weights are measured on."""


@dataclass(frozen=True)
class Progress:
    """Where a run is, after some steps of epoch `epoch` (from 1).

    `result` is the epoch's log entry once it is complete, else None. `seconds_left` is for the whole run, but in epoch
    0, in which teachers are asked, until that is done.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float
    seconds_left: float
    result: dict[str, Any] | None = None


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True)
class Job:
    """What to train and on which images; `report` is the set whose accuracy is reported and never chosen by.

    `evaluate_every`: epochs between two reports (the last epoch always has one). `initial`: weights to start from,
    else the random ones of `seed`. `teachers`: whose answers a recipe that distills has as targets. `freeze_body`: only
    the last layer is trained; the body computes as in eval mode and stays as it is.
    """

    network: NetworkSpec
    recipe: Recipe
    train: Split
    report: Split
    seed: int = 0
    holdout: bool = False
    evaluate_every: int = 1
    initial: Weights | None = None
    teachers: tuple[Weights, ...] = ()
    freeze_body: bool = False

    @cached_property
    def identity(self) -> Identity:
        """What a checkpoint of this job must be of."""
        images = hashlib.sha256(np.ascontiguousarray(self.train.images).data)
        images.update(np.ascontiguousarray(self.train.labels, np.int64).data)
        if self.network.dataset.name not in DATASETS:  # the labels' names are the user's
            images.update("\n".join(self.network.dataset.labels).encode())
        return Identity(
            network=self.network.name,
            recipe=self.recipe.as_dict(),
            seed=self.seed,
            holdout=self.holdout,
            initial=self.initial.sha256 if self.initial else None,
            teachers=[teacher.sha256 for teacher in self.teachers],
            images=images.hexdigest(),
            freeze_body=self.freeze_body,
        )


class Trainer:
    """The state of one run: network, optimizer and average. `run.fit` drives it, epoch by epoch."""

    def __init__(self, job: Job, processes: Processes) -> None:
        if job.recipe.batch_size < processes.count:
            raise InvalidInput(f"{processes.count} processes can't share batches of {job.recipe.batch_size} images.")
        if len(job.train.images) < processes.count:
            raise InvalidInput(f"{processes.count} processes can't share {len(job.train.images)} training images.")
        self.job, self.processes, self.identity = job, processes, job.identity
        recipe, device = job.recipe, processes.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(augment.initialization_seed(job.seed))
            network = resnet.build(job.network)
        if job.initial is not None:
            initial.load(network, job.network, job.initial)
        if job.freeze_body:
            network.requires_grad_(False).fc.requires_grad_(True)
        self.network: nn.Module = network.to(device).to(memory_format=torch.channels_last)
        self._to_training(self.network)
        self.optimizer = _optimizer(self.network, recipe)
        averages = recipe.ema_decay or recipe.averages_epochs
        self.average = copy.deepcopy(self.network).requires_grad_(False) if averages else None
        # once, for it costs as much as some layers do: what holds the state stays the same tensors
        self._averaged = Average(self.average, self.network) if self.average is not None else None
        self.epochs_done = 0
        self.under_way: UnderWay | None = None
        self.images_seen = 0  # by all processes since they began, for their speed
        self.images_an_epoch = len(job.train.images)  # of the latest one: pruning leaves some out
        self.seconds = 0.0
        self._callable: Callable[[Tensor], Tensor]
        self._callable, self.why_not_compiled = environment.compiled(processes.wrap(self.network), device)
        self._autocast = environment.precision(recipe, device) == "bf16"
        self._images = augment.pad(torch.from_numpy(job.train.images), recipe.crop_padding).to(device)
        self._labels = torch.from_numpy(job.train.labels).to(device)
        self._losses = torch.full((len(self._labels),), torch.nan, device=device)  # the last one of each image
        self._targets: Tensor | None = None
        self._report = torch.from_numpy(job.report.images).to(device), torch.from_numpy(job.report.labels).to(device)
        self._normalize = augment.Normalizer(job.network.dataset.normalization, device)
        self._repeated: RepeatedStep | None = None
        if (record := recorder(processes)) is not None:
            self._repeated = RepeatedStep(self._step, self.optimizer, recipe.batch_size, len(self._labels), record)

    @property
    def why_not_recorded(self) -> str:
        """Why a GPU could not record a step, so that each is computed anew; empty where it did, or was not asked to."""
        return self._repeated.why_not if self._repeated is not None else ""

    def _to_training(self, network: nn.Module) -> None:
        """Put `network` into training mode; a frozen body keeps its batch statistics."""
        network.train(not self.job.freeze_body)

    def result(self) -> nn.Module:
        """Return the network that the run yields: the average where the recipe keeps one and it has begun."""
        recipe = self.job.recipe
        if self.average is None or (recipe.averages_epochs and not recipe.epochs_averaged(self.epochs_done)):
            return self.network
        return self.average

    def ask_teachers(self, on_batch: Callable[[int, int], None]) -> None:
        """Get the targets of a recipe that distills: once, before its first epoch.

        `on_batch` hears the batches done and to do.
        """
        job, started = self.job, time.perf_counter()
        if not job.recipe.distill:
            return
        mine = torch.arange(self.processes.rank, len(self._labels), self.processes.count)
        images, device = job.train.images[mine.numpy()], self.processes.device
        answers = teachers.soft_targets(job.teachers, job.network, images, job.recipe, device, on_batch)
        targets = torch.zeros(len(self._labels), answers.shape[1], device=answers.device)
        targets[mine] = answers
        self._targets = self.processes.sum(targets)
        self.seconds += time.perf_counter() - started

    def restore(self, saved: Checkpoint) -> None:
        """Continue from `saved`, which is of this job. Raises `InvalidInput` where it lacks a part or a part is odd."""
        for part, needed in (
            ("targets", self.job.recipe.distill),
            ("average", self.average is not None),
            ("losses", self.job.recipe.prune),
        ):
            if needed and getattr(saved, part) is None:
                raise InvalidInput(f"the checkpoint lacks a part that its recipe needs: {part}. {REMOVE}")
        self.identity = saved.identity  # it knows initial weights and teachers, which need not be given again
        try:
            self.network.load_state_dict(saved.model)
            self.optimizer.load_state_dict(saved.optimizer)
            if self.average is not None and saved.average is not None:
                self.average.load_state_dict(saved.average)
            if saved.losses is not None:
                self._losses.copy_(saved.losses)
            if saved.targets is not None:
                shape = (len(self._labels), self.job.network.dataset.classes)
                self._targets = saved.targets.to(self._labels.device).reshape(shape)
            if saved.under_way is not None:
                self.under_way = self._continued(saved.under_way)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(f"the checkpoint is damaged: a part of it does not fit this run. {REMOVE}") from error
        self.epochs_done, self.seconds = saved.epochs_done, saved.seconds

    def _continued(self, saved: UnderWay) -> UnderWay:
        """`saved` on this process, which shares what comes; what was, the first one adds up.

        Raises `ValueError` or `TypeError` for a damaged one.
        """
        if saved.step < 1 or saved.seen < 1:
            raise ValueError("an epoch that was not begun")
        whole = self._begun()
        if self.processes.is_first:
            whole.totals.copy_(saved.totals.reshape(2))
            whole.fresh.copy_(saved.fresh.reshape(len(whole.fresh)))
        return replace(whole, step=saved.step, seen=saved.seen, seconds=float(saved.seconds))

    def _begun(self) -> UnderWay:
        """An epoch before its first step."""
        totals = torch.zeros(2, dtype=torch.float64, device=self._losses.device)
        return UnderWay(totals, torch.full_like(self._losses, torch.nan))

    def is_finite(self) -> bool:
        """Whether loss and weights are finite numbers so far; waits for the device."""
        begun = self.under_way is None or bool(torch.isfinite(self.under_way.totals).all())
        return begun and _all_finite(self.network)

    def checkpoint(self, events: list[dict[str, Any]]) -> Checkpoint:
        """Copy the state as it is, with the log's lines so far; within an epoch for one process alone.

        With more, each has its own part of `under_way`.
        """
        average = None if self.average is None else _on_cpu(self.average.state_dict())
        model, optimizer = _on_cpu(self.network.state_dict()), _on_cpu(self.optimizer.state_dict())
        losses = _on_cpu(self._losses) if self.job.recipe.prune else None
        targets = _on_cpu(self._targets)
        begun = None if self.under_way is None else UnderWay(**_on_cpu(vars(self.under_way)))
        return Checkpoint(
            self.identity, self.epochs_done, self.seconds, model, optimizer, average, losses, targets, events, begun
        )

    @full_float32()
    def train_epoch(self, on_step: Callable[[int, int], None]) -> dict[str, Any]:
        """Train the next epoch, or the rest of it; returns its log entry. `on_step` hears the steps done and to do.

        Raises `GateFailed` when the loss or a weight is no longer a finite number.
        """
        job, recipe, device = self.job, self.job.recipe, self.processes.device
        epoch, started = self.epochs_done, time.perf_counter()
        draws = augment.draw_epoch(recipe, self._losses.cpu(), job.seed, epoch).to(device)
        self.images_an_epoch = len(draws.order)
        steps = recipe.steps_per_epoch(self.images_an_epoch)
        under_way = self.under_way = self.under_way or self._begun()
        seconds_before = under_way.seconds
        if self._repeated is not None:
            self._repeated.begin(draws, under_way)
        for step in range(under_way.step, steps):
            batch = draws.order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            if len(batch) < self.processes.count:
                continue  # a rest too small to be shared out
            under_way.seen += len(batch)
            self.images_seen += len(batch)
            rate, weight = recipe.learning_rate(epoch * steps + step, steps), self._average_weight(epoch * steps + step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            if self._repeated is not None and len(batch) == recipe.batch_size:
                self._repeated.run(batch, rate, weight)
            else:
                self._step(batch, draws, under_way.totals, under_way.fresh, weight)
            under_way.step, under_way.seconds = step + 1, seconds_before + time.perf_counter() - started
            on_step(step + 1, steps)
        self.under_way, seen = None, under_way.seen
        loss, right = self.processes.sum(under_way.totals).tolist()
        if not math.isfinite(loss) or not _all_finite(self.network):
            what = f"the loss became {loss / seen:g}" if not math.isfinite(loss) else "the weights became infinite"
            raise GateFailed(f"{what} in epoch {epoch + 1}.")
        self._remember(under_way.fresh)
        self.epochs_done += 1
        if self._averaged is not None and (count := recipe.epochs_averaged(self.epochs_done)):
            self._averaged.move(1 / count)
        seconds = seconds_before + time.perf_counter() - started
        entry: dict[str, Any] = {
            "epoch": self.epochs_done,
            "loss": loss / seen,
            "train_top1": 100 * right / seen,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images": seen,
            "images_per_second": seen / seconds,
        }
        due = self.epochs_done % job.evaluate_every == 0 or self.epochs_done == recipe.epochs
        if due and self.processes.is_first:
            entry |= self.evaluate()
        spent = seconds_before + time.perf_counter() - started
        self.seconds += spent
        return entry | {"seconds": spent}

    def _inputs_of_norms(self) -> Iterator[Tensor]:
        """Batches of training images, cropped and mirrored as in an epoch: the same ones each time."""
        device, count = self.processes.device, min(NORM_IMAGES, len(self._images))
        draws = augment.draw_epoch(self.job.recipe, torch.full((len(self._images),), torch.nan), self.job.seed, 0)
        draws = draws.to(device)
        for batch in draws.order[:count].split(EVALUATION_BATCH):
            yield self._normalize(augment.crop(self._images, batch, draws))

    def _average_weight(self, step: int) -> float:
        # Large at first, so that the random initialization is forgotten; as in TensorFlow's ExponentialMovingAverage.
        return 1 - min(self.job.recipe.ema_decay, (1 + step) / (10 + step))

    def _remember(self, fresh: Tensor) -> None:
        """Take over the losses that any process saw in this epoch: `fresh` is NaN for images it did not see."""
        if self.job.recipe.prune:
            seen = ~fresh.isnan()
            sums = self.processes.sum(torch.stack((torch.where(seen, fresh, 0.0), seen.float())))
            self._losses = torch.where(sums[1] > 0, sums[0], self._losses)

    def _step(
        self, batch: Tensor, draws: augment.EpochDraws, totals: Tensor, fresh: Tensor, weight: float | Tensor
    ) -> None:
        """One step on the images `batch` (indices), of which each process takes its share.

        Adds to `totals` (summed loss, right answers), writes each image's loss to its place in `fresh`, and moves a
        moving average by `weight` towards the network. It may be recorded: nothing here waits for the device, or looks
        at what changes from step to step elsewhere than in these tensors.
        """
        mine = batch[self.processes.rank :: self.processes.count]
        inputs = self._normalize(augment.crop(self._images, mine, draws))
        labels = self._labels[mine]
        with torch.autocast(inputs.device.type, torch.bfloat16) if self._autocast else nullcontext():
            logits = self._callable(inputs)
        logits = logits.float()
        losses = self._losses_of(logits, labels, mine)
        self.optimizer.zero_grad(set_to_none=True)
        # Over all processes the mean of these gradients is that of the mean loss of the global batch.
        ((losses @ draws.weight[mine]) * (self.processes.count / len(batch))).backward()
        self.optimizer.step()
        if self._averaged is not None and self.job.recipe.ema_decay:
            self._averaged.move(weight)
        with torch.no_grad():
            right = (logits.argmax(1) == labels).sum()
            totals += torch.stack((losses.double().sum(), right.double()))
            fresh[mine] = losses

    def _losses_of(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Each image's loss, float32 (batch,): of the labels and, where there are teachers, of their answers."""
        recipe = self.job.recipe
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=recipe.label_smoothing)
        if self._targets is None:
            return losses
        taught = teachers.distance(logits, self._targets[images], recipe.temperature)
        return (1 - recipe.distill) * losses + recipe.distill * taught

    @torch.no_grad()
    @full_float32()
    def evaluate(self) -> dict[str, float]:
        """Top-1 and top-5 in percent on the report images, of the result as it stands, in float32."""
        network = self.result()
        if network is self.average and self.job.recipe.averages_epochs and not self.job.freeze_body:
            update_bn(self._inputs_of_norms(), network)
        network.eval()
        images, labels = self._report
        right = torch.zeros(2, dtype=torch.int64, device=images.device)
        for start in range(0, len(images), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            logits = network(self._normalize.exactly(images[part]))
            best = logits.topk(min(5, logits.shape[1])).indices
            hits = best == labels[part, None]
            right += torch.stack((hits[:, 0].sum(), hits.sum()))
        self._to_training(network)
        top1, top5 = (100 * right.double() / len(images)).tolist()
        return {"top1": top1, "top5": top5}


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    trained = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    others = [p for p in trained if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": recipe.weight_decay if recipe.decay_norm_and_bias else 0.0},
    ]
    fused = matrices[0].is_cuda
    return torch.optim.SGD(
        groups,
        lr=recipe.peak_lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        foreach=not fused,
        fused=fused,
    )


def _all_finite(network: nn.Module) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())


def _on_cpu(state: Any) -> Any:
    """Copy a nested state dict with every tensor on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().cpu().clone()
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_on_cpu(value) for value in state]
    return state
