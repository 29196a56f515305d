"""One runtime over all input sets: its logits, or what it ended with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CifarExportError, first_line
from ..networks.preprocess import Images
from ..runtimes import PlacesNodes, Runtime, RuntimeSpec
from .inputs import plan

Logits = NDArray[Any]
Sign = Callable[[], None]
Places = dict[str, list[NDArray[np.intp]]]


@dataclass(frozen=True)
class Answer:
    """What became of a runtime: its logits by input set, or `problem`. `misplaced`: nodes that ran elsewhere."""

    provider: str | None
    logits: Mapping[str, Logits] = field(default_factory=dict)
    problem: str | None = None
    misplaced: tuple[str, ...] = ()


def places(spec: RuntimeSpec, images: Mapping[str, Images]) -> Places:
    """For each input set, which of its images make up each batch that `spec` runs."""
    return {name: plan(min(len(full), spec.images or len(full)), spec.larger_batches) for name, full in images.items()}


def forward(runtime: Any, images: Mapping[str, Images], where: Places, sign: Sign | None = None) -> dict[str, Logits]:
    """Logits by input set, batch after batch as `where` says; `sign` is called after each."""
    logits = {}
    for name, cut in where.items():
        parts = []
        for batch in cut:
            parts.append(np.asarray(runtime.logits(images[name][batch])))
            if sign is not None:
                sign()
        logits[name] = np.concatenate(parts)
    return logits


def attempt(
    opened: Callable[[], Runtime], images: Mapping[str, Images], where: Places, sign: Sign | None = None
) -> Answer:
    """Open a runtime and run it; whatever it raises is the answer's problem."""
    try:
        with opened() as runtime:
            if sign is not None:
                sign()
            logits = forward(runtime, images, where, sign)
            misplaced = runtime.misplaced() if isinstance(runtime, PlacesNodes) else ()
            return Answer(runtime.provider, logits, None, misplaced)
    except CifarExportError as error:
        return Answer(None, problem=str(error))
    except Exception as error:  # noqa: BLE001  runtimes raise what they like; a crash of one is its row
        return Answer(None, problem=f"crashed: {first_line(error, named=True)}")
