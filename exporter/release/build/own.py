"""Weights of whoever packages: from a checkpoint to the entry that a network's folder is built from.

They stand in an index of their own while the release is built, as bundled ones do in the package's, with accuracies
measured here. No published figure and no license of this project is said of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...accuracy.score import score
from ...data import Split
from ...errors import GateFailed, InvalidInput
from ...weights.core import Weights
from ...weights.index import BundledEntry, add_to_index
from ...weights.native import save_weights
from ...weights.sources import load_weights
from ..required import JUDGE

DIFFERS = 0.05
"""Points by which a figure that a file states may differ from the one measured: five of 10,000 images."""
ORIGIN = "origin"
"""Key of `BundledEntry.provenance` that such weights have, and no others."""


@dataclass(frozen=True)
class Own:
    """Weights to package, and the license that they are under: an SPDX expression, None where nobody said."""

    weights: Weights
    license: str | None = None

    def __post_init__(self) -> None:
        if self.license is not None and not re.fullmatch(
            r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*", self.license
        ):
            raise InvalidInput(
                f"--license {self.license!r:.60} is no SPDX expression. Write one such as MIT or CC-BY-4.0."
            )


def put_into_index(own: Own, split: Split, folder: Path) -> BundledEntry:
    """Write the weights and what is known of them into an index in the empty `folder`.

    Raises `GateFailed` where the accuracy that their file states of the test set is not the one measured.
    """
    weights = own.weights
    name = weights.network.name
    sha256 = save_weights(folder / f"{name}.safetensors", weights)
    saved = load_weights(weights.network, str(folder / f"{name}.safetensors"))
    found = score(saved, split, JUDGE)
    metrics: dict[str, Any] = {"images": found.images, "top1": found.top1, "top5": found.top5}
    stated = (weights.metrics or {}).get("top1") if (weights.metrics or {}).get("images") == "test" else None
    if stated is not None and abs(stated - found.top1) > DIFFERS:
        raise GateFailed(
            f"{name}: the file states a top-1 of {stated:.2f} %, but {found.top1:.2f} % was measured.\n"
            "Check that the test set is the official one: cifar-export data check."
        )
    origin = {
        "sha256": weights.sha256,
        "key": weights.key,
        "changes": list(weights.changes),
        "license": own.license,
    }
    entry = BundledEntry(
        network=name,
        model=weights.network.model.name,
        dataset=weights.network.dataset.name,
        file=f"{name}.safetensors",
        sha256=sha256,
        normalization=weights.normalization,
        recipe=weights.recipe or {},
        seed=None,
        metrics=metrics,
        below_reference=False,
        provenance={ORIGIN: origin},
    )
    add_to_index(folder, entry)
    return entry
