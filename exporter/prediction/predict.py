"""What a network sees in pictures: the quickest way to see that an export works."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.pictures import NotAPicture, read_picture
from ..errors import InvalidInput
from ..exporting.subject import opened, require_reader, require_trusted
from ..formats import format_of, proving_runtime
from ..formats.onnx_choices import Precision
from ..gate.isolated import IsolatedFile
from ..networks.normalization import normalization_from
from ..networks.preprocess import Pixels
from ..networks.zoo import Normalization
from ..runtimes import require_precision
from ..weights.core import Weights
from .classifier import Classifier

Progress = Callable[[int, int | None], None]
_BATCH = 64


@dataclass(frozen=True)
class Guess:
    """A class and its probability, 0..1."""

    label: str
    index: int
    probability: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"label": self.label, "index": self.index, "probability": self.probability}


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one picture, best first. `file` is None where it came as pixels."""

    file: Path | None
    top: tuple[Guess, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `{"file": ..., "top": [{"label": ..., "index": ..., "probability": ...}]}`."""
        return {"file": None if self.file is None else str(self.file), "top": [guess.as_dict() for guess in self.top]}


@dataclass(frozen=True)
class Predictions:
    """All pictures in the order given; `skipped` says of each file that was left out why."""

    pictures: tuple[Prediction, ...]
    skipped: tuple[str, ...]


@contextlib.contextmanager
def classifier_of_weights(
    weights: Weights, runtime: str | None = None, precision: Precision = "float32"
) -> Iterator[Classifier]:
    """Yield `weights` in `runtime`, by default PyTorch; other runtimes run an export that lives as long as the block.

    In reduced precision the default is what gates the first format that has it; int8 needs the grids. Raises
    `Unavailable` where the machine lacks the runtime, `InvalidInput` for one that does not run that precision.
    """
    name = runtime or ("pytorch" if precision == "float32" else proving_runtime(None, precision))
    require_precision(name, precision)
    with opened(weights, name, "uint8", precision=precision) as ready:
        yield Classifier(ready, weights.network.dataset.labels, "uint8", weights.normalization)


@contextlib.contextmanager
def classifier_of_file(
    file: Path,
    runtime: str | None = None,
    *,
    trust_file: bool = False,
    labels: tuple[str, ...] | None = None,
    normalization: Normalization | None = None,
) -> Iterator[Classifier]:
    """Yield an exported `file` in `runtime`, in another process; its metadata gives input, normalization and labels.

    `runtime` is by default the one whose parity gates the format. `labels` and `normalization` are for a file without
    metadata of ours. Raises `InvalidInput` for a file that is none of
    ours, that its sidecar does not vouch for although it is code, or that `runtime` does not read, and `Unavailable`
    where the machine lacks the runtime.
    """
    spec = format_of(file)
    require_trusted(file, trust=trust_file)
    name = runtime or spec.gate
    require_reader(name, file, spec.name)
    facts = spec.load().inspect(file)
    require_precision(name, facts.precision)
    if facts.metadata is not None:
        labels, normalization = said_in(file, facts.metadata)
    if facts.variant is None or labels is None:
        raise InvalidInput(f"{file}: carries no labels and no normalization of ours. Export it with cifar-export.")
    if normalization is None:
        if facts.variant == "float32":
            raise InvalidInput(f"{file}: does not say how its images are normalized. Add --mean R,G,B and --std R,G,B.")
        normalization = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # pixels need none
    with IsolatedFile(name, file) as ready:  # it is anyone's, and may hang
        yield Classifier(ready, labels, facts.variant, normalization)


def predict(
    classifier: Classifier, files: Sequence[Path], top: int = 5, *, progress: Progress | None = None
) -> Predictions:
    """The `top` likeliest classes (all, where there are fewer) of each picture; unreadable files are skipped.

    Probabilities are the softmax of the logits, computed in float64. `progress` gets (files done, files). Raises
    `GateFailed` where the network returns numbers that are none, `InvalidInput` where its labels do not fit.
    """
    done: list[Prediction] = []
    skipped: list[str] = []
    for start in range(0, len(files), _BATCH):
        names: list[Path] = []
        pixels: list[Pixels] = []
        for file in files[start : start + _BATCH]:
            try:
                pixels.append(read_picture(file))
                names.append(file)
            except NotAPicture as error:
                skipped.append(str(error))
        if names:
            probabilities = classifier.probabilities(np.stack(pixels))
            done += [_prediction(*pair, classifier.labels, top) for pair in zip(names, probabilities, strict=True)]
        if progress is not None:
            progress(min(start + _BATCH, len(files)), len(files))
    return Predictions(tuple(done), tuple(skipped))


def predict_pixels(classifier: Classifier, pixels: Pixels, top: int = 5) -> Predictions:
    """`predict` for images that are pixels already: uint8 (N, 32, 32, 3) RGB, as `require_pixels` gives them."""
    batches = (pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH))
    rows = (row for batch in batches for row in classifier.probabilities(batch))
    return Predictions(tuple(_prediction(None, row, classifier.labels, top) for row in rows), ())


def _prediction(file: Path | None, probabilities: NDArray[np.float64], labels: Sequence[str], top: int) -> Prediction:
    best = np.argsort(-probabilities, kind="stable")[:top]
    return Prediction(file, tuple(Guess(labels[i], int(i), float(probabilities[i])) for i in best))


def said_in(file: Path, metadata: dict[str, Any]) -> tuple[tuple[str, ...], Normalization]:
    """Labels and normalization in the metadata of an exported `file`. Raises `InvalidInput` where it is damaged."""
    labels = metadata.get("labels")
    try:
        normalization = normalization_from({key: metadata.get(key) for key in ("mean", "std")})
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError("its labels are no list of names")
    except ValueError as error:
        raise InvalidInput(f"{file}: its metadata is damaged ({error}). Export it again.") from error
    return tuple(labels), normalization
