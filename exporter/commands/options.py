"""The options that several commands share, each declared once, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ..errors import InvalidInput
from ..networks.zoo import DATASETS, INPUT_VARIANTS, MODELS, NETWORKS, find_network, named
from ..networks.zoo import model as model_of
from ..runtimes import RUNTIMES
from .subjects import require_name

F = TypeVar("F", bound=Callable[..., Any])


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
    "which it normalizes itself. unit: images in 0..1, (batch, 3, 32, 32), which it normalizes itself. LiteRT files "
    "take all of them channels last.",
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
