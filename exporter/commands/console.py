"""What all commands share: how they are called, errors and signals as exit codes, one JSON document on stdout.

Nothing heavy is imported here: `--help` must stay instant.
"""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from ..errors import (
    CifarExportError,
    InvalidInput,
    Unavailable,
    first_line,
    from_os_error,
    short_of_memory,
)
from ..system.files import ENDING
from .help import write_examples, write_options
from .paths import NamedPath
from .streams import INTERRUPTED, flushed, guard, say, speaks_on_stdout

HELP = {"help_option_names": ["-h", "--help"]}
"""Settings of every command and group."""
KEPT = "what has arrived is kept, and the next run goes on from there."
"""What an interrupted download means."""


class Command(click.Command):
    """A command whose errors are one or two lines on stderr, the right exit code and, with --json, a JSON document."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **more: Any) -> None:
        """A command as click makes it; `examples` are whole commands, which end its help."""
        super().__init__(*args, **{"context_settings": HELP} | more)
        self.examples = tuple(examples)
        for parameter in self.params:
            if isinstance(parameter.type, click.Path):
                parameter.type = NamedPath(parameter.type)

    def get_help_option_names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  as click calls it
        """Both names whatever context asks first: click keeps what it finds then."""
        return HELP["help_option_names"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, many of them in sections."""
        write_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        super().format_epilog(ctx, formatter)
        write_examples(self.examples, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options; what is wrong with them is an error like any other."""
        as_json = "--json" in args and any(parameter.name == "as_json" for parameter in self.params)
        with _usage_errors(as_json):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn errors of ours, of the file system, signals and a lack of memory into exit codes."""
        as_json = bool(ctx.params.get("as_json"))
        try:
            _require_current_folder()
            return super().invoke(ctx)
        except CifarExportError as error:
            fail(error, as_json=as_json)
        except KeyboardInterrupt as error:
            leave_interrupted(error, as_json=as_json)
        except OSError as error:
            fail(from_os_error(error, f"use {error.filename}" if error.filename else "go on"), as_json=as_json)
        except Exception as error:
            if (interruption := _interruption(error)) is not None:
                leave_interrupted(interruption, as_json=as_json)
            if short_of_memory(error):
                fail(
                    Unavailable(f"there is not enough memory ({first_line(error)}).\nEnd other programs, or {_MORE}."),
                    as_json=as_json,
                )
            raise


def _require_current_folder() -> None:
    """Raise `InvalidInput` where the current folder is gone: libraries end the process there, in words of their own."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise InvalidInput("the current folder is gone. Change to another one, then run this again.") from None


_MORE = "allow this one more (ulimit -v)"


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command that was named, and leave; stdout and stderr may lead anywhere."""
        guard()
        try:
            return super().main(*args, **extra)
        except OSError as error:  # of click's own printing: help and versions
            fail(from_os_error(error, "write to stdout"), as_json=False)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As `Command.parse_args`."""
        with _usage_errors("--json" in args):
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; that there is no such one is an error like any other."""
        with _usage_errors("--json" in args):
            return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        print_any_name()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # before the command itself had begun
            leave_interrupted(error, as_json="--json" in sys.argv)


@contextlib.contextmanager
def _usage_errors(as_json: bool) -> Iterator[None]:
    """Let click's usage errors in the block speak as ours do."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise  # the help is all that there is to say
    except click.UsageError as error:
        said = error.format_message()
        where = f"\nSee `{error.ctx.command_path} -h`." if error.ctx else ""
        fail(InvalidInput(said[:1].lower() + said[1:] + where), as_json=as_json)


def fail(error: CifarExportError, *, as_json: bool) -> NoReturn:
    """Say what went wrong and leave with the error's exit code."""
    say(f"error: {error}")
    _end_stdout(str(error), error.exit_code, as_json=as_json)
    sys.exit(error.exit_code)


def _end_stdout(message: str, exit_code: int, *, as_json: bool) -> None:
    """Print the JSON document of an error, where one is wanted; a stdout that takes nothing changes no exit code."""
    wanted = as_json and speaks_on_stdout()
    flushed(lambda: echo_json({"error": message, "exit_code": exit_code}) if wanted else None)


class Terminated(KeyboardInterrupt):
    """A signal that ends the process, as Ctrl-C does; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def leave_interrupted(
    interruption: BaseException, what_now: str = "nothing was left half-written.", *, as_json: bool
) -> NoReturn:
    """Say that the command was interrupted, and what that means; leave with the exit code of Ctrl-C or the signal."""
    ended = isinstance(interruption, Terminated)
    code = 128 + interruption.number if isinstance(interruption, Terminated) else INTERRUPTED
    message = f"{f'ended by {interruption}' if ended else 'interrupted'}: {what_now}"
    say(message)
    _end_stdout(message, code, as_json=as_json)
    sys.exit(code)


def _interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """What `error` came of, if of Ctrl-C: libraries that it meets while they import, say, raise errors of their own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def print_any_name() -> None:
    """Let stdout escape what its encoding lacks: a file's name must not end a command that has done its work."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def echo_json(document: Any) -> None:
    """Print the one JSON document of a command."""
    import json

    click.echo(json.dumps(document, indent=1, allow_nan=False))


def end_on_termination() -> None:
    """Make signals that end the process unwind it like Ctrl-C does, so that temporary files are removed."""

    def leave(number: int, _frame: object) -> None:
        raise Terminated(number)

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup has the hang-up ignored
            signal.signal(number, leave)
