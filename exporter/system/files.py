"""Files and folders that appear whole or not at all, and checksums."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import InvalidInput, from_os_error
from .exchange import exchange, one_exchange
from .leftovers import clear_dead, held, hidden_name
from .leftovers import leftover_of as leftover_of
from .locks import lock_beside
from .outside import MAX_MODEL_BYTES, open_regular


def require_utf8(path: Path) -> None:
    """Raise `InvalidInput` for a path that is not UTF-8, which runtimes cannot open, or that holds a NUL."""
    if "\0" in str(path):
        raise InvalidInput(f"{str(path)!r}: no name holds a NUL character. Choose another.")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise InvalidInput(f"{shown}: the name is not UTF-8, and runtimes cannot open it. Choose another.") from error


def require_file(path: Path) -> None:
    """Raise `InvalidInput` unless `path` is a readable regular file of at most `MAX_MODEL_BYTES`."""
    open_regular(path, MAX_MODEL_BYTES).close()


_SYSTEM_FOLDERS = (Path("/dev"), Path("/proc"))
_KINDS = {stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def require_target(path: Path) -> None:
    """Raise `InvalidInput` where an output cannot go to `path`, because what stands there is no regular file.

    An output appears by a rename, which puts a file in the place of whatever has the name: `/dev/null` would be gone. A
    link counts as what it leads to (the link is replaced, what it leads to stays); those of the system, `/dev/stdout`
    for one, are never replaced, and `-` is no name: standard output has the results. Call it before the work, for each
    option that names a file to write.
    """
    if str(path) == "-":
        raise InvalidInput("cannot write a file to -: the results go to standard output. Name a file.")
    try:
        what = _in_the_way(path)
    except ValueError:
        raise InvalidInput(f"cannot write {str(path)!r}: no name holds a NUL character. Choose another.") from None
    except OSError as error:
        raise from_os_error(error, f"write {path}") from error
    if what == "a folder":
        raise InvalidInput(f"cannot write {path}: it is a folder. Name a file.")
    if what:
        raise InvalidInput(f"cannot write {path}: it is {what}, and would be replaced by a file. Name a file.")


def _in_the_way(path: Path) -> str:
    """What stands at `path` and is no file that an output may replace; "" where nothing does. Raises OSError."""
    if path.is_symlink() and any(map(path.parent.resolve().is_relative_to, _SYSTEM_FOLDERS)):
        return "a link of the system"
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return ""  # nothing, or a link that leads nowhere
    if stat.S_ISDIR(kind):
        return "a folder"
    return "" if stat.S_ISREG(kind) else _KINDS.get(kind, "a special file")


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of `data`."""
    import hashlib  # not for --help

    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of the file at `path`, read in blocks. Raises OSError."""
    import hashlib  # not for --help

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
    Ctrl-C waits until the last rename. Where one can't be renamed, all are their old selves; where several processes
    write the same ones, all are of the last. Missing parent folders are made, and removed again if nothing came into
    them. A temporary name ends with the full name of its file, so that tools that look at the suffix see the right
    one. The temporary files are empty at first, and the body writes every one. Raises `InvalidInput` or `Unavailable`
    for what the file system refuses.
    """
    for path in paths:
        require_target(path)
    temporaries = tuple(map(hidden_name, paths))
    with no_empty_parents(*paths):
        try:
            for temporary, path in zip(temporaries, paths, strict=True):
                clear_dead(path)
                _make(temporary, Path.touch, 0o600)
            with held(*temporaries):
                yield temporaries
                for temporary in temporaries:
                    sync(temporary)
                with _alone(paths), interrupts_held():
                    exchange(list(zip(temporaries, paths, strict=True)))
        except OSError as error:
            ours = {str(path) for path in (*temporaries, *paths, *(parent for p in paths for parent in p.parents))}
            ours.add(str(lock_beside(paths[0])))
            if error.filename is not None and str(error.filename) not in ours:
                raise  # someone else's file, met inside the `with`
            raise from_os_error(error, f"write {paths[0]}") from error
        finally:
            for temporary in temporaries:
                with contextlib.suppress(OSError):  # it was renamed, or could not even be made
                    temporary.unlink()


@contextlib.contextmanager
def staged_folder(path: Path, *, merge: bool = False) -> Iterator[Path]:
    """Yield a path at which the body makes a folder; on success that folder becomes `path`, on any exit else it goes.

    `path` appears by one rename, complete, with everything in it on the disk. A folder of that name that holds anything
    is not replaced, which is an OSError; with `merge` it gets the new files, each by a rename, and keeps what else it
    holds. Ctrl-C waits until the last rename. Missing parent folders are made, and removed again if nothing came into
    them. Raises OSError: only the caller knows what the folder is to a user.
    """
    with hidden_folder(path) as made:
        yield made
        sync_tree(made)
        with interrupts_held():
            if merge and path.is_dir():
                for file in sorted(made.iterdir()):
                    file.replace(path / file.name)
            else:
                made.rename(path)
            sync(path.parent)


@contextlib.contextmanager
def hidden_folder(path: Path) -> Iterator[Path]:
    """Yield where to make what is to become the folder `path`: under the same name in a hidden folder beside it.

    The hidden folder is removed at the end, with whatever is still in it. A killed process leaves it behind, and
    `leftover_of` knows it. Missing parent folders are made, and removed again if nothing came into them. Raises
    OSError.
    """
    import shutil  # not for --help

    hidden = hidden_name(path)
    with no_empty_parents(path):
        try:
            clear_dead(path)
            _make(hidden, Path.mkdir, 0o700)
            with held(hidden):
                yield hidden / path.name
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def remove_at_once(path: Path) -> None:
    """Take the file or folder `path` away by a rename, so that nobody finds a part of it, then delete it.

    A link is not followed. Raises OSError.
    """
    with hidden_folder(path) as aside:
        path.rename(aside)


def _alone(paths: tuple[Path, ...]) -> contextlib.AbstractContextManager[None]:
    return one_exchange(paths[0]) if len(paths) > 1 else contextlib.nullcontext()


@contextlib.contextmanager
def no_empty_parents(*paths: Path) -> Iterator[None]:
    """Remove at the end those parent folders of `paths` that did not exist before, if they hold nothing."""
    missing = list(dict.fromkeys(parent for path in paths for parent in path.parents if not parent.exists()))
    try:
        yield
    finally:
        for folder in missing:  # the deepest first; one that holds anything stays
            with contextlib.suppress(OSError):
                folder.rmdir()


def _make(path: Path, make: Callable[[Path], None], least: int) -> None:
    """Make the new file or folder `path` and its parents: one that isn't empty is not removed by a process that failed.

    Its owner gets the rights `least`, whatever the umask: it must be read again. Raises OSError.
    """
    for attempt in range(10):  # so many processes may take the folder away in just this moment
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            make(path)
        except FileNotFoundError:
            if attempt == 9:
                raise
        else:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & least != least:
                path.chmod(mode | least)
            return


def sync_tree(folder: Path) -> None:
    """Put `folder` and everything in it on the disk. Raises OSError."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Put the content of a file, or the names in a folder, on the disk. Raises OSError."""
    if os.name == "nt" and path.is_dir():
        return  # not possible there
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)  # Windows syncs only what may be written
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU") if hasattr(signal, name))
"""Signals that ask a process to end, or tell that it will be ended."""


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl-C and signals that end the process wait until the block is through.

    By handlers, not by a signal mask: that is a thread's own, and the system would hand the signal to another thread.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread is interrupted
        yield
        return
    held: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
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
