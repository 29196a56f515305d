"""stdout and stderr, whatever they lead to: a full disk, a reader that has gone, nothing at all.

The exit code is the verdict's. What cannot be said changes neither it nor the work that goes on.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, TextIO

import click

from ..errors import Unavailable, from_os_error, printable

INTERRUPTED = 130  # 128 + SIGINT, what shells report


class Forgiving(io.TextIOWrapper):
    """A stream that leads to nowhere from the moment on at which it takes nothing any more.

    stdout does so only where its reader has gone (`| head`): a disk that is full is for the command to tell.
    """

    only: tuple[int, ...] = ()
    """The errno values that are forgiven; all of them where this is empty."""

    def write(self, text: str) -> int:
        """See `io.TextIOWrapper`."""
        with self._forgiven():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """See `io.TextIOWrapper`."""
        with self._forgiven():
            super().flush()

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self.only and error.errno not in self.only:
                raise
            to_nowhere(self)


def to_nowhere(stream: TextIO) -> None:
    """Let `stream` lead to the null device: else the interpreter tries again at its end, and exits with 120."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), stream.fileno())


def guard() -> None:
    """Make the process's own stdout and stderr forgiving, and let them escape what their encoding lacks."""
    for name, only in (("stdout", (errno.EPIPE,)), ("stderr", ())):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            forgiving = Forgiving(
                stream.buffer, encoding=stream.encoding, errors="backslashreplace", line_buffering=stream.line_buffering
            )
            forgiving.only = only
            setattr(sys, name, forgiving)


def say(line: str) -> None:
    """Print a line for people to stderr; text of strangers in it moves no cursor. Paragraphs keep their lines.

    On a terminal a long line is broken between words; a log has it whole.
    """
    if sys.stderr is not None:  # None where the caller closed it (`2>&-`)
        lines = [printable(part) for part in line.split("\n")]
        if sys.stderr.isatty():
            import shutil  # not for --help

            width = shutil.get_terminal_size().columns
            lines = [broken(part, width) for part in lines]
        click.echo("\n".join(lines), err=True)


def broken(line: str, width: int, indent: str = "", hanging: int = 2) -> str:
    """`line` in lines of at most `width` letters where its words allow that; after the first, `hanging` more deep."""
    return textwrap.fill(
        line,
        width,
        initial_indent=indent,
        subsequent_indent=indent + " " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


@contextlib.contextmanager
def verdict(code: int) -> Iterator[None]:
    """Print in the block, and leave with the exit code `code`, or 3 for a 0 of which stdout does not take the print."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        say(f"error: {from_os_error(error, 'write to stdout')}")
        to_nowhere(sys.stdout)
        code = code or Unavailable.exit_code
    sys.exit(code)


def flushed(write: Any) -> None:
    """Call `write`, which prints to stdout, and forget it where stdout takes nothing."""
    try:
        write()
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:  # the disk that stdout goes to is full: what was said on stderr must do
        to_nowhere(sys.stdout)


def speaks_on_stdout() -> bool:
    """Whether this process is the one that prints the document: under torchrun several share one stdout."""
    return "WORLD_SIZE" not in os.environ or os.environ.get("RANK", "0") == "0"
