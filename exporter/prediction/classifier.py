"""From pixels to probabilities, in any runtime. Imports no torch: whoever runs an ONNX file needs none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GateFailed, InvalidInput
from ..networks.preprocess import Pixels, as_variant
from ..networks.zoo import InputVariant, Normalization
from ..runtimes import Runtime, run_batch


@dataclass(frozen=True)
class Classifier:
    """A network ready to run, with what is needed to feed it and to name its classes."""

    runtime: Runtime
    labels: tuple[str, ...]
    variant: InputVariant
    normalization: Normalization

    def probabilities(self, pixels: Pixels) -> NDArray[np.float64]:
        """Probabilities (N, classes) of one batch of images, uint8 (N, 32, 32, 3) RGB: the softmax of the logits.

        Raises `GateFailed` where the network returns numbers that are none, `InvalidInput` where its labels do not fit.
        """
        logits = run_batch(self.runtime, as_variant(pixels, self.variant, self.normalization))
        if logits.shape != (len(pixels), len(self.labels)):
            raise InvalidInput(
                f"the network returns {logits.shape[-1]} classes, but there are {len(self.labels)} labels for them. "
                "Give labels that fit, or export it again."
            )
        if not np.isfinite(logits).all():
            raise GateFailed("the network returned NaN or infinite logits. Check its weights.")
        return softmax(logits)


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities (N, classes) of logits (N, classes), in float64."""
    shifted = logits.astype(np.float64)
    powers = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
