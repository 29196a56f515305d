"""What the fixture `built_network` is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class BuiltNetwork:
    """A network's folder of a release, the index of weights it was built from, what was measured and what was said."""

    folder: Path
    index: Path
    measurements: dict[str, Any]
    progress: tuple[str, ...]
