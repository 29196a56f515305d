"""SHA256SUMS, as `sha256sum` writes and checks it: one `<64 hex>  <path>` line a file, sorted by path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from exporter.errors import GateFailed
from exporter.files import sha256_file
from exporter.release.layout import SUMS, UNLISTED

_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9_./+-]*)")


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
    """The text of a SHA256SUMS. Law: `parse_sums(format_sums(d)) == d`."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def parse_sums(text: str) -> dict[str, str]:
    """sha256 by path. Raises `GateFailed` for a text that `format_sums` cannot have written."""
    digests: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if not match or ".." in match[2].split("/") or match[2] in digests:
            raise GateFailed(f"{SUMS} has a line that is no checksum of a plain file: {line[:100]!r}.")
        digests[match[2]] = match[1]
    if format_sums(digests) != text:
        raise GateFailed(f"{SUMS} is not as it was written: other line ends or another order.")
    return digests
