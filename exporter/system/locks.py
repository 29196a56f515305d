"""Locks between processes: a file that one process at a time holds."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import CifarExportError, Unavailable

POLL_SECONDS = 0.05
_NAME = "cifar-export.lock"
_TRIES = 100
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def lock_in(folder: Path) -> Path:
    """The lock of the folder `folder`, in it: a name that nobody's own file has."""
    return folder / f".{_NAME}"


def lock_beside(path: Path) -> Path:
    """The lock of the file or folder `path`, beside it."""
    return path.with_name(f".{path.name}.{_NAME}")


@contextlib.contextmanager
def only_one(lock: Path, busy: CifarExportError, *, seconds: float = 0.0) -> Iterator[None]:
    """Hold the file `lock`, or raise `busy` where another process still holds it after `seconds`.

    What counts is the operating system's lock on the file, not that the file is there: a process that dies lets go of
    it, and the file it left is taken over. Missing parent folders are made, and stay. At the end the file is removed,
    unless there is something in it: then it is not ours. Raises OSError, and `Unavailable` where filelock is too old.
    """
    try:
        from filelock import unlock_descriptor
    except ImportError as error:  # a checkout loaded by torch.hub meets whatever is installed
        raise Unavailable("filelock 3.30 or newer is needed: python -m pip install --upgrade filelock") from error
    deadline = time.monotonic() + seconds
    while (descriptor := _acquire(lock)) is None:
        if time.monotonic() >= deadline:
            raise busy
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        found = os.fstat(descriptor)
        ours = stat.S_ISREG(found.st_mode) and found.st_size == 0
        # Removed before it is let go of: a process that has opened this very file already and gets the lock on it next
        # sees in `_acquire` that the name is gone. Windows removes no open file, so there it comes after.
        if ours and os.name != "nt":
            _remove(lock)
        unlock_descriptor(descriptor)
        os.close(descriptor)
        if ours and os.name == "nt":
            _remove(lock)


def clear_lock(lock: Path) -> None:
    """Remove the file `lock` if nobody holds it: a killed process leaves one. What can't be removed stays."""
    if os.path.lexists(lock):
        with contextlib.suppress(OSError, CifarExportError), only_one(lock, Unavailable("somebody is at work")):
            pass


def _acquire(lock: Path) -> int | None:
    """Open and lock the file of that name, and return its descriptor; None where another process holds it."""
    from filelock import lock_descriptor

    for attempt in range(1, _TRIES + 1):
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, _FLAGS | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another process has just taken the folder away again
            if attempt == _TRIES:
                raise
            continue
        held = False
        try:
            locked = lock_descriptor(descriptor, blocking=False)
            held = locked and _is_named(descriptor, lock)
        finally:
            if not held:
                os.close(descriptor)
        if held:
            return descriptor
        if not locked:
            return None
        # Its holder removed it after we had opened it and before we locked it: such a lock excludes nobody. Once more.
    return None


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether `path` still names the open file. Asked by opening it: NFS answers `stat` from what it remembers."""
    try:
        again = os.open(path, _FLAGS)
    except FileNotFoundError:
        return False
    try:
        return os.path.samestat(os.fstat(descriptor), os.fstat(again))
    finally:
        os.close(again)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
