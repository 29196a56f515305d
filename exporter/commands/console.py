"""What all commands share: options declared once, errors as exit codes, one JSON document on stdout.

Only `cli.py` imports this. Nothing heavy is imported here: `--help` must stay instant.
"""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from ..errors import CifarExportError, InvalidInput, from_os_error
from ..networks.normalization import parse_normalization
from ..networks.zoo import DATASETS, INPUT_VARIANTS, MODELS, network

if TYPE_CHECKING:
    from ..weights.core import Weights

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED = 130  # 128 + SIGINT, what shells report


class Command(click.Command):
    """A command whose errors are one or two lines on stderr, the right exit code and, with --json, a JSON document."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options; what is wrong with them is a JSON document too, beside the usage that click prints."""
        as_json = "--json" in args and any(parameter.name == "as_json" for parameter in self.params)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            _end_stdout(error.format_message(), error.exit_code, as_json=as_json)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn errors of ours, of the file system and Ctrl-C into messages and exit codes."""
        as_json = bool(ctx.params.get("as_json"))
        try:
            return super().invoke(ctx)
        except CifarExportError as error:
            fail(error, as_json=as_json)
        except KeyboardInterrupt:
            _leave_interrupted()
        except BrokenPipeError:
            raise  # the reader has gone (`| head`): click knows what to do
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            fail(from_os_error(error, f"go on{where}"), as_json=as_json)
        except Exception as error:
            if _was_interrupted(error):
                _leave_interrupted()
            raise


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        print_any_name()
        return super().invoke(ctx)


def fail(error: CifarExportError, *, as_json: bool) -> NoReturn:
    """Say what went wrong and leave with the error's exit code."""
    click.echo(f"error: {error}", err=True)
    _end_stdout(str(error), error.exit_code, as_json=as_json)
    sys.exit(error.exit_code)


def _end_stdout(message: str, exit_code: int, *, as_json: bool) -> None:
    """Print the JSON document of an error, where one is wanted; a stdout that takes nothing changes no exit code."""
    try:
        if as_json and _speaks_on_stdout():
            echo_json({"error": message, "exit_code": exit_code})
        if sys.stdout is not None:  # None where the caller closed it (`>&-`)
            sys.stdout.flush()
    except OSError:  # the disk that stdout goes to is full: what was said on stderr must do
        # what is left goes nowhere, or the interpreter tries again at its end and exits with a code of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave_interrupted() -> NoReturn:
    """Say so and leave with the exit code of Ctrl-C."""
    click.echo("interrupted: nothing was left half-written.", err=True)
    sys.exit(INTERRUPTED)


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether `error` came of Ctrl-C: libraries that it meets while they import, say, raise errors of their own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _speaks_on_stdout() -> bool:
    """Whether this process is the one that prints the document: under torchrun several share one stdout."""
    return "WORLD_SIZE" not in os.environ or os.environ.get("RANK", "0") == "0"


def print_any_name() -> None:
    """Let stdout escape what its encoding lacks: a file's name must not end a command that has done its work."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def echo_json(document: Any) -> None:
    """Print the one JSON document of a command."""
    click.echo(json.dumps(document, indent=1, allow_nan=False))


def end_on_termination() -> None:
    """Make a termination signal unwind the program like Ctrl-C does, so that temporary files are removed."""

    def leave(signum: int, _frame: object) -> None:
        sys.exit(128 + signum)

    signal.signal(signal.SIGTERM, leave)


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
dataset_option = click.option(
    "--dataset",
    type=click.Choice(list(DATASETS)),
    default="cifar10",
    show_default=True,
    help="Data set of the network.",
)
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default="data",
    envvar="CIFAR_DATA",
    show_default=True,
    show_envvar=True,
    help="Folder of cifar-10-batches-bin/ and cifar-100-binary/.",
)
input_option = click.option(
    "--input",
    "variant",
    type=click.Choice(INPUT_VARIANTS),
    help="float32: normalized (batch, 3, 32, 32). uint8: pixels (batch, 32, 32, 3), normalized inside.",
)


def network_options(command: F) -> F:
    """MODEL, --dataset, --weights, --mean and --std; the command gets `spec` and `load`, which reads the weights."""

    @click.argument("model", metavar="MODEL", type=click.Choice(list(MODELS)))
    @dataset_option
    @click.option("--weights", default="bundled", show_default=True, help="bundled, upstream, or a checkpoint's path.")
    @click.option("--mean", metavar="R,G,B", help="Mean that the weights were trained with, pixels in 0..1.")
    @click.option("--std", metavar="R,G,B", help="Standard deviation likewise.")
    @functools.wraps(command)
    def wrapper(
        *args: Any, model: str, dataset: str, weights: str, mean: str | None, std: str | None, **kwargs: Any
    ) -> Any:
        spec = network(model, dataset)
        normalization = parse_normalization(mean, std)

        def load() -> Weights:
            from ..weights.sources import load_weights
            from .display import bar

            with bar("downloading", quiet=bool(kwargs.get("as_json"))) as progress:
                return load_weights(spec, weights, normalization, progress)

        return command(*args, spec=spec, load=load, **kwargs)

    return wrapper  # type: ignore[return-value]


def output_option(suffix: str) -> Callable[[F], F]:
    """--output for a format whose file names end with `suffix`."""
    return click.option(
        "--output",
        type=click.Path(path_type=Path),
        help=f"File to write, ending with {suffix}.  [default: artifacts/exports/<dataset>_<model>[-uint8]{suffix}]",
    )


def file_options(command: F) -> F:
    """--file and --trust-file: an exported file in place of a fresh export."""

    @click.option("--file", type=click.Path(path_type=Path), help="An exported file instead of a fresh export.")
    @click.option("--trust-file", is_flag=True, help="Run a TorchScript or .pt2 file, which is code, unvouched for.")
    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if kwargs["trust_file"] and kwargs["file"] is None:
            raise InvalidInput("--trust-file without --file. Name the file that you trust.")
        return command(*args, **kwargs)

    return wrapper  # type: ignore[return-value]
