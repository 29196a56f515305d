"""The one place where the deprecation of torch.jit is silenced.

TorchScript is deprecated in favor of torch.export, and stays here because C++ consumers ask for it; the TorchScript
based ONNX exporter stays because it alone delivers opsets below 18.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

_MESSAGES = (r"`?torch\.jit\.", r"You are using the legacy TorchScript-based", r"The feature will be removed")


@contextlib.contextmanager
def torchscript_deprecations() -> Iterator[None]:
    """Silence what torch says about torch.jit and the exporter built on it being deprecated, and nothing else."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            for message in _MESSAGES:
                warnings.filterwarnings("ignore", message=message, category=category)
        yield
