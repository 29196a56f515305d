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
    if batch_size < 1 or (limit is not None and limit < 1):
        raise InvalidInput("--batch-size and --limit must be at least 1.")
    total = len(split.images) if limit is None else min(limit, len(split.images))
    top1 = top5 = 0
    seconds = 0.0
    predictions = np.empty(total, dtype=np.int64)
    for start in range(0, total, batch_size):
        stop = min(start + batch_size, total)
        images = as_variant(split.images[start:stop], variant, normalization)
        began = time.perf_counter()
        logits = run_batch(runtime, images)
        seconds += time.perf_counter() - began
        _check(logits, stop - start, int(split.labels.max()), classes)
        best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
        hits = best == split.labels[start:stop, None]
        predictions[start:stop] = best[:, 0]
        top1 += int(hits[:, 0].sum())
        top5 += int(hits.any(axis=1).sum())
        if progress is not None:
            progress(stop, total)
    return Evaluation(
        runtime.name,
        runtime.provider,
        variant,
        100.0 * top1 / total,
        100.0 * top5 / total,
        total,
        total / seconds if seconds else float("inf"),
        predictions,
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
