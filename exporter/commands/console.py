"""What all commands share: options declared once, errors as exit codes, one JSON document on stdout.

Nothing heavy is imported here: `--help` must stay instant.
"""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from ..errors import (
    CifarExportError,
    InvalidInput,
    Unavailable,
    first_line,
    from_os_error,
    printable,
    short_of_memory,
)
from ..networks.labels import read_labels
from ..networks.normalization import parse_normalization
from ..networks.zoo import (
    DATASETS,
    INPUT_VARIANTS,
    MODELS,
    NETWORKS,
    DatasetSpec,
    NetworkSpec,
    Normalization,
    find_network,
    named,
    network,
)
from ..networks.zoo import model as model_of
from ..runtimes import RUNTIMES
from ..system.files import ENDING
from .help import write_examples, write_options
from .paths import NamedPath
from .streams import INTERRUPTED, flushed, guard, say, speaks_on_stdout
from .subjects import called, require_name

if TYPE_CHECKING:
    from ..weights.core import Weights

F = TypeVar("F", bound=Callable[..., Any])
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


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Declare several options by one decorator; `--help` lists them in this order."""

    def declare(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return declare


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout.")
wide_option = click.option(
    "--wide", is_flag=True, help="Show all columns, however long the lines; a pipe gets them anyway."
)


class Dataset(click.ParamType[str]):
    """The name of a data set, or the folder of one's own."""

    name = "data set"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name or folder, once there is one."""
        if value not in DATASETS and not Path(value).is_dir():
            known = ", ".join(map(repr, DATASETS))
            self.fail(f"{value!r} is not one of {known}, nor the folder of a data set of your own.", param, ctx)
        return str(value)

    def shell_complete(self, _: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Those of the names that begin like that; the shell knows the folders."""
        names = [CompletionItem(name) for name in DATASETS if name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="dir")]


