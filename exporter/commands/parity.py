"""`cifar-export parity`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import Unavailable
from ..networks.zoo import InputVariant, NetworkSpec
from ..runtimes import RUNTIMES
from .console import Command, echo_json, file_options, input_option, json_option, network_options

if TYPE_CHECKING:
    from ..weights.core import Weights

Load = Callable[[], "Weights"]


@click.command(cls=Command)
@network_options
@click.option("--runtime", "runtimes", multiple=True, type=click.Choice(list(RUNTIMES)), help="Only this one; repeat.")
@input_option
@file_options
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CIFAR_DATA",
    show_envvar=True,
    help="Add the whole test set of that folder to the images compared.",
)
@click.option(
    "--save-repro",
    "repro",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where an ONNX file fails, write its first wrong node there, as a model with test data.",
)
@click.option(
    "--report",
    "page",
    metavar="FILE.html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a page: verdict, errors, the worst images as pictures.",
)
@json_option
def parity(
    spec: NetworkSpec,
    load: Load,
    runtimes: tuple[str, ...],
    variant: InputVariant | None,
    file: Path | None,
    trust_file: bool,
    data_dir: Path | None,
    repro: Path | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Compare every runtime with PyTorch in float64 on MODEL, on the bundled images and more."""
    from ..diagnosis.prove import prove
    from .display import parity_table, steps

    more = {}
    if data_dir is not None:
        from ..data import load_split

        try:
            more["test"] = load_split(data_dir, spec.dataset, "test").images
        except Unavailable:
            source = click.get_current_context().get_parameter_source("data_dir")
            if source is not click.core.ParameterSource.ENVIRONMENT:
                raise
            click.echo(f"note: no {spec.dataset.title} in CIFAR_DATA={data_dir}; the bundled images do.", err=True)
    with steps(quiet=as_json) as progress:
        progress(f"loading {spec.name}")
        report = prove(
            load(),
            variant=variant,
            runtimes=runtimes,
            file=file,
            trust_file=trust_file,
            more_pixels=more,
            repro=repro,
            layers=page is not None,
            progress=progress,
        )
        if page is not None:
            from ..diagnosis.page import write_page
            from ..gate.inputs import input_sets

            write_page(page, report, {**input_sets(), **more})
    if as_json:
        echo_json(report.as_dict())
    else:
        parity_table(report)
    for line in report.failures:
        click.echo(f"error: {line}", err=True)
    if page is not None:
        click.echo(f"report written to {page}", err=True)
    if repro is not None:
        wrote = f"repro written to {repro}" if report.divergence else "no repro written: no node diverges"
        click.echo(wrote, err=True)
    sys.exit(0 if report.passed else 1)
