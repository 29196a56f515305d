"""`cifar-export completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .console import Command


@click.command(cls=Command, examples=['eval "$(cifar-export completion bash)"'])
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete names.

    Add the example's line to the start-up file of bash or zsh (with `zsh` in it); fish takes the script as
    ~/.config/fish/completions/cifar-export.fish.
    """
    known = get_completion_class(shell)
    group = ctx.find_root().command
    if known is not None:  # click has all three
        click.echo(known(group, {}, "cifar-export", "_CIFAR_EXPORT_COMPLETE").source())
