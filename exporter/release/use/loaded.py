"""Networks ready to use, from a release or from what comes with the installation.

What runs the ONNX files needs no torch; `network()` and `weights()` import it.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ...errors import GateFailed, InvalidInput
from ...formats.onnx_choices import ONNX_PRECISIONS, OnnxChoices, Precision
from ...networks.zoo import (
    RELEASED_VARIANTS,
    DatasetSpec,
    InputVariant,
    NetworkSpec,
    Normalization,
    find_network,
    named,
    parts_of,
    require_variant,
)
from ...system.files import sha256_bytes
from ...system.outside import MAX_MODEL_BYTES, read_regular
from ..layout import CONFIG, WEIGHTS, ModelFile, models_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...networks.resnet import ResNet
    from ...prediction.classifier import Classifier
    from ...weights.core import Weights

_BATCH = 250


class Predicted(NamedTuple):
    """What a network sees in N images: the likeliest class of each, int64 (N,), and all probabilities, (N, classes)."""

    indices: NDArray[np.int64]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class LoadedNetwork(ABC):
    """A network with what is needed to feed it and to name its classes.

    `name` as in `cifar100_resnet20`; `labels` in the order of the logits; `normalization` for the float32 input (the
    uint8 one has it inside).
    """

    name: str
    labels: tuple[str, ...] = field(repr=False)
    normalization: Normalization

    @abstractmethod
    def weights(self) -> Weights:
        """The trained numbers and where they are from. Imports torch."""

    @abstractmethod
    def _onnx(self, variant: InputVariant, precision: Precision) -> tuple[Path, bytes]:
        """The ONNX file of that input and precision: its path, for messages, and its checked content."""

    @abstractmethod
    def _classifier(self) -> Classifier:
        """What `predict` runs."""

    def network(self) -> ResNet:
        """The torch module in eval mode, on the CPU: normalized float32 (N, 3, 32, 32) to logits (N, classes)."""
        from ...weights.core import build_network

        network = build_network(self.weights())
        network.normalization = self.normalization
        return network

    def session(
        self,
        variant: Literal["float32", "uint8"] = "uint8",
        device: Literal["cpu", "cuda"] = "cpu",
        precision: Literal["float32", "float16", "int8"] = "float32",
    ) -> Any:
        """An `onnxruntime.InferenceSession` of the ONNX file.

        `uint8` takes pixels, `image`: uint8 (N, 32, 32, 3) RGB; `float32` takes `input`: float32 (N, 3, 32, 32),
        normalized with `normalization`. Both return `logits`: float32 (N, classes). A reduced `precision`, "float16" or
        "int8", is of weights and arithmetic; a release has it for pixels, if it was packaged with it. Raises
        `InvalidInput` where it was not, `Unavailable` where the device asked for is not the one that would run it.
        """
        require_variant(variant, RELEASED_VARIANTS)
        if precision not in ONNX_PRECISIONS:
            raise InvalidInput(f"no precision {precision!r}. Known: {', '.join(ONNX_PRECISIONS)}.")
        return _open(*self._onnx(variant, precision), device).inference

    def predict(self, images: NDArray[np.uint8]) -> Predicted:
        """Classes and probabilities (0..1, the softmax of the logits) of `images`, uint8 (N, 32, 32, 3) RGB.

        The network is opened once and kept. Raises `InvalidInput` for other arrays.
        """
        import numpy as np

        from ...networks.preprocess import require_pixels

        pixels = require_pixels(images)
        batches = [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
        nothing = np.zeros((0, len(self.labels)))
        probabilities = np.concatenate([nothing, *(self._opened.probabilities(batch) for batch in batches)])
        return Predicted(probabilities.argmax(axis=1), probabilities)

    @cached_property
    def _opened(self) -> Classifier:
        return self._classifier()


@dataclass(frozen=True)
class ReleasedNetwork(LoadedNetwork):
    """A network of a release, in a folder whose files are checked, each time one is opened, against its digest.

    `version` is the release's, `config` the content of `config.json`, `files` sha256 by path inside `folder`.
    """

    version: str
    folder: Path
    config: Mapping[str, Any] = field(repr=False, hash=False)
    files: Mapping[str, str] = field(repr=False, hash=False)

    def path(self, file: str) -> Path:
        """The path of one of `files` ("model.onnx"), checked just now. Raises like `read`."""
        self.read(file)
        return self.folder / file

    def read(self, file: str) -> bytes:
        """The checked content of one of `files`.

        Raises `InvalidInput` for a name that is none of them, `GateFailed` where the file has changed or is gone.
        """
        if file not in self.files:
            raise InvalidInput(f"{self.name} has no file {file!r}. It has {', '.join(sorted(self.files))}.")
        return read_checked(self.folder, file, self.files[file])

    def weights(self) -> Weights:
        """See `LoadedNetwork`."""
        from ...weights.sources import load_weights

        path = self.path(WEIGHTS)
        weights = load_weights(self._spec(), str(path))
        if weights.sha256 != self.files[WEIGHTS]:  # of the very bytes that were parsed
            raise _changed(path)
        if weights.normalization != self.normalization:
            raise GateFailed(f"{path} and {CONFIG} name different normalizations. Ask the release's maker.")
        return weights

    def _spec(self) -> NetworkSpec:
        parts = parts_of(self.name)
        if parts is None or find_network(self.name):
            return named(self.name)
        dataset, model = parts
        return NetworkSpec(model, DatasetSpec(dataset, dataset, self.labels, self.normalization))

    def _onnx(self, variant: InputVariant, precision: Precision) -> tuple[Path, bytes]:
        wanted = ModelFile("onnx", variant, precision)
        file = next((file for file, made in models_of(self.config).items() if made == wanted), None)
        if file is None:
            has = ", ".join(f"{made.precision} of {made.input} input" for made in _onnx_files(self.config))
            raise InvalidInput(
                f"{self.name} {self.version} has no {precision} ONNX file of {variant} input, but {has}."
            )
        return self.folder / file, self.read(file)

    def _classifier(self) -> Classifier:
        from ...prediction.classifier import Classifier

        return Classifier(_open(*self._onnx("uint8", "float32"), "cpu"), self.labels, "uint8", self.normalization)


@dataclass(frozen=True)
class BundledNetwork(LoadedNetwork):
    """A network with the weights that come with the installation; ONNX files are exported, and proved, on demand."""

    def weights(self) -> Weights:
        """See `LoadedNetwork`."""
        from ...weights.sources import load_weights

        return load_weights(named(self.name))

    def _onnx(self, variant: InputVariant, precision: Precision) -> tuple[Path, bytes]:
        from ...exporting.artifact import export
        from ...exporting.precision import prepared

        path, asked = Path("model.onnx"), (variant, precision)
        if asked not in self._exported:
            choices = OnnxChoices(precision=precision)
            with tempfile.TemporaryDirectory(prefix="cifar-export-") as folder:
                weights = prepared(self.weights(), precision)
                export(weights, "onnx", variant=variant, choices=choices, output=Path(folder) / path)
                self._exported[asked] = (Path(folder) / path).read_bytes()
        return path, self._exported[asked]

    @cached_property
    def _exported(self) -> dict[tuple[InputVariant, Precision], bytes]:
        """The files made so far: each takes seconds."""
        return {}

    def _classifier(self) -> Classifier:
        from ...exporting.subject import Subject
        from ...prediction.classifier import Classifier

        network = Subject(self.weights(), "uint8").open("pytorch")  # kept as long as this object, and holds but memory
        return Classifier(network, self.labels, "uint8", self.normalization)


def _onnx_files(config: Mapping[str, Any]) -> list[ModelFile]:
    return [made for made in models_of(config).values() if made.format == "onnx"]


def read_checked(folder: Path, file: str, sha256: str) -> bytes:
    """The content of `folder`/`file`. Raises `GateFailed` where it has another digest or is gone."""
    path = folder / file
    if not path.exists():
        raise GateFailed(f"{path} is gone. Load the network again.")
    data = read_regular(path, MAX_MODEL_BYTES)
    if sha256_bytes(data) != sha256:
        raise _changed(path)
    return data


def _changed(path: Path) -> GateFailed:
    return GateFailed(f"{path} has changed since it was checked. Load the network again.")


def _open(path: Path, content: bytes, device: Literal["cpu", "cuda"]) -> Any:
    """Our session on `content`, not on what may stand in the file by now."""
    from ...runtimes import require_runtime
    from ...runtimes.onnxruntime import CPU, CUDA, CUDA_OPTIONS, Session

    if device not in ("cpu", "cuda"):
        raise InvalidInput(f"no device {device!r}. Known: cpu, cuda.")
    name = f"onnxruntime-{device}"
    require_runtime(name)
    provider, options = (CUDA, CUDA_OPTIONS) if device == "cuda" else (CPU, {})
    return Session(path, name, provider, options, content)
