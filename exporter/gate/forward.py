"""One runtime over all input sets: its logits, or what it ended with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CifarExportError, first_line
from ..networks.preprocess import Images, Pixels, as_variant
from ..networks.zoo import InputVariant, Normalization
from ..runtimes import PlacesNodes, Runtime, RuntimeSpec
from .inputs import BATCH_SIZES, plan

Logits = NDArray[Any]
Sign = Callable[[], None]
Places = dict[str, list[NDArray[np.intp]]]


@dataclass(frozen=True)
class Inputs:
    """Named sets of images, uint8 (N, 32, 32, 3) RGB each, and what a network takes of them."""

    pixels: Mapping[str, Pixels]
    variant: InputVariant
    normalization: Normalization

    def batch(self, name: str, places: NDArray[np.intp]) -> Images:
        """The images at `places` of the set `name`, as the input variant wants them."""
        return as_variant(np.asarray(self.pixels[name][places]), self.variant, self.normalization)


@dataclass(frozen=True)
class Answer:
    """What became of a runtime: its logits by input set, or `problem`.

    `seconds`: what its forward passes took. `misplaced`: nodes that ran elsewhere. `batch`: where it raised on a batch,
    how many images that had.
    """

    provider: str | None
    logits: Mapping[str, Logits] = field(default_factory=dict)
    problem: str | None = None
    misplaced: tuple[str, ...] = ()
    seconds: float = 0.0
    batch: int | None = None

    @classmethod
    def of(cls, error: Exception) -> Answer:
        """The answer of a runtime, or of making what it should run, that raised `error`."""
        if isinstance(error, CifarExportError):
            return cls(None, problem=str(error))
        batch = error.images if isinstance(error, BatchFailed) else None
        said = first_line(error.__cause__ or error if batch is not None else error, named=True)
        return cls(None, problem=f"crashed: {said}", batch=batch)


class BatchFailed(Exception):
    """A runtime raised on a batch of `images` images; the cause is what it raised."""

    def __init__(self, images: int) -> None:
        super().__init__(f"failed on a batch of {images} images")
        self.images = images


def places(spec: RuntimeSpec, sets: Mapping[str, Sized], *, full_batch: bool = False) -> Places:
    """For each input set, which of its images make up each batch that `spec` runs.

    With `full_batch` the first set comes once more, repeated until it is one batch of the largest size.
    """
    cut = {name: plan(min(len(full), spec.images or len(full)), spec.larger_batches) for name, full in sets.items()}
    if full_batch and sets:
        first = next(iter(sets))
        cut[first].append(np.arange(BATCH_SIZES[-1]) % len(sets[first]))
    return cut


def forward(runtime: Any, inputs: Inputs, where: Places, sign: Sign | None = None) -> tuple[dict[str, Logits], float]:
    """Logits by input set, batch after batch as `where` says, and the seconds that the runtime took for them.

    `sign` is called after each batch. Raises `BatchFailed` for what a runtime raises that is no error of ours.
    """
    logits, seconds = {}, 0.0
    for name, cut in where.items():
        parts = []
        for batch in cut:
            images = inputs.batch(name, batch)
            began = time.perf_counter()
            try:
                parts.append(np.asarray(runtime.logits(images)))
            except CifarExportError:
                raise
            except Exception as error:
                raise BatchFailed(len(batch)) from error
            seconds += time.perf_counter() - began
            if sign is not None:
                sign()
        logits[name] = np.concatenate(parts)
    return logits, seconds


def attempt(opened: Callable[[], Runtime], inputs: Inputs, where: Places, sign: Sign | None = None) -> Answer:
    """Open a runtime, run it and close it; whatever it raises is the answer's problem.

    `sign` is called when it is open, and after each batch.
    """
    try:
        with opened() as runtime:
            if sign is not None:
                sign()
            logits, seconds = forward(runtime, inputs, where, sign)
            misplaced = runtime.misplaced() if isinstance(runtime, PlacesNodes) else ()
            return Answer(runtime.provider, logits, misplaced=misplaced, seconds=seconds)
    except Exception as error:  # noqa: BLE001  runtimes raise what they like; a crash of one is its row
        return Answer.of(error)
