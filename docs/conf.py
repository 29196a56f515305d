"""Sphinx: the pages of this folder as a site, with the help of every command, and that help as manual pages.

    make docs      # build/docs/index.html
    make man       # docs/man/cifar-export*.1, which wheels carry

What pages say of files outside this folder is a link where CIFAR_EXPORT_SOURCE is the address of a repository's files
(https://HOST/OWNER/NAME/blob/COMMIT), else their path alone.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import version as installed
from pathlib import Path
from types import ModuleType

import click
from sphinx.application import Sphinx

from cifar_export.__main__ import main
from cifar_export.commands.console import Command

DOCS = Path(__file__).resolve().parent
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")

project, author = "cifar-export", "the authors of cifar-export"
version = release = installed("cifar-export")
extensions = ["myst_parser", "sphinx_click"]
exclude_patterns = ["man/*", "package.md"]  # package.md is what an index of packages shows
html_theme = "furo"
html_title = f"cifar-export {version}"
html_show_copyright = False
myst_heading_anchors = 4
man_make_section_directory = False

group = click.Context(main, info_name="cifar-export")
COMMANDS: dict[str, click.Command] = {"cifar-export": main} | {
    f"cifar-export {name}": command
    for name in main.list_commands(group)
    if (command := main.get_command(group, name)) is not None
}
"""By what a person types; a group has its own commands on its page."""
man_pages = [
    (f"commands/{typed.replace(' ', '-')}", typed.replace(" ", "-"), command.get_short_help_str(200), "", 1)
    for typed, command in COMMANDS.items()
]


def _write_commands() -> None:
    """A page for each command in commands/, which sphinx-click fills. It finds a command as attribute of a module."""
    every = ModuleType("every_command")
    sys.modules[every.__name__] = every
    (DOCS / "commands").mkdir(exist_ok=True)
    for typed, command in COMMANDS.items():
        name = typed.replace(" ", "-")
        setattr(every, name, command)
        nested = "short" if command is main else "full"
        page = (
            f"{typed}\n{'=' * len(typed)}\n\n.. click:: every_command:{name}\n   :prog: {typed}\n   :nested: {nested}\n"
        )
        (DOCS / "commands" / f"{name}.rst").write_text(page)


def _add_examples(_app: Sphinx, ctx: click.Context, lines: list[str]) -> None:
    if isinstance(ctx.command, Command) and ctx.command.examples:
        lines += ["Examples::", "", *(f"    {example}" for example in ctx.command.examples), ""]


def _outside(text: str, folder: Path) -> str:
    """`text` of a page in `folder`, without links that lead out of the site."""

    def link(found: re.Match[str]) -> str:
        path = (folder / found[2]).resolve()
        if path.is_relative_to(DOCS) and path.suffix == ".md":
            return found[0]
        inside = path.relative_to(DOCS.parent).as_posix()
        source = os.environ.get("CIFAR_EXPORT_SOURCE")
        return f"[{found[1]}]({source}/{inside}{found[3] or ''})" if source else f"{found[1]} (`{inside}`)"

    return LINK.sub(link, text)


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = _outside(source[0], app.env.doc2path(name).parent)


def _included(_app: Sphinx, path: Path, _name: str, source: list[str]) -> None:
    source[0] = _outside(source[0], (DOCS / path).resolve().parent)


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    _write_commands()
    app.connect("sphinx-click-process-epilog", _add_examples)
    app.connect("source-read", _read)
    app.connect("include-read", _included)
