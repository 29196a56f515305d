"""Whether a command line of ours, as a page or a workflow has it, is understood."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cifar_export.__main__ import main


def problem(words: Sequence[str]) -> str | None:
    """What is wrong with `cifar-export WORDS...` before anything is run; None where it is understood."""
    command: click.Command = main
    context, rest = click.Context(main, info_name="cifar-export"), list(words)
    while isinstance(command, click.Group):
        name, *rest = rest
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
        context = click.Context(command, context, name)
    try:
        command.parse_args(click.Context(command, context, command.name), rest)
    except click.ClickException as error:
        return f"{command.name}: {error.format_message()}"
    return None
