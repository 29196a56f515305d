"""`cifar-export package` and `cifar-export merge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput
from ..networks.zoo import DATASETS, NETWORKS, in_order, named, network
from .console import (
    MODEL,
    NETWORK,
    Command,
    asked,
    data_dir_option,
    echo_json,
    json_option,
    reading_options,
    runtime_option,
    together,
)
from .streams import say

if TYPE_CHECKING:
    from ..release.build.own import Own
    from ..release.build.package import Published

output_option = click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default="artifacts/releases",
    show_default=True,
    help="Folder of releases; this one will be <output>/<version>.",
)
sign_key_option = click.option(
    "--sign-key",
    type=click.Path(path_type=Path),
    metavar="KEY",
    help="Sign the release with this private EC key (PEM).",
)


weights_options = together(
    click.option("--weights", metavar="PATH", help="Package this checkpoint of yours, of the one network named."),
    click.option("--mean", metavar="R,G,B", help="Mean that it was trained with, for pixels in 0..1."),
    click.option("--std", metavar="R,G,B", help="Standard deviation that it was trained with."),
    reading_options,
)


@click.command(cls=Command)
@click.argument("models", metavar="[MODEL]...", nargs=-1, type=MODEL)
@click.option("--dataset", type=click.Choice(list(DATASETS)), help="Build only the networks of this data set.")
@click.option(
    "--only",
    multiple=True,
    metavar="NETWORK",
    type=NETWORK,
    help="Build only this network, such as cifar100_resnet20; may be given several times.",
)
@click.option("--version", required=True, help="Version of the release, such as 1.0.0 or 1.1rc1 (PEP 440).")
@output_option
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Number of networks to build at once."
)
@runtime_option(
    "runtimes",
    multiple=True,
    help="Runtime that must pass parity too, besides those that always must; may be given several times.",
)
@data_dir_option
@sign_key_option
@weights_options
@click.option("--license", metavar="SPDX", help="License of weights of yours, such as MIT; stated in the model card.")
@click.option("--no-cache", is_flag=True, help="Build every network, even one that was finished before.")
@json_option
def package(
    models: tuple[str, ...],
    dataset: str | None,
    only: tuple[str, ...],
    version: str,
    output: Path,
    jobs: int,
    runtimes: tuple[str, ...],
    data_dir: Path,
    sign_key: Path | None,
    license: str | None,
    no_cache: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Build a release of all eight networks, or of some.

    Each network is exported, proved, scored and described, and the whole is verified. The folder <output>/<version>
    appears complete or not at all, and is never overwritten. The time in it is that of SOURCE_DATE_EPOCH, or else
    1980-01-01. Its bytes depend only on the source, the weights and the libraries.
    """
    names = _chosen(models, dataset, only)
    own = _own(names, license, given, quiet=as_json)
    from ..release.build.package import package as build
    from .display import steps

    with steps(quiet=as_json) as progress:
        result = build(
            names,
            version,
            output,
            data_dir=data_dir,
            jobs=jobs,
            runtimes=runtimes,
            sign_key=sign_key,
            own=own,
            cached=not no_cache,
            progress=progress,
            say=say,
        )
    _show(result, as_json)


@click.command(cls=Command)
@click.argument("parts", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option
@sign_key_option
@json_option
def merge(parts: tuple[Path, ...], output: Path, sign_key: Path | None, as_json: bool) -> None:
    """Merge releases of single networks into one release.

    Each DIR is a release folder made by `package --only`, on any machine. All must verify, and be of the same version,
    commit, date and libraries. The result has the bytes of a single build.
    """
    from ..release.build.merge import merge as merge_parts
    from .display import steps

    with steps(quiet=as_json) as progress:
        result = merge_parts(parts, output, sign_key=sign_key, progress=progress, say=say)
    _show(result, as_json)


def _chosen(models: tuple[str, ...], dataset: str | None, only: tuple[str, ...]) -> list[str]:
    """The networks asked for; all where nothing is."""
    if only and (models or dataset):
        raise InvalidInput("--only names whole networks. Leave MODEL and --dataset out.")
    if only:
        return list(only)
    datasets = [dataset] if dataset else list(DATASETS)
    if not models:
        return [name for name, spec in NETWORKS.items() if spec.dataset.name in datasets]
    return in_order(network(model, name).name for model in models for name in datasets)


def _own(names: list[str], license: str | None, given: dict[str, Any], *, quiet: bool) -> Own | None:
    """Weights to package in the place of bundled ones; None where none are given."""
    source = given.pop("weights")
    if source is None:
        wrong = next((f"--{name}" for name, value in {**given, "license": license}.items() if value is not None), None)
        if wrong:
            raise InvalidInput(f"{wrong} is for weights of yours. Add --weights PATH, or leave it away.")
        return None
    if len(names) != 1:
        raise InvalidInput("--weights is for one network. Name its MODEL and --dataset.")
    if source in ("bundled", "upstream", "random"):
        raise InvalidInput(f"--weights {source}: only a file can be packaged; bundled weights need no option.")
    spec = named(names[0])
    wanted = asked(spec.model.name, spec.dataset.name, source, **given)
    from ..release.build.own import Own

    return Own(wanted.load(quiet=quiet), license)


def _show(result: Published, as_json: bool) -> None:
    from .display import release_summary

    if as_json:
        echo_json(result.as_dict())
    else:
        release_summary(result)
