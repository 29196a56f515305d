"""Several files that were written under other names take their own: all of them or none, one process at a time."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import Unavailable
from .leftovers import held, hidden_name
from .locks import lock_beside, only_one

LOCK_SECONDS = 60.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def one_exchange(path: Path) -> Iterator[None]:
    """Hold the lock beside `path`: files that belong together are of one process, not each of another's last rename.

    A file system without locks goes without. Raises `Unavailable` where another process holds it for a minute, and
    OSError.
    """
    busy = Unavailable(f"another process has been writing {path} for {LOCK_SECONDS:.0f} seconds. End it, or wait.")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(only_one(lock_beside(path), busy, seconds=LOCK_SECONDS))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield


def exchange(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Rename the first of each pair to the second; where one cannot be, those before it are their old selves again.

    An older file is kept by a second name until the end; a file system that gives none (FAT) cannot bring it back.
    Raises OSError.
    """
    with _older_kept([path for _, path in pairs[:-1]]) as older:
        done = list[Path]()
        try:
            for temporary, path in pairs:
                temporary.replace(path)
                done.append(path)
        except OSError:
            for path in done:
                with contextlib.suppress(OSError):
                    older[path].replace(path) if path in older else path.unlink()
            raise


@contextlib.contextmanager
def _older_kept(paths: Sequence[Path]) -> Iterator[dict[Path, Path]]:
    """Second names for those of `paths` that are there, gone at the end."""
    names = dict[Path, Path]()
    try:
        for path in paths:
            if os.path.lexists(path):
                name = hidden_name(path)
                with contextlib.suppress(OSError, NotImplementedError):
                    os.link(path, name, follow_symlinks=False)
                    names[path] = name
        with held(*names.values()):
            yield names
    finally:
        for name in names.values():
            with contextlib.suppress(OSError):
                name.unlink()
