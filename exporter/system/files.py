"""Files and folders that appear whole or not at all, and checksums."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from ..errors import InvalidInput, from_os_error


def require_file(path: Path) -> None:
    """Raise `InvalidInput` unless `path` is a readable regular file: opening a pipe, say, would wait for its writer."""
    try:
        if not path.is_dir() and path.exists() and not path.is_file():
            raise InvalidInput(f"{path} is not a regular file. Name one.")
        path.open("rb").close()
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of the file at `path`, read in blocks. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """`staged_together` for one file."""
    with staged_together(path) as (temporary,):
        yield temporary


@contextlib.contextmanager
def staged_together(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Yield a temporary path beside each of `paths`; on success all are synced and renamed, on any exit else removed.

    A rename is atomic, so each of `paths` is either its old self or the complete new file, also after a crash, and
    Ctrl-C waits until the last rename. Missing parent folders are made, and removed again if nothing came into them.
    A temporary name ends with the full name of its file, so that tools that look at the suffix see the right one. The
    temporary files are empty at first, and the body writes every one. Raises `InvalidInput` or `Unavailable` for what
    the file system refuses.
    """
    for path in paths:
        if path.is_dir():
            raise InvalidInput(f"cannot write {path}: it is a folder. Name a file.")
    token = secrets.token_hex(4)
    temporaries = tuple(path.with_name(f".{token}.tmp.{path.name}") for path in paths)
    made = list(dict.fromkeys(parent for path in paths for parent in path.parents if not parent.exists()))
    try:
        try:
            for temporary in temporaries:
                _make_empty(temporary)
            yield temporaries
            for temporary in temporaries:
                with temporary.open("r+b") as stream:  # Windows syncs only what may be written to
                    os.fsync(stream.fileno())
            with interrupts_held():
                for temporary, path in zip(temporaries, paths, strict=True):
                    temporary.replace(path)
        except OSError as error:
            ours = {str(path) for path in (*temporaries, *paths, *(parent for p in paths for parent in p.parents))}
            if error.filename is not None and str(error.filename) not in ours:
                raise  # someone else's file, met inside the `with`
            raise from_os_error(error, f"write {paths[0]}") from error
    finally:
        for temporary in temporaries:
            with contextlib.suppress(OSError):  # it was renamed, or could not even be made
                temporary.unlink()
        for folder in made:  # the deepest first; one that holds anything stays
            with contextlib.suppress(OSError):
                folder.rmdir()


def _make_empty(path: Path) -> None:
    """Make an empty file and its folders: what is not empty isn't removed by a process that made the folder and failed.

    Raises OSError.
    """
    for attempt in range(10):  # so many processes may take the folder away in just this moment
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.touch()
        except FileNotFoundError:
            if attempt == 9:
                raise
        else:
            return


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl-C and a termination wait until the block is through.

    By handlers, not by a signal mask: that is a thread's own, and the system would hand the signal to another thread.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread is interrupted
        yield
        return
    held: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in before.items() if handler is not None}  # None: not set by Python
    for number in ours:
        signal.signal(number, lambda received, _frame: held.append(received))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        for received in held[:1]:
            signal.raise_signal(received)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` by way of `staged`: the old file or the whole new one, never a part."""
    with staged(path) as temporary:
        temporary.write_bytes(data)
