"""`cifar-export parity`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import Unavailable
from ..formats.onnx_choices import Precision
from ..networks.zoo import DATASETS, InputVariant
from ..system.files import require_target
from .console import (
    Command,
    asked,
    echo_json,
    file_options,
    input_option,
    json_option,
    network_options,
    one_file,
    refuse_guessing,
    refuse_trust_without_file,
    runtime_option,
)
from .precision import made_ready, precision_option
from .streams import say, verdict


@click.command(cls=Command)
@network_options
@runtime_option("runtimes", multiple=True, help="Run only this runtime; may be given several times.")
@input_option
@precision_option
@file_options
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CIFAR_DATA",
    show_envvar=True,
    help="Also compare on the whole test set in this folder.",
)
@click.option(
    "--save-repro",
    "repro",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="If an ONNX file fails, write its first wrong node to this folder, as a model with test data.",
)
@click.option(
    "--report",
    "page",
    metavar="FILE.html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write an HTML page with the verdict, the errors and the worst images.",
)
@json_option
def parity(
    runtimes: tuple[str, ...],
    variant: InputVariant | None,
    precision: Precision | None,
    file: Path | None,
    trust_file: bool,
    data_dir: Path | None,
    repro: Path | None,
    page: Path | None,
    as_json: bool,
    **network: Any,
) -> None:
    """Compare every runtime with PyTorch in float64.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, the folder of a run or of a released network, or an
    exported file.

    It is run on the images that come with cifar-export, on generated ones, and on the test set if there is one.
    """
    wanted = asked(**network)
    file = one_file(wanted, file)
    refuse_trust_without_file(file, trust_file)
    if variant != "unit":
        refuse_guessing(wanted, file)
    if page is not None:
        require_target(page)  # before the minutes that the proof takes
    spec = wanted.spec
    from ..diagnosis.prove import prove
    from .display import parity_table, steps

    more = {}
    if data_dir is not None and spec.dataset.name in DATASETS:
        from ..data import load_split

        try:
            more["test"] = load_split(data_dir, spec.dataset, "test").images
        except Unavailable:
            source = click.get_current_context().get_parameter_source("data_dir")
            if source is not click.core.ParameterSource.ENVIRONMENT:
                raise
            where = f"CIFAR_DATA={data_dir}"
            say(f"note: there is no {spec.dataset.title} in {where}; the bundled images are used.")
    with steps(quiet=as_json) as progress:
        progress(f"loading {spec.name}")
        weights = wanted.load(quiet=as_json)
        if file is None:
            weights = made_ready(weights, precision or "float32", progress)
        report = prove(
            weights,
            variant=variant,
            precision=precision,
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
    with verdict(0 if report.passed else 1):
        for line in report.failures:
            say(f"error: {line}")
        if page is not None:
            say(f"the report was written to {page}")
        if repro is not None:
            written = f"the repro was written to {repro}"
            say(written if report.divergence else "no repro was written, because no node is wrong")
        if as_json:
            echo_json(report.as_dict())
        else:
            parity_table(report)
