"""Files that appear whole or not at all, and their checksums."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from exporter.errors import InvalidInput, from_os_error


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of the file at `path`, read in blocks. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, on any exit else removed.

    The rename is atomic, so `path` is either its old self or the complete new file, also after a crash. Missing
    parent folders are made. The temporary name ends with the full name of `path`, so that tools that look at the
    suffix see the right one. Raises `InvalidInput` or `Unavailable` for what the file system refuses.
    """
    if path.is_dir():
        raise InvalidInput(f"cannot write {path}: it is a folder. Name a file.")
    temporary = path.with_name(f".{secrets.token_hex(4)}.tmp.{path.name}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except OSError as error:
            if error.filename not in (None, str(temporary), str(path), str(path.parent)):
                raise  # someone else's file, met inside the `with`
            raise from_os_error(error, f"write {path}") from error
    finally:
        temporary.unlink(missing_ok=True) if temporary.parent.is_dir() else None


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` by way of `staged`: the old file or the whole new one, never a part."""
    with staged(path) as temporary:
        temporary.write_bytes(data)
