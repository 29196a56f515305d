"""Top-1 and top-5 of anything that maps images to logits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Split
from ..errors import GateFailed, InvalidInput
from ..networks.preprocess import as_variant
from ..networks.zoo import InputVariant, Normalization
from ..runtimes import Runtime, run_batch

Progress = Callable[[int, int], None]
DEFAULT_BATCH = 250
TOP = 5


@dataclass(frozen=True)
class Evaluation:
    """Accuracy in percent over `images` images; `images_per_second` counts the forward passes alone.

    `predictions`: the predicted class of each image, int64 (N,), in the data set's order.
    """

    runtime: str
    provider: str
    input: InputVariant
    top1: float
    top5: float
    images: int
    images_per_second: float
    predictions: NDArray[np.int64] = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "runtime": self.runtime,
            "provider": self.provider,
            "input": self.input,
            "top1": self.top1,
            "top5": self.top5,
            "images": self.images,
            "images_per_second": round(self.images_per_second, 1),
        }


def evaluate(
    runtime: Runtime,
    split: Split,
    normalization: Normalization,
    variant: InputVariant = "float32",
    *,
    batch_size: int = DEFAULT_BATCH,
    limit: int | None = None,
    classes: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run `runtime` over the first `limit` images of `split` (all by default) and score it.

    Of equal logits the lower class index counts as the better one. `classes` is how many logits an image must have; by
    default enough for the labels. Raises `GateFailed` for NaN or infinite logits, a wrong shape, and for a network that
    does not run at all (one with a fixed batch, say).
    """
    parts = []
    seconds = 0.0
    total = images_of(split, limit)
    for places in batches(total, batch_size):
        images = as_variant(split.images[places], variant, normalization)
        began = time.perf_counter()
        logits = run_batch(runtime, images)
        seconds += time.perf_counter() - began
        _check(logits, len(places), int(split.labels.max()), classes)
        parts.append(logits)
        if progress is not None:
            progress(int(places[-1]) + 1, total)
    logits = np.concatenate(parts)
    return scored(
        logits,
        split.labels,
        images=total,
        runtime=runtime.name,
        provider=runtime.provider,
        variant=variant,
        seconds=seconds,
        classes=classes,
    )


def images_of(split: Split, limit: int | None) -> int:
    """How many images of `split` are the first `limit`, or all. Raises `InvalidInput` for a limit below 1."""
    if limit is not None and limit < 1:
        raise InvalidInput("--limit must be at least 1.")
    return len(split.images) if limit is None else min(limit, len(split.images))


def batches(images: int, batch_size: int) -> list[NDArray[np.intp]]:
    """Which of `images` images make up each batch, in order. Raises `InvalidInput` for batches of fewer than 1."""
    if batch_size < 1:
        raise InvalidInput("--batch-size must be at least 1.")
    return [np.arange(start, min(start + batch_size, images)) for start in range(0, images, batch_size)]


def scored(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    images: int,
    runtime: str,
    provider: str,
    variant: InputVariant,
    seconds: float,
    classes: int | None = None,
) -> Evaluation:
    """The accuracy of `logits`, (images, classes), of the first `images` of `labels`; they took so many `seconds`.

    Raises `GateFailed` for NaN or infinite logits and for a wrong shape, as `evaluate` does.
    """
    _check(logits, images, int(labels.max()), classes)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    hits = best == labels[:images, None]
    return Evaluation(
        runtime,
        provider,
        variant,
        100.0 * int(hits[:, 0].sum()) / images,
        100.0 * int(hits.any(axis=1).sum()) / images,
        images,
        images / seconds if seconds else float("inf"),
        best[:, 0].copy(),
    )


def _check(logits: NDArray[np.float32], images: int, highest_label: int, classes: int | None) -> None:
    fits = logits.ndim == 2 and logits.shape[0] == images and logits.shape[1] > highest_label
    if not fits or (classes is not None and logits.shape[1] != classes):
        wanted = f"{classes} classes" if classes is not None else f"labels up to {highest_label}"
        raise GateFailed(
            f"logits have shape {logits.shape} for {images} images with {wanted}. "
            "The file is of another data set: check --dataset and --file."
        )
    if not np.isfinite(logits).all():
        raise GateFailed("the network returns NaN or infinite logits. Run `cifar-export parity` on it.")
