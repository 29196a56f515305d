"""The sidecar of an exported file, `<file>.json` beside it: what the file is, for readers that cannot look inside.

It vouches for TorchScript and .pt2 files, too: the sha256 in it tells a file that is as it was exported from any other.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import InvalidInput
from ..formats import FileFacts
from ..formats.ports import described_ports
from ..system.files import sha256_file
from ..system.outside import read_regular

_HOW = "Pass --trust-file only if you know who made it."


def sidecar_path(file: Path) -> Path:
    """Where the sidecar of `file` stands."""
    return file.with_name(f"{file.name}.json")


def sidecar_text(facts: FileFacts, classes: int, *, sha256: str, size: int) -> str:
    """The content of the sidecar of a file of which `facts` are known, JSON; it has `classes` logits.

    `sha256` and `size` (bytes) are the file's own. Nothing in it is of this run: no folders' names, no time.
    """
    shape = (facts.choices.batch, facts.choices.layout, facts.choices.io) if facts.choices else ()
    document = {
        **(facts.metadata or {}),
        "format": facts.format,
        "sha256": sha256,
        "bytes": size,
        "opset": facts.opset,
        "ir_version": facts.ir_version,
        **(described_ports(facts.variant, classes, *shape) if facts.variant else {}),
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def require_vouched(file: Path) -> None:
    """Raise `InvalidInput` unless a file of ours says the sha256 that `file` has.

    That is its sidecar, or SHA256SUMS in the same folder, as in a release that was fetched.
    """
    sidecar = sidecar_path(file)
    if not sidecar.exists() and _summed(file) == sha256_file(file):
        return
    try:
        described = json.loads(read_regular(sidecar))
    except (InvalidInput, ValueError, RecursionError):
        raise InvalidInput(f"{file} is code, and no sidecar {sidecar.name} of ours vouches for it. {_HOW}") from None
    expected = described.get("sha256") if isinstance(described, dict) else None
    if expected != sha256_file(file):
        raise InvalidInput(f"{file} is code, and not the file that its sidecar describes. {_HOW}")


def _summed(file: Path) -> str | None:
    """The sha256 of `file` by the list of sums beside it; None where none stands there."""
    try:
        text = read_regular(file.with_name("SHA256SUMS")).decode()
    except (InvalidInput, UnicodeDecodeError):
        return None
    lines = (line.split(" ", 1) for line in text.splitlines())
    return next((parts[0] for parts in lines if len(parts) == 2 and parts[1][1:] == file.name), None)
