"""What killed processes leave behind: temporary files and folders that the next run into the same place removes.

A process that is alive holds the system's lock on its temporaries. One that nobody holds, and that has not been written
to for a minute (between making and locking passes a moment), is of a process that is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks: there leftovers stay
    fcntl = None  # type: ignore[assignment]

YOUNG_SECONDS = 60.0
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def hidden_name(path: Path) -> Path:
    """A new name beside `path` for what is to become it; `leftover_of` knows such names."""
    return path.with_name(f".{os.urandom(4).hex()}.tmp.{path.name}")


def leftover_of(path: Path) -> str:
    """The name of the file or folder that `path`, by its own name, is a killed process's leftover of; "" if it's none.

    Processes that are alive have such files too: hold their lock, or ask `clear_dead`, before you remove one.
    """
    found = re.fullmatch(r"(?:\.[0-9a-f]{8}\.tmp\.)+(.+)", path.name)
    return found[1] if found else ""


@contextlib.contextmanager
def held(*temporaries: Path) -> Iterator[None]:
    """Keep the locks of `temporaries`, files or folders that were just made, for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        for path in temporaries if fcntl else ():
            with contextlib.suppress(OSError):  # a file system without locks, whose leftovers stay
                descriptor = os.open(path, _FLAGS)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def clear_dead(path: Path) -> None:
    """Remove what killed processes of this user left beside `path` when they made it. What can't be removed stays."""
    with contextlib.suppress(OSError):
        for entry in list(path.parent.iterdir()) if fcntl else ():
            if leftover_of(entry) == path.name:
                _remove_if_dead(entry)


def _remove_if_dead(path: Path) -> None:
    with contextlib.suppress(OSError):
        found = path.lstat()
        is_folder = stat.S_ISDIR(found.st_mode)
        mine = found.st_uid == os.getuid() and (is_folder or stat.S_ISREG(found.st_mode))
        if not mine or time.time() - found.st_mtime < YOUNG_SECONDS:
            return
        descriptor = os.open(path, _FLAGS)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where its process lives
            if is_folder:
                import shutil  # not for --help

                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        finally:
            os.close(descriptor)
