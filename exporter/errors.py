"""The three ways a command can fail, each with the exit code that automation reads.

Raise these for anything a user can cause or fix. The message is one or two lines: the cause, then the next step.
"""

from __future__ import annotations

import errno
import re


class CifarExportError(Exception):
    """Base of every error that is shown without a traceback. `exit_code` is the process's exit status."""

    exit_code = 1


class GateFailed(CifarExportError):
    """A check said no (parity, accuracy, verification). Nothing new stands under the output's name."""

    exit_code = 1


class InvalidInput(CifarExportError):
    """Wrong usage: an option, a file or a checkpoint that is not what the command needs."""

    exit_code = 2


class Unavailable(CifarExportError):
    """This machine lacks something: a GPU, a runtime, the data set, the network, disk space."""

    exit_code = 3


ERRORS: dict[int, type[CifarExportError]] = {kind.exit_code: kind for kind in (GateFailed, InvalidInput, Unavailable)}
"""By exit code."""


def first_line(error: BaseException | str, *, limit: int = 200, named: bool = False) -> str:
    """What a foreign `error` says, for the middle of a sentence: at most `limit` characters, no full stop at the end.

    Its first line, or its type where it says nothing; with `named`, "Type: first line".
    """
    said = str(error).strip().splitlines()
    parts = [type(error).__name__] if named or not said else []
    return ": ".join(parts + said[:1])[:limit].rstrip(". ")


def printable(text: str) -> str:
    """Escape what would move a terminal's cursor, turn its writing or fake a line: text of strangers gets printed."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


_NO_MEMORY = re.compile(
    "cannot allocate|can't allocate|failed to map segment|bad_alloc|unable to allocate|can't start new thread", re.I
)


def short_of_memory(error: BaseException | None) -> bool:
    """Whether `error`, or what it came of, says that memory is short: libraries have many words for it."""
    while error is not None:
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


# What the operating system says when the machine, not the user, is short of something.
_MACHINE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EINTR}
)


def from_os_error(error: OSError, doing: str) -> CifarExportError:
    """Translate `error`, met while `doing` ("write out.onnx"), into one line and the right exit code.

    A full disk and the like are the machine's (3); a missing or unwritable path is the caller's (2).
    """
    reason = error.strerror or str(error)
    if error.errno in _MACHINE_ERRNOS:
        return Unavailable(f"cannot {doing}: {reason}. Free some space or choose another place, then run it again.")
    return InvalidInput(f"cannot {doing}: {reason}. Check the path and its permissions.")
