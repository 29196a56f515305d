"""`cifar-export package` and `cifar-export merge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import InvalidInput
from ..networks.zoo import DATASETS, MODELS, NETWORKS
from ..runtimes import RUNTIMES
from .console import Command, data_dir_option, echo_json, json_option

if TYPE_CHECKING:
    from ..release.build.package import Published

output_option = click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default="artifacts/releases",
    show_default=True,
    help="Folder of releases; this one appears as <output>/<version>.",
)
sign_key_option = click.option(
    "--sign-key", type=click.Path(path_type=Path), metavar="KEY", help="Sign with this private EC key (PEM)."
)


@click.command(cls=Command)
@click.argument("models", metavar="[MODEL]...", nargs=-1, type=click.Choice(list(MODELS)))
@click.option("--dataset", type=click.Choice(list(DATASETS)), help="Only the networks of this data set.")
@click.option(
    "--only",
    multiple=True,
    metavar="NETWORK",
    type=click.Choice(list(NETWORKS)),
    help="Only this network, as cifar100_resnet20; repeat.",
)
@click.option("--version", required=True, help="Of the release: PEP 440, as 1.0.0 or 1.1rc1.")
@output_option
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Networks built at once.")
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice(list(RUNTIMES)),
    help="Must agree, too, beside PyTorch, TorchScript, torch-export and ONNX Runtime on the CPU; repeat.",
)
@data_dir_option
@sign_key_option
@click.option("--no-cache", is_flag=True, help="Build every network, also one that was finished before.")
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
    no_cache: bool,
    as_json: bool,
) -> None:
    """Make a versioned release of all eight networks, or of MODELs: built, proved, described, verified.

    The folder <output>/<version> appears at once and complete, or not at all, and is never overwritten. The time in it
    is SOURCE_DATE_EPOCH, else 1980-01-01. Its bytes depend on nothing but source, weights and libraries.
    """
    from ..release.build.package import package as build
    from .display import steps

    with steps(quiet=as_json) as progress:
        result = build(
            _chosen(models, dataset, only),
            version,
            output,
            data_dir=data_dir,
            jobs=jobs,
            runtimes=runtimes,
            sign_key=sign_key,
            cached=not no_cache,
            progress=progress,
            say=_say,
        )
    _show(result, as_json)


@click.command(cls=Command)
@click.argument("parts", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option
@sign_key_option
@json_option
def merge(parts: tuple[Path, ...], output: Path, sign_key: Path | None, as_json: bool) -> None:
    """Merge releases of single networks, made by `package --only` anywhere, into one with the bytes of a single build.

    Each DIR is a whole release folder. All must verify and be of one version, commit, date and set of libraries.
    """
    from ..release.build.merge import merge as merge_parts
    from .display import steps

    with steps(quiet=as_json) as progress:
        result = merge_parts(parts, output, sign_key=sign_key, progress=progress, say=_say)
    _show(result, as_json)


def _chosen(models: tuple[str, ...], dataset: str | None, only: tuple[str, ...]) -> list[str]:
    """The networks asked for; all where nothing is."""
    if only and (models or dataset):
        raise InvalidInput("--only names networks by itself. Leave MODEL and --dataset away.")
    if only:
        return list(only)
    return [
        name
        for name, spec in NETWORKS.items()
        if (not models or spec.model.name in models) and dataset in (None, spec.dataset.name)
    ]


def _say(line: str) -> None:
    click.echo(line, err=True)


def _show(result: Published, as_json: bool) -> None:
    from .display import release_summary

    if as_json:
        echo_json(result.as_dict())
    else:
        release_summary(result)
