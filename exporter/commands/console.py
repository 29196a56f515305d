"""What all commands share: options declared once, errors as exit codes, one JSON document on stdout.

Nothing heavy is imported here: `--help` must stay instant.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from ..errors import CifarExportError, InvalidInput, from_os_error
from ..networks.labels import read_labels
from ..networks.normalization import parse_normalization
from ..networks.zoo import DATASETS, INPUT_VARIANTS, MODELS, NETWORKS, NetworkSpec, Normalization, named, network
from ..networks.zoo import model as model_of
from ..runtimes import RUNTIMES

if TYPE_CHECKING:
    from ..weights.core import Weights

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED = 130  # 128 + SIGINT, what shells report
KEPT = "what has arrived is kept, and the next run goes on from there."
"""What an interrupted download means."""


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
            leave_interrupted()
        except BrokenPipeError:
            raise  # the reader has gone (`| head`): click knows what to do
        except OSError as error:
            fail(from_os_error(error, f"use {error.filename}" if error.filename else "go on"), as_json=as_json)
        except Exception as error:
            if _was_interrupted(error):
                leave_interrupted()
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


def leave_interrupted(what_now: str = "nothing was left half-written.") -> NoReturn:
    """Say that the command was interrupted, and what that means; leave with the exit code of Ctrl-C."""
    click.echo(f"interrupted: {what_now}", err=True)
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


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Declare several options by one decorator; `--help` lists them in this order."""

    def declare(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return declare


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout.")
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
    help="Folder that holds cifar-10-batches-bin/ and cifar-100-binary/.",
)
input_option = click.option(
    "--input",
    "variant",
    type=click.Choice(INPUT_VARIANTS),
    help="What the network takes. float32: normalized images, (batch, 3, 32, 32). uint8: pixels, (batch, 32, 32, 3), "
    "which it normalizes itself. unit: images in 0..1, (batch, 3, 32, 32), which it normalizes itself.",
)
trust_option = click.option(
    "--trust-file",
    is_flag=True,
    help="Run a TorchScript or .pt2 file even though no sidecar vouches for it. Such files contain code.",
)


class _Named(click.ParamType[str]):
    """A name out of an open family, of which some are known; `find` raises `InvalidInput` for others."""

    def __init__(self, name: str, known: Iterable[str], find: Callable[[str], object]) -> None:
        self.name, self._known, self._find = name, tuple(known), find

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, once it is one."""
        try:
            self._find(value)
        except InvalidInput as error:
            self.fail(str(error), param, ctx)
        return str(value)

    def shell_complete(self, _: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Those of the known names that begin like that."""
        return [CompletionItem(name) for name in self._known if name.startswith(incomplete)]


MODEL = _Named("model", MODELS, model_of)
"""resnet20, or another depth of the family."""
NETWORK = _Named("network", NETWORKS, named)
"""cifar100_resnet20 and so on."""
model_argument = click.argument("model", metavar="MODEL", type=MODEL)
reading_options = together(
    click.option("--key", metavar="NAME[.NAME]", help="State dict to take of a checkpoint that holds several."),
    click.option(
        "--shortcut",
        metavar="pad-both|pad-end",
        help="Where the checkpoint's shortcuts pad channels if they have no parameters.  [default: pad-both]",
    ),
)
"""How to read a checkpoint that can be read in more than one way."""
labels_option = click.option(
    "--labels",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Labels of other classes than --dataset has, one a line, UTF-8; a checkpoint of them needs no data set.",
)
seed_option = click.option("--seed", type=click.IntRange(min=0), help="Seed of random weights.  [default: 0]")
network_options = together(
    model_argument,
    dataset_option,
    click.option(
        "--weights",
        metavar="SOURCE",
        default="bundled",
        show_default=True,
        help="Weights to use: bundled, upstream, random (untrained), or the path of a checkpoint.",
    ),
    seed_option,
    labels_option,
    click.option("--mean", metavar="R,G,B", help="Mean that the weights were trained with, for pixels in 0..1."),
    click.option("--std", metavar="R,G,B", help="Standard deviation that the weights were trained with."),
    reading_options,
)
"""MODEL and which weights to use with it, for `asked`."""
file_options = together(
    click.option("--file", type=click.Path(path_type=Path), help="Use this exported file instead of a fresh export."),
    trust_option,
)


signer_options = together(
    click.option(
        "--public-key",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Public key (PEM) that the release must be signed with.",
    ),
    click.option("--identity", help="Identity that must have signed the release without a key; needs --issuer."),
    click.option("--issuer", metavar="URL", help="Issuer that must vouch for the identity; needs --identity."),
)
"""Who must have signed a release, for `signer_of`."""


@dataclass(frozen=True)
class Asked:
    """The network that a user asked for, and the weights to use with it."""

    spec: NetworkSpec
    source: str
    normalization: Normalization | None
    key: str | None = None
    shortcut: str | None = None
    seed: int | None = None

    def load(self, *, quiet: bool) -> Weights:
        """Load the weights, downloading what must be, and tell what was changed. Raises what `load_weights` raises."""
        from ..weights.foreign import Reading
        from ..weights.sources import load_weights
        from .display import bar

        with bar("downloading", quiet=quiet) as progress:
            reading = Reading(self.key, self.shortcut)
            weights = load_weights(self.spec, self.source, self.normalization, progress, reading, self.seed)
        for change in weights.changes:
            click.echo(f"weights: {change}", err=True)
        return weights


def asked(
    model: str,
    dataset: str,
    weights: str,
    mean: str | None,
    std: str | None,
    key: str | None = None,
    shortcut: str | None = None,
    seed: int | None = None,
    labels: Path | None = None,
) -> Asked:
    """Read the values of `network_options`. Raises `InvalidInput` for a mean or a deviation that is none."""
    normalization = parse_normalization(mean, std)
    spec = network(model, dataset) if labels is None else _of_labels(model, labels, weights)
    return Asked(spec, weights, normalization, key, shortcut, seed)


def _of_labels(model: str, labels: Path, weights: str) -> NetworkSpec:
    """The network whose classes stand in the file `labels`."""
    source = click.get_current_context().get_parameter_source("dataset")
    if source is click.core.ParameterSource.COMMANDLINE:
        raise InvalidInput("--labels and --dataset both name classes. Leave one of them out.")
    if weights in ("bundled", "upstream"):
        raise InvalidInput(f"--labels is for weights of yours, not for {weights} ones. Add --weights PATH.")
    return NetworkSpec(model_of(model), read_labels(labels))


def runtime_option(*names: str, multiple: bool = False, default: str | None = None, help: str) -> Callable[[F], F]:
    """--runtime, whose long list of names `cifar-export doctor` shows."""
    return click.option(
        "--runtime",
        *names,
        metavar="NAME",
        type=click.Choice(list(RUNTIMES)),
        multiple=multiple,
        default=default,
        show_default=default is not None,
        help=f"{help} `cifar-export doctor` lists all names.",
    )


def refuse_trust_without_file(file: Path | None, trust_file: bool) -> None:
    """Raise `InvalidInput` for --trust-file without --file."""
    if trust_file and file is None:
        raise InvalidInput("--trust-file without --file. Name the file that you trust.")
