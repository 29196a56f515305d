"""Progress for people, on stderr: a step by its name, or a bar of what is done. A log gets a line a minute."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..errors import printable
from .streams import say

SECONDS_BETWEEN_LINES = 60.0
"""In a log: what takes less says nothing there."""


class _Log:
    """Says where it is, if the last line is a minute ago."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def __call__(self, line: str) -> None:
        now = time.monotonic()
        if now - self._said_at >= SECONDS_BETWEEN_LINES:
            self._said_at = now
            say(line)


@contextlib.contextmanager
def steps(*, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what is being done now: a spinner on a terminal."""
    console = Console(stderr=True)
    if quiet:
        yield lambda what: None
        return
    if not console.is_terminal:
        yield _Log()
        return
    with console.status("starting") as status:
        yield lambda what: status.update(Text(printable(what)))


@contextlib.contextmanager
def bar(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function (done, total) that moves a progress bar on stderr; None as total is an unknown end."""
    console = Console(stderr=True)
    if quiet:
        yield lambda done, total: None
        return
    if not console.is_terminal:
        log = _Log()
        yield lambda done, total: log(f"{what}: {done:,}" if total is None else f"{what}: {done:,} of {total:,}")
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(what, total=None)

    def move(done: int, total: int | None) -> None:
        progress.start()  # with the first step: what turns out to need no download shows none
        progress.update(task, completed=done, total=total)

    try:
        yield move
    finally:
        if progress.live.is_started:
            progress.stop()
