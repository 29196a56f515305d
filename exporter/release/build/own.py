"""Weights of whoever packages: from a checkpoint to the entry that a network's folder is built from.

The entry stands in no index: it is the line that bundled weights have there, with what is known of the accuracy here.
No published figure and no license of this project is said of them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...accuracy.score import score
from ...data import Split
from ...errors import GateFailed, InvalidInput
from ...networks.zoo import LONGEST_NAME, NetworkSpec, parts_of
from ...weights.core import Weights
from ...weights.index import BundledEntry
from ...weights.native import save_weights
from ...weights.sources import load_weights
from ..required import JUDGE

DIFFERS = 0.05
"""Points by which a figure that a file states may differ from the one measured: five of 10,000 images, one of a few."""
ORIGIN = "origin"
"""Key of `BundledEntry.provenance` that such weights have, and no others."""


@dataclass(frozen=True)
class Own:
    """Weights to package, the license that they are under, and the test images to measure them on.

    `license`: an SPDX expression, None where nobody said. `split`: None where there are no images here; then the
    accuracy that their file states of the test set is stated as such, or none is.
    """

    weights: Weights
    license: str | None = None
    split: Split | None = None

    def __post_init__(self) -> None:
        if self.license is not None and not re.fullmatch(
            r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*", self.license
        ):
            raise InvalidInput(
                f"--license {self.license!r:.60} is no SPDX expression. Write one such as MIT or CC-BY-4.0."
            )
        if parts_of(self.weights.network.name) is None:
            raise InvalidInput(
                f"{self.weights.network.name:.150}: no network of a release is called so. Give the data set a name of "
                f"letters, digits, - and _, which does not begin with -, of less than {LONGEST_NAME - 12} characters."
            )


@dataclass(frozen=True)
class Prepared:
    """What a network's folder is built from: the weights' file as it will be released, and its `entry`."""

    network: NetworkSpec
    entry: BundledEntry
    file: Path
    split: Split | None


def prepare(own: Own, folder: Path) -> Prepared:
    """Write the weights as a file of ours into the empty `folder`, and find out what is known of them.

    Raises `GateFailed` where the accuracy that their file states of the test set is not the one measured.
    """
    weights = own.weights
    file = folder / f"{weights.network.name}.safetensors"
    sha256 = save_weights(file, weights)
    origin = {
        "sha256": weights.sha256,
        "key": weights.key,
        "changes": list(weights.changes),
        "license": own.license,
    }
    entry = BundledEntry(
        network=weights.network.name,
        model=weights.network.model.name,
        dataset=weights.network.dataset.name,
        file=file.name,
        sha256=sha256,
        normalization=weights.normalization,
        recipe=weights.recipe or {},
        seed=None,
        metrics=_metrics(own, load_weights(weights.network, str(file))),
        below_reference=False,
        provenance={ORIGIN: origin},
    )
    return Prepared(weights.network, entry, file, own.split)


def _metrics(own: Own, saved: Weights) -> dict[str, Any]:
    """`top1`, `top5` and where they are from; measured ones with the number of `images`. Nothing is known: no figures.

    A run says "test" of figures of the whole test set, and something else of those of held-out images.
    """
    said = own.weights.metrics or {}
    stated = {key: float(said[key]) for key in ("top1", "top5")} if _is_of_the_test_set(said) else {}
    if own.split is None:
        return {**stated, "source": "stated" if stated else "unknown"}
    found = score(saved, own.split, JUDGE)
    if stated and abs(stated["top1"] - found.top1) > tolerated(found.images):
        raise GateFailed(
            f"{own.weights.network.name}: the file states a top-1 of {stated['top1']:.2f} %, but {found.top1:.2f} % "
            "was measured.\nCheck that these are the test images that it was measured on (CIFAR's: cifar-export data "
            "check)."
        )
    return {"images": found.images, "top1": found.top1, "top5": found.top5, "source": "measured"}


def _is_of_the_test_set(metrics: dict[str, Any]) -> bool:
    return metrics.get("images") == "test" and all(
        type(metrics.get(key)) in (int, float) and 0 <= metrics[key] <= 100 for key in ("top1", "top5")
    )


def tolerated(images: int) -> float:
    """Points by which two measurements on so many images may differ: `DIFFERS`, in whole images and one at least."""
    return 100 * math.ceil(images * DIFFERS / 100) / images + 1e-9
