"""Finetuning with rounded weights: an int8 network learns from its own float32 network, on training pictures.

Distillation alone (Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network"): labels are not looked
at, so that the twin comes nearer to the network that it stands for, and to no other. A checkpoint every two minutes
holds the state between two steps; all chance comes from (SEED, epoch).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import GateFailed, InvalidInput
from ..networks.preprocess import Pixels
from ..quantization.grids import Grids
from ..quantization.trainable import TrainableInt8
from ..system.files import sha256_bytes
from ..system.torch_state import full_float32
from ..weights.core import Weights, build_network
from . import augment, checkpoint, teachers
from .options import FINETUNING
from .recipe import QUICK

BATCH = 128
LEARNING_RATE = 0.005
"""Adam's at the first step, in steps of the weights' grid; it falls to 0 in a line."""
TEMPERATURE = 2.0
SEED = 0
COMPARED = 2_000
"""Training pictures, at most, on which the twin is held against its network before and after."""
_SECONDS_BETWEEN_CHECKPOINTS = 120.0
_AUGMENTATION = replace(QUICK, batch_size=BATCH, prune=0.0)
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Distance:
    """How far an int8 network is from its float32 one on `images` unchanged training pictures.

    `divergence`: mean Kullback-Leibler divergence, in nats. `other_class`: pictures that get another class.
    """

    images: int
    divergence: float
    other_class: int


@dataclass(frozen=True)
class Finetuned:
    """`weights` with their grids finetuned or, where that did not bring them nearer (`kept` is False), as they were."""

    weights: Weights
    before: Distance
    after: Distance

    @property
    def kept(self) -> bool:
        """Whether finetuning brought the network nearer."""
        return self.after.divergence < self.before.divergence


@full_float32()
def finetune(
    weights: Weights,
    images: Pixels,
    epochs: int,
    folder: Path,
    *,
    resume: bool = False,
    on_step: OnStep = lambda done, steps: None,
) -> Finetuned:
    """Train the steps of `weights`, which have grids, for `epochs` on training pictures (N, 32, 32, 3).

    `folder` gets the checkpoint, which `resume` continues: on the same CPU with as many threads to the same steps, bit
    by bit. Raises `InvalidInput` where a checkpoint is there and `resume` is not, or where it is of something else, and
    `GateFailed` when the loss is no longer finite.
    """
    network, grids = build_network(weights).eval(), _grids(weights)
    twin, saved_at = TrainableInt8(network, grids), folder / FINETUNING
    optimizer = torch.optim.Adam(twin.parameters(), LEARNING_RATE)
    identity = {
        "weights": weights.sha256,
        "grids": grids.digest(),
        "images": sha256_bytes(np.ascontiguousarray(images).tobytes()),
        "epochs": epochs,
    }
    normalize = augment.Normalizer(weights.normalization, torch.device("cpu"))
    compared = torch.from_numpy(images[np.linspace(0, len(images) - 1, min(COMPARED, len(images))).astype(int)])
    before = _distance(network, twin, normalize, compared)
    done = _restored(saved_at, identity, twin, optimizer, resume=resume)
    padded = augment.pad(torch.from_numpy(images), _AUGMENTATION.crop_padding)
    steps_an_epoch = -(-len(images) // BATCH)
    total, kept_at = epochs * steps_an_epoch, time.perf_counter()
    draws, drawn = None, -1
    for step in range(done, total):
        epoch, place = divmod(step, steps_an_epoch)
        if draws is None or drawn != epoch:
            draws, drawn = augment.draw_epoch(_AUGMENTATION, torch.full((len(images),), torch.nan), SEED, epoch), epoch
        inputs = normalize(augment.crop(padded, draws.order[place * BATCH : (place + 1) * BATCH], draws))
        with torch.no_grad():
            targets = functional.softmax(network(inputs) / TEMPERATURE, dim=1)
        loss = teachers.distance(twin(inputs), targets, TEMPERATURE).mean()
        if not torch.isfinite(loss):
            cause = f"the loss became {float(loss.detach()):g} in step {step + 1} of {total}"
            raise GateFailed(f"{cause}. Quantize without --finetune.")
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / total)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if time.perf_counter() - kept_at >= _SECONDS_BETWEEN_CHECKPOINTS:
            _save(saved_at, identity, step + 1, twin, optimizer)
            kept_at = time.perf_counter()
        on_step(step + 1, total)
    said = f"{epochs} epoch{'s' * (epochs > 1)} on {len(images)} training pictures, seed {SEED}"
    found = Finetuned(replace(weights, grids=twin.found(said)), before, _distance(network, twin, normalize, compared))
    return found if found.kept else replace(found, weights=weights)


def _grids(weights: Weights) -> Grids:
    if weights.grids is None:
        raise InvalidInput("finetuning begins with measured ranges. Quantize the weights first.")
    return weights.grids


@torch.no_grad()
def _distance(network: torch.nn.Module, twin: TrainableInt8, normalize: augment.Normalizer, images: Tensor) -> Distance:
    divergence, other = 0.0, 0
    for part in images.split(BATCH):
        inputs = normalize.exactly(part)
        theirs, ours = network(inputs), twin(inputs)
        logs = functional.log_softmax(ours, 1), functional.log_softmax(theirs, 1)
        divergence += float(functional.kl_div(*logs, reduction="sum", log_target=True))
        other += int((ours.argmax(1) != theirs.argmax(1)).sum())
    return Distance(len(images), divergence / len(images), other)


def _save(path: Path, identity: dict[str, Any], step: int, twin: TrainableInt8, optimizer: torch.optim.Adam) -> None:
    state = {"model": twin.state_dict(), "optimizer": optimizer.state_dict()}
    checkpoint.write(path, {"identity": identity, "step": step, **state})


def _restored(
    path: Path, identity: dict[str, Any], twin: TrainableInt8, optimizer: torch.optim.Adam, *, resume: bool
) -> int:
    """The steps that were done, and the state after them in `twin` and `optimizer`; 0 where there is no checkpoint."""
    if not path.exists():
        return 0
    if not resume:
        raise InvalidInput(
            f"{path.parent} holds a finetuning already. Continue it with --resume, or name another --output."
        )
    refusal = f"{path} is no checkpoint that this version can read. Remove it to start anew."
    content = checkpoint.read(path, refusal)
    wrong = [name for name, value in identity.items() if content.get("identity", {}).get(name) != value]
    if wrong:
        raise InvalidInput(
            f"{path} is of another finetuning: its {wrong[0]} differ. Ask for the same, or name another --output."
        )
    try:
        twin.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        step = int(content["step"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise InvalidInput(refusal) from error
    return step
