"""`cifar-export package` and `cifar-export merge`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput, Unavailable
from ..formats.onnx_choices import ONNX_PRECISIONS, Precision
from ..networks.zoo import DATASETS, NETWORKS, DatasetSpec, find_model, find_network, in_order, network
from ..release.layout import FURTHER
from ..release.required import Wanted
from .asked import asked
from .console import Command, echo_json
from .options import (
    NETWORK,
    SUBJECT,
    Dataset,
    data_dir_option,
    json_option,
    labels_option,
    reading_options,
    runtime_option,
    together,
)
from .precision import made_ready
from .streams import say
from .subjects import called

if TYPE_CHECKING:
    from ..data import Split
    from ..release.build.own import Own
    from ..release.build.package import Published

output_option = click.option(
    "-o",
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
    labels_option,
    click.option("--mean", metavar="R,G,B", help="Mean that it was trained with, for pixels in 0..1."),
    click.option("--std", metavar="R,G,B", help="Standard deviation that it was trained with."),
    reading_options,
    click.option(
        "--calibration",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="Measure int8 ranges of weights of yours on training pictures of this folder.",
    ),
    click.option("--license", metavar="SPDX", help="License of weights of yours, such as MIT; stated in the card."),
)


@click.command(
    cls=Command,
    examples=[
        "cifar-export package --version 1.0.0",
        "cifar-export package resnet20 --version 1.0.0 --jobs 2 --format openvino",
    ],
)
@click.argument("subjects", metavar="[NETWORK]...", nargs=-1, type=SUBJECT)
@click.option(
    "--dataset",
    metavar="NAME|DIR",
    type=Dataset(),
    help="Build only the networks of cifar10 or cifar100; or the folder of pictures that weights of yours are of.",
)
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
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice([one for one in ONNX_PRECISIONS if one != "float32"]),
    help="Release an ONNX file in this precision too; may be given several times.",
)
@click.option(
    "--accuracy-budget",
    metavar="POINTS",
    type=click.FloatRange(0, 100),
    help="Points of top-1 that a file in reduced precision may lose.  [default: 0.10]",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    metavar="NAME",
    type=click.Choice(list(FURTHER)),
    help=f"Release a file in this format too, may be given several times. Known: {', '.join(FURTHER)}.",
)
@data_dir_option
@sign_key_option
@weights_options
@click.option("--no-cache", is_flag=True, help="Build every network, even one that was finished before.")
@json_option
def package(
    subjects: tuple[str, ...],
    dataset: str | None,
    only: tuple[str, ...],
    version: str,
    output: Path,
    jobs: int,
    runtimes: tuple[str, ...],
    precisions: tuple[Precision, ...],
    accuracy_budget: float | None,
    formats: tuple[str, ...],
    data_dir: Path,
    sign_key: Path | None,
    no_cache: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Build a release of all eight networks, some, or your own.

    NETWORK is resnet20, cifar100_resnet20 or the folder of a run. Weights of yours are packaged for one network, with
    --weights or by the folder of their run; their accuracy is measured if the test images are there.

    Each network is exported, proved, scored and described, and the whole is verified. The folder <output>/<version>
    appears complete or not at all, and is never overwritten. The time in it is that of SOURCE_DATE_EPOCH, or else
    1980-01-01. Its bytes depend only on the source, the weights and the libraries.
    """
    if only and (subjects or dataset):
        raise InvalidInput("--only names whole networks. Leave NETWORK and --dataset out.")
    names = subjects or only
    wanted = _wanted(precisions, accuracy_budget, formats)
    own = _own(names, dataset, data_dir, given, int8="int8" in precisions, quiet=as_json)
    chosen = [own.weights.network.name] if own else _chosen(names, dataset)
    from ..release.build.package import package as build
    from .progress import steps

    with steps(quiet=as_json) as progress:
        result = build(
            chosen,
            version,
            output,
            data_dir=data_dir,
            jobs=jobs,
            runtimes=runtimes,
            wanted=wanted,
            sign_key=sign_key,
            own=own,
            cached=not no_cache,
            progress=progress,
            say=say,
        )
    _show(result, as_json)