dataset_option = click.option(
    "--dataset",
    metavar="NAME|DIR",
    type=Dataset(),
    help="Data set of the network: cifar10, cifar100, or the folder of your own (docs/own-data.md).  "
    "[default: what the weights say, else cifar10]",
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
    help="Run a TorchScript, .pt2 or C file even though no sidecar vouches for it. Such files contain code.",
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
MODEL_OR_NETWORK = _Named("model", (*MODELS, *NETWORKS), lambda name: find_network(name) or model_of(name))
"""resnet20, or cifar100_resnet20."""
NETWORK = _Named("network", NETWORKS, named)
"""cifar100_resnet20 and so on."""
SUBJECT = _Named("network", (*MODELS, *NETWORKS), require_name)
"""resnet20, cifar100_resnet20, an exported file, or the folder of a run or of a released network."""
subject_argument = click.argument("model", metavar="NETWORK", type=SUBJECT)
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
weights_options = together(
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
"""Which weights to use with a model, for `asked`."""
network_options = together(subject_argument, weights_options)
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
    file: Path | None = None
    """The exported file that was named in the place of a network."""
    file_weights: str | None = None
    """sha256 of the weights that this file says it was made of."""

    def load(self, *, quiet: bool) -> Weights:
        """Load the weights, downloading what must be, and tell what was changed. Raises what `load_weights` raises."""
        from ..weights.foreign import Reading
        from ..weights.sources import load_weights
        from .progress import bar

        with bar("downloading", quiet=quiet) as progress:
            reading = Reading(self.key, self.shortcut)
            try:
                weights = load_weights(self.spec, self.source, self.normalization, progress, reading, self.seed)
            except InvalidInput:
                if self.file is None or self.source != "bundled":
                    raise
                raise self._of_others() from None  # none are bundled
        if self.file is not None and self.source == "bundled" and self.file_weights != weights.sha256:
            raise self._of_others()
        for change in weights.changes:
            click.echo(f"weights: {change}", err=True)
        return weights

    def _of_others(self) -> InvalidInput:
        made_of = f"of a file with sha256 {printable(str(self.file_weights))}"
        return InvalidInput(f"{self.file} was made of other weights than bundled ones: {made_of}. Add --weights PATH.")


def dataset_of(dataset: str | None, weights: str = "bundled", *, quiet: bool = False) -> str | DatasetSpec:
    """The data set asked for, else the one that the file of `weights` says it is of, else CIFAR-10."""
    if dataset in DATASETS:
        return dataset
    if dataset is not None:
        from ..data.named import dataset_named
        from .progress import bar

        with bar("reading pictures", quiet=quiet) as progress:
            return dataset_named(dataset, progress)
    if weights in ("bundled", "upstream", "random"):
        return "cifar10"
    from ..weights.sources import said_dataset

    return said_dataset(Path(weights)) or "cifar10"


def asked(
    model: str,
    dataset: str | None,
    weights: str,
    mean: str | None,
    std: str | None,
    key: str | None = None,
    shortcut: str | None = None,
    seed: int | None = None,
    labels: Path | None = None,
) -> Asked:
    """Read the values of `network_options`.

    Raises `InvalidInput` for a mean or a deviation that is none, and where the name and an option contradict each
    other.
    """
    normalization = parse_normalization(mean, std)
    name = called(model)
    if name.is_foreign and weights in ("bundled", "upstream", "random"):
        raise InvalidInput(
            f"{model} does not say which network it is, for it carries no metadata of ours. Add --weights PATH, or "
            f"name the network, and add --file {model}."
        )
    weights = _of_one(model, "--weights", name.weights, weights)
    named_model = _model_of(weights, key) if name.is_foreign else str(name.model)
    if labels is not None:
        if name.dataset is not None:
            raise InvalidInput(f"{model} says its classes itself. Leave --labels away.")
        spec = _of_labels(named_model, labels, weights, dataset)
    else:
        spec = network(named_model, _dataset_of_one(model, name.dataset, dataset, weights))
    metadata = (name.facts.metadata or {}) if name.facts else {}
    _require_same_normalization(model, metadata, normalization)
    made_of = metadata.get("weights_sha256")
    return Asked(spec, weights, normalization, key, shortcut, seed, name.file, made_of)


def _require_same_normalization(name: str, metadata: dict[str, Any], given: Normalization | None) -> None:
    """Raise `InvalidInput` where a file says another normalization than the options."""
    if given is not None and metadata and {key: metadata.get(key) for key in ("mean", "std")} != given.as_dict():
        said = f"mean {metadata.get('mean')} and std {metadata.get('std')}"
        raise InvalidInput(
            f"{name} says {said:.200}, and the options say mean {list(given.mean)} and std {list(given.std)}. "
            "Leave --mean and --std away."
        )


def _model_of(weights: str, key: str | None) -> str:
    """The model that a file of weights is of."""
    from ..weights.foreign import Reading
    from ..weights.sources import model_of_weights

    return model_of_weights(Path(weights), Reading(key))


def _of_one(name: str, option: str, said: object, asked_for: Any) -> Any:
    """What the name says, else what the option says. Raises `InvalidInput` where they contradict each other."""
    if said is None:
        return asked_for
    if asked_for not in (None, "bundled", str(said)):
        raise InvalidInput(f"{name} says {said}, and {option} says {asked_for}. Leave {option} away.")
    return str(said)


def _dataset_of_one(
    name: str, said: str | DatasetSpec | None, asked_for: str | None, weights: str
) -> str | DatasetSpec:
    """The data set that the name says, else the one asked for.

    A file of one's own classes says their labels alone: the folder of its pictures may be asked for beside it.
    """
    if not isinstance(said, DatasetSpec):
        return dataset_of(_of_one(name, "--dataset", said, asked_for), weights)
    if asked_for is None:
        return said
    folder = dataset_of(asked_for)
    if not isinstance(folder, DatasetSpec) or folder.labels != said.labels:
        raise InvalidInput(
            f"{name} says {said.name}, with {said.classes} classes, and --dataset says {asked_for}, which has other "
            "ones. Leave --dataset away, or name the folder of its pictures."
        )
    return replace(folder, name=said.name)


def _of_labels(model: str, labels: Path, weights: str, dataset: str | None) -> NetworkSpec:
    """The network whose classes stand in the file `labels`."""
    if dataset is not None:
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


def refuse_guessing(wanted: Asked, file: Path | None) -> None:
    """Raise `InvalidInput` for a stranger's file of normalized images where nobody says how they are normalized."""
    if file is None or wanted.normalization is not None or wanted.source not in ("bundled", "upstream"):
        return
    from ..exporting.subject import facts_of

    facts = facts_of(file, None, trust=True)
    if facts.metadata is None and facts.variant == "float32":
        raise InvalidInput(
            f"{file} does not say how its images are normalized, and guessing costs accuracy unseen. "
            "Add --mean R,G,B and --std R,G,B, or --input unit if it takes images in 0..1."
        )


def refuse_trust_without_file(file: Path | None, trust_file: bool) -> None:
    """Raise `InvalidInput` for --trust-file without --file."""
    if trust_file and file is None:
        raise InvalidInput("--trust-file without --file. Name the file that you trust.")
