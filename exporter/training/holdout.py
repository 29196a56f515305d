"""Images held out of training, so that recipes can be compared without a look at the test set."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..data import Split
from ..errors import InvalidInput
from ..weights.core import Weights
from .options import NamedWeights

HELD_OUT_IMAGES = 5_000
"""Of CIFAR's 50,000; of a smaller set, a tenth."""
HELD_OUT = "held out of the training set"
"""What the metrics of a run with `holdout` say they are of."""


def hold_out(train: Split) -> tuple[Split, Split]:
    """Split the training set in two: the rest, and images to report on. The same for every run and seed."""
    count = max(1, min(HELD_OUT_IMAGES, len(train.images) // 10))
    order = np.random.default_rng(0).permutation(len(train.images))
    held, kept = np.sort(order[:count]), np.sort(order[count:])
    return Split(train.images[kept], train.labels[kept]), Split(train.images[held], train.labels[held])


def refuse_seen(given: Iterable[Weights | NamedWeights]) -> None:
    """Raise `InvalidInput` where weights were trained on the held-out images, or may have been.

    Those of a file that is not loaded yet pass: only the loaded ones tell.
    """
    for weights in given:
        if _may_have_seen(weights):
            raise InvalidInput(
                f"the weights of {weights.network.name} ({weights.source}) may have been trained on the images that "
                "--holdout sets aside,\nso the accuracy reported would be too high. Start from random weights or from "
                "those of another --holdout run, and name no teachers."
            )


def _may_have_seen(weights: Weights | NamedWeights) -> bool:
    if isinstance(weights, NamedWeights):
        return weights.source in ("bundled", "upstream")
    return weights.source != "random" and (weights.metrics or {}).get("images") != HELD_OUT
