"""How results are printed on stdout: a table that fits the terminal, and records with tabs in a pipe.

On a terminal no cell is wrapped: columns are dropped by their rank, and the longest texts cut. In a pipe there is no
title, no header and no box: one record a line, all of its columns, a tab between them; sentences go to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import printable
from .streams import broken, say

Row = Sequence[str | None]
"""A cell for each column; None is what was not measured."""
_GAP = 2  # between two columns
_LEAST = 16  # cells that a column which may be cut keeps, before others are dropped for it


@dataclass(frozen=True)
class Column:
    """A column. Where a line does not fit, the columns of the highest `rank` are dropped first; those of 0 stay.

    `right`: numbers. `cut`: a text that may lose its end. `wide`: on a terminal it is shown with --wide alone.
    """

    name: str
    rank: int = 0
    right: bool = False
    cut: bool = False
    wide: bool = False


def on_terminal() -> bool:
    """Whether a person reads stdout as it is written."""
    return sys.stdout is not None and sys.stdout.isatty()


def table(title: str | None, columns: Sequence[Column], rows: Iterable[Row], *, wide: bool = False) -> None:
    """Print a table, or records where stdout is no terminal; with `wide` all columns in full, however long the lines.

    Text of strangers is escaped.
    """
    cells = [[None if cell is None else printable(cell) for cell in row] for row in rows]
    if on_terminal():
        _show(title, columns, [["-" if cell is None else cell for cell in row] for row in cells], wide=wide)
        return
    for row in cells:
        click.echo("\t".join(cell or "" for cell in row))


def fitting(columns: Sequence[Column], widths: Sequence[int], room: int) -> dict[int, int]:
    """The columns that fit `room` cells, and the width of each: `widths` says what they would like."""
    least = [min(width, _LEAST) if column.cut else width for column, width in zip(columns, widths, strict=True)]
    shown = [place for place, column in enumerate(columns) if not column.wide]

    def over(sizes: Sequence[int]) -> int:
        return sum(sizes[place] for place in shown) + _GAP * (len(shown) - 1) - room

    while over(least) > 0:
        place = max(shown, key=lambda place: columns[place].rank)
        if columns[place].rank == 0:
            break
        shown.remove(place)
    sizes = list(widths)
    for floors in (least, [1] * len(columns)):  # first what may be cut, then whatever is longest
        while (excess := over(sizes)) > 0:
            place = max(shown, key=lambda place: sizes[place] - floors[place])
            if sizes[place] <= floors[place]:
                break
            sizes[place] = max(floors[place], sizes[place] - excess)
    return {place: sizes[place] for place in shown}


def _show(title: str | None, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, wide: bool) -> None:
    console = Console(highlight=False)
    widths = [
        max(cell_len(printable(column.name)), *(cell_len(row[place]) for row in rows), 0)
        for place, column in enumerate(columns)
    ]
    shown = dict(enumerate(widths)) if wide else fitting(columns, widths, console.width)
    if wide:
        console = Console(highlight=False, width=sum(widths) + _GAP * len(widths))
    if title:
        console.print(Text(printable(title), style="bold"))
    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, width in shown.items():
        column = columns[place]
        justify: Any = "right" if column.right else "left"
        heading = Text(printable(column.name))
        grid.add_column(heading, justify=justify, width=width, no_wrap=True, overflow="ellipsis")
    for row in rows:
        grid.add_row(*(Text(row[place]) for place in shown))  # square brackets are text, not markup
    console.print(grid)


def remark(text: str, indent: str = "") -> None:
    """Print a sentence about the records: below the table on a terminal, broken between words; else to stderr."""
    if not on_terminal():
        say(indent + text)
        return
    width = Console().width
    for line in text.split("\n"):
        Console(highlight=False, soft_wrap=True).print(broken(printable(line), width, indent), markup=False)


def by_reason(word: str, reasons: Iterable[tuple[str, str | None]]) -> None:
    """Print one line for each reason of the pairs (name, reason), with all names that have it; none has no line."""
    if not on_terminal():
        return  # each is a record
    for reason, names in grouped((reason, name) for name, reason in reasons if reason):
        remark(f"{word}: {', '.join(names)} — {reason}")


def grouped(pairs: Iterable[tuple[Any, str]]) -> list[tuple[Any, list[str]]]:
    """The names of each key, in the order in which they come."""
    found: dict[Any, list[str]] = {}
    for key, name in pairs:
        found.setdefault(key, []).append(name)
    return list(found.items())


def fields(pairs: Sequence[tuple[str, Any]]) -> None:
    """Print `name  value` lines to stdout, values aligned; on a terminal a long value goes on below itself."""
    hanging = max(len(name) for name, _ in pairs) + _GAP
    for line in map(printable, aligned(pairs)):
        text = broken(line, Console().width, hanging=hanging) if on_terminal() else line
        Console(highlight=False, soft_wrap=True).print(text, markup=False)


def aligned(pairs: Sequence[tuple[str, Any]]) -> list[str]:
    """The lines that `fields` prints."""
    width = max(len(name) for name, _ in pairs)
    return [f"{name:<{width}}  {value}" for name, value in pairs]


def print_line(text: str) -> None:
    """Print one line to stdout as it is."""
    Console(highlight=False, soft_wrap=True).print(printable(text), markup=False)
