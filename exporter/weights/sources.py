"""Where weights come from: the package itself, the upstream release, or a file."""

from __future__ import annotations

from collections.abc import Callable

from exporter.weights.core import Weights
from exporter.zoo import NetworkSpec, Normalization


def load_weights(
    network: NetworkSpec,
    source: str = "bundled",
    normalization: Normalization | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Weights:
    """Load the weights of `network` from `source`: "bundled", "upstream" or the path of a file."""
    raise NotImplementedError
