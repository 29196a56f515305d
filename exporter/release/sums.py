"""SHA256SUMS, as `sha256sum` writes and checks it: one `<64 hex>  <path>` line a file, sorted by path.

`verify.parse_sums` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..system.files import sha256_file
from .layout import SUMS, UNLISTED


def files_below(folder: Path) -> list[str]:
    """Relative POSIX paths of the regular files below `folder`, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def digests_below(folder: Path) -> dict[str, str]:
    """sha256 by relative path of what a SHA256SUMS in `folder` lists: all files but those of `UNLISTED` at its top."""
    return {name: sha256_file(folder / name) for name in files_below(folder) if name not in UNLISTED}


def write_sums(folder: Path) -> None:
    """Write `folder`/SHA256SUMS over everything below it."""
    (folder / SUMS).write_text(format_sums(digests_below(folder)), encoding="ascii", newline="\n")


def format_sums(digests: Mapping[str, str]) -> str:
    """The text of a SHA256SUMS. Law: `parse_sums(format_sums(d).encode()) == (d, [])` for safe names."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