@click.command(cls=Command, examples=["cifar-export merge part1/1.0.0 part2/1.0.0 -o releases"])
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
    from .progress import steps

    with steps(quiet=as_json) as progress:
        result = merge_parts(parts, output, sign_key=sign_key, progress=progress, say=say)
    _show(result, as_json)


def _chosen(names: tuple[str, ...], dataset: str | None) -> list[str]:
    """The networks with bundled weights that were asked for; all where nothing is."""
    if dataset is not None and dataset not in DATASETS:
        raise InvalidInput(f"no weights of {dataset} are bundled. Add --weights PATH, or name the folder of a run.")
    datasets = [dataset] if dataset else list(DATASETS)
    if not names:
        return [name for name, spec in NETWORKS.items() if spec.dataset.name in datasets]
    found = []
    for name in names:
        said = find_network(name)
        if said is not None and dataset not in (None, said.dataset.name):
            raise InvalidInput(f"{name} says {said.dataset.name}, and --dataset says {dataset}. Leave one of them out.")
        found += [name] if said else [network(name, one).name for one in datasets]
    return in_order(found)


def _wanted(precisions: tuple[Precision, ...], budget: float | None, formats: tuple[str, ...]) -> Wanted:
    if budget is not None and not precisions:
        raise InvalidInput("--accuracy-budget is for files in reduced precision. Add --precision, or leave it away.")
    return Wanted(tuple(sorted(set(precisions))), budget, tuple(name for name in FURTHER if name in formats))


def _own(
    names: tuple[str, ...], dataset: str | None, data_dir: Path, given: dict[str, Any], *, int8: bool, quiet: bool
) -> Own | None:
    """Weights to package in the place of bundled ones; None where none are given."""
    source, license, calibration = given.pop("weights"), given.pop("license"), given.pop("calibration")
    paths = [name for name in names if find_model(name) is None and find_network(name) is None]
    if source is None and not paths:
        wrong = next(
            (
                f"--{name}"
                for name, value in {**given, "license": license, "calibration": calibration}.items()
                if value is not None
            ),
            None,
        )
        if wrong:
            raise InvalidInput(f"{wrong} is for weights of yours. Add --weights PATH, or leave it away.")
        return None
    if len(names) != 1:
        raise InvalidInput("weights of yours are packaged for one network. Name it alone, and --dataset or --labels.")
    if source in ("bundled", "upstream", "random"):
        raise InvalidInput(f"--weights {source}: only a file can be packaged; bundled weights need no option.")
    from ..weights.sources import said_dataset

    if find_model(names[0]) and dataset is None and given["labels"] is None and said_dataset(Path(source)) is None:
        raise InvalidInput(f"{source} does not say which classes it knows. Add --dataset, or --labels FILE.")
    if called(names[0]).file is not None:
        raise InvalidInput(f"{names[0]} is exported already. Name a network with --weights, or the folder of a run.")
    wanted = asked(names[0], dataset, source or "bundled", **given)
    from ..release.build.own import Own

    weights = wanted.load(quiet=quiet)
    if int8:
        weights = made_ready(weights, "int8", lambda what: None, calibration=calibration)  # for its file
    elif calibration is not None:
        raise InvalidInput("--calibration is for --precision int8. Leave it away.")
    return replace(Own(weights, license), split=_test_images(wanted.spec.dataset, data_dir))


def _test_images(dataset: DatasetSpec, data_dir: Path) -> Split | None:
    """What there is to measure weights of yours on. Raises `Unavailable` where --data-dir has been given in vain."""
    from ..data import load_split

    try:
        if dataset.folder is not None or dataset.name in DATASETS:
            return load_split(data_dir, dataset, "test")
    except Unavailable:
        source = click.get_current_context().get_parameter_source("data_dir")
        if source is click.core.ParameterSource.COMMANDLINE:
            raise
    say(f"note: there are no test images of {dataset.title} here, so the accuracy is not measured.")
    return None


def _show(result: Published, as_json: bool) -> None:
    from .summaries import release_summary

    if as_json:
        echo_json(result.as_dict())
    else:
        release_summary(result)
