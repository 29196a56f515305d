"""The names of files and folders on the command line."""

from __future__ import annotations

import unicodedata
from typing import Any

import click

from ..errors import printable


class NamedPath(click.Path):
    """A path as people name files: not empty, which would mean the current folder, and of one line.

    Made of a `click.Path`, whose settings it has. A line break in a name would fake lines in every message that has it;
    nobody has such names on purpose.
    """

    def __init__(self, of: click.Path) -> None:
        vars(self).update(vars(of))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        if not str(value):
            self.fail("the name is empty. Name one.", param, ctx)
        if any(unicodedata.category(letter) == "Cc" for letter in str(value)):
            self.fail(f"'{printable(str(value))}' holds a control character. Rename it.", param, ctx)
        return super().convert(value, param, ctx)
