"""Files of a network in further formats: what they need, how they are told of, and that they answer the golden images.

Their parity is part of that of the other files with the same input (`gate.gate_parity`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...errors import GateFailed
from ...exporting.golden import Golden
from ...formats import FORMATS, require_library
from ...gate.isolated import IsolatedFile
from ...runtimes import require_runtime
from ..check.golden import Wrong, largest_error
from ..layout import beside_further, further_file


def require_formats(formats: Iterable[str]) -> None:
    """Raise `Unavailable` with the fix where this machine cannot write or prove files in one of those formats."""
    for name in formats:
        require_library(FORMATS[name])
        require_runtime(FORMATS[name].gate)


def further_runtimes(formats: Iterable[str]) -> tuple[str, ...]:
    """The runtimes that files in those formats must pass."""
    return tuple(FORMATS[name].gate for name in formats)


def described(folder: Path, formats: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What config.json says of the files in those formats that stand in `folder`, by format."""
    return {
        name: {
            "file": further_file(name),
            "bytes": (folder / further_file(name)).stat().st_size,
            "runtime": FORMATS[name].gate,
            "beside": sorted(beside_further(name)),
        }
        for name in formats
    }


def golden_errors(network: str, folder: Path, formats: Iterable[str], golden: Golden) -> dict[str, float]:
    """The largest error on the `golden` vectors of each file in those formats that stands in `folder`, by format.

    The release promises their tolerance of such files too. Raises `GateFailed` where one does not keep it.
    """
    errors = {}
    for name in formats:
        try:
            with IsolatedFile(FORMATS[name].gate, folder / further_file(name)) as runtime:
                errors[name] = largest_error(runtime.logits(golden.images), golden.logits, golden.atol)
        except Wrong as wrong:
            raise GateFailed(f"{network}: {further_file(name)} {wrong}. The network is not released.") from wrong
    return errors
