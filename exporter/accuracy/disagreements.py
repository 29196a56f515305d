"""The images on which runtimes name different classes, and whether arithmetic explains it: the gate's bounds decide."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import Split
from ..formats.onnx_choices import Precision
from ..gate.compare import bound
from ..gate.forward import Inputs
from ..gate.standard import standard
from ..networks.preprocess import as_variant
from ..networks.resnet import with_input
from ..networks.zoo import InputVariant
from ..runtimes import open_runtime, spec_of
from ..runtimes.pytorch import Reference
from ..weights.core import Weights, build_network
from .evaluation import DEFAULT_BATCH

Verdict = Literal["failure", "tie", "reduced precision"]
_SET = "test"  # the name of the one input set
_AT_LEAST = 128  # images that the error of correct runtimes is measured on, beside those in dispute


@dataclass(frozen=True)
class Disagreement:
    """An image on which runtimes name different classes.

    `index`: in the test set. `label`: its true class. `classes`: by runtime. `reference`: that of the float64 network,
    or of the simulation of a reduced file. `margin`: between its best two logits. A "tie" has a margin that correct
    runtimes can bridge (twice the gate's bound, at most); a "failure" has a clear one; in "reduced precision" all
    runtimes agree but those that compute in less than was asked for.
    """

    index: int
    label: int
    classes: Mapping[str, int]
    reference: int
    margin: float
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "index": self.index,
            "label": self.label,
            "classes": dict(self.classes),
            "reference": self.reference,
            "margin": self.margin,
            "verdict": self.verdict,
        }


def disagreements(
    predictions: Mapping[str, NDArray[np.int64]],
    split: Split,
    weights: Weights,
    variant: InputVariant,
    precision: Precision,
) -> tuple[Disagreement, ...]:
    """Where the runtimes' `predictions`, each (images,) for the first images of `split`, are not the same.

    A failure is an image that a runtime, one that the gate holds to its bound, cannot get wrong: the reference's margin
    is more than twice that bound, which in int8 is the runtime's own.
    """
    if len(predictions) < 2:
        return ()
    table = np.stack(list(predictions.values()))
    disputed = np.flatnonzero((table != table[0]).any(axis=0))
    if not len(disputed):
        return ()
    # the error of correct runtimes, and with it the gate's bound, needs more images than the few in dispute
    places = np.union1d(disputed, np.arange(min(_AT_LEAST, table.shape[1])))
    if precision == "float32":
        reference, clear = _of_float32(list(predictions), split, places, weights, variant)
    else:
        reference, clear = _of_simulation(list(predictions), split, places, weights, variant, precision)
    held = [name for name in predictions if spec_of(name).gated or spec_of(name).reads == "network"]
    found = []
    for place in disputed:
        logits = reference[np.searchsorted(places, place)]
        second, best = np.partition(logits, -2)[-2:]
        margin, first = float(best - second), int(logits.argmax())
        classes = {name: int(predicted[place]) for name, predicted in predictions.items()}
        wrong = [name for name in held if classes[name] != first]
        verdict: Verdict = "failure" if any(margin > clear[name] for name in wrong) else "tie"
        if len({classes[name] for name in held}) < 2:
            verdict = "reduced precision"
        found.append(Disagreement(int(place), int(split.labels[place]), classes, first, margin, verdict))
    return tuple(found)


def _of_float32(
    names: list[str], split: Split, places: NDArray[np.intp], weights: Weights, variant: InputVariant
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """The float64 logits of the images at `places`, and for each runtime the margin above which one is clear."""
    network = build_network(weights)
    double = with_input(copy.deepcopy(network).double(), variant, weights.normalization).eval()
    eager = with_input(network, variant, weights.normalization).eval()
    reference = _logits(Reference(double), split, places, weights, variant)
    yardsticks = [name for name in names if spec_of(name).reads == "network"] or ["pytorch"]
    own = []
    for name in yardsticks:
        with open_runtime(name, eager) as yardstick:
            own.append(_logits(yardstick, split, places, weights, variant))
    clear = 2 * bound(reference, own).allowed
    return reference, dict.fromkeys(names, clear)


def _of_simulation(
    names: list[str],
    split: Split,
    places: NDArray[np.intp],
    weights: Weights,
    variant: InputVariant,
    precision: Precision,
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """The same of a reduced file's simulation."""
    inputs = Inputs({_SET: split.images[places]}, variant, weights.normalization)
    found = standard(weights, variant, precision, names, inputs, lambda what: None)
    return found.reference[_SET], {name: 2 * found.limits(spec_of(name))[_SET].allowed for name in names}


def _logits(
    runtime: Any, split: Split, places: NDArray[np.intp], weights: Weights, variant: InputVariant
) -> NDArray[Any]:
    parts = np.array_split(places, max(1, len(places) // DEFAULT_BATCH))
    return np.concatenate(
        [runtime.logits(as_variant(split.images[part], variant, weights.normalization)) for part in parts]
    )
