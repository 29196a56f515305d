"""`cifar-export parity`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput
from ..networks.zoo import DATASETS, DatasetSpec, InputVariant
from ..system.files import require_target
from .asked import Asked, asked, refuse_guessing, refuse_trust_without_file
from .console import Command, echo_json
from .options import file_options, input_option, json_option, network_options, runtime_option, wide_option
from .precision import made_ready, precision_option, refuse_precision
from .strangers import Stranger, as_laid_out, is_stranger, layout_option, name_of, refuse_two_files, stranger_of
from .streams import say, verdict

if TYPE_CHECKING:
    from ..formats.onnx_choices import Layout, Precision
    from ..networks.preprocess import Pixels

    TestImages = Callable[[DatasetSpec | None], dict[str, Pixels]]


@click.command(
    cls=Command,
    examples=[
        "cifar-export parity resnet20 --dataset cifar100",
        "cifar-export parity model.onnx --weights weights.safetensors --report parity.html",
    ],
)
@network_options
@runtime_option("runtimes", multiple=True, help="Run only this runtime; may be given several times.")
@input_option
@precision_option
@file_options
@layout_option
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CIFAR_DATA",
    show_envvar=True,
    help="Also compare on the whole test set in this folder; where CIFAR_DATA names it, with --test-set alone.",
)
@click.option("--test-set", is_flag=True, help="Also compare on the whole test set in --data-dir, CIFAR_DATA or data.")
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
@wide_option
@json_option
def parity(
    runtimes: tuple[str, ...],
    variant: InputVariant | None,
    precision: Precision | None,
    file: Path | None,
    trust_file: bool,
    layout: Layout | None,
    data_dir: Path | None,
    test_set: bool,
    repro: Path | None,
    page: Path | None,
    wide: bool,
    as_json: bool,
    **network: Any,
) -> None:
    """Compare every runtime with PyTorch in float64.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, the folder of a run or of a released network, or an
    exported file. A file of somebody else needs --weights PATH; without it its runtimes are compared with each other,
    which proves nothing (exit code 1).

    It is run on the images that come with cifar-export, on generated ones, and with --data-dir or --test-set on the
    test set.
    """
    images = functools.partial(_test_images, data_dir=data_dir, test_set=test_set)
    refuse_two_files(network["model"], file)
    with as_laid_out(str(file or network["model"]), layout) as subject:
        if file is not None:
            file = Path(subject)
        else:
            network["model"] = subject
        if file is None and is_stranger(subject, network["weights"]):
            if page is not None or repro is not None:
                raise InvalidInput(
                    f"--report and --save-repro show what differs from PyTorch, which needs the weights of {subject}. "
                    "Add --weights PATH, or leave them out."
                )
            refuse_precision(precision, subject)
            stranger = stranger_of(subject, network, variant, trust=trust_file)
            return _compare(stranger, runtimes, images, as_json, wide=wide)
        wanted = asked(**network)
        file = wanted.file or file
        refuse_trust_without_file(file, trust_file)
        if variant != "unit":
            refuse_guessing(wanted, file)
        if page is not None:
            require_target(page)  # before the minutes that the proof takes
        how: dict[str, Any] = {"variant": variant, "runtimes": runtimes, "file": file, "trust_file": trust_file}
        how["precision"] = precision
        return _prove(wanted, images, repro, page, as_json, wide=wide, **how)


def _prove(
    wanted: Asked,
    images: TestImages,
    repro: Path | None,
    page: Path | None,
    as_json: bool,
    *,
    wide: bool,
    **how: Any,
) -> None:
    from ..diagnosis.prove import prove
    from .progress import steps
    from .reports import parity_table

    more = images(wanted.spec.dataset)
    with steps(quiet=as_json) as progress:
        progress(f"loading {wanted.spec.name}")
        weights = wanted.load(quiet=as_json)
        if how["file"] is None:
            weights = made_ready(weights, how["precision"] or "float32", progress)
        report = prove(
            weights,
            more_pixels=more,
            repro=repro,
            layers=page is not None,
            progress=progress,
            **how,
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
            parity_table(report, name_of(how["file"]), wide=wide)


def _compare(stranger: Stranger, runtimes: tuple[str, ...], images: TestImages, as_json: bool, *, wide: bool) -> None:
    """`parity` of a file that comes without its weights."""
    from ..diagnosis.differences import differences
    from .progress import steps
    from .reports import differences_table

    say(
        f"note: the weights of {stranger.file} are not here, so it cannot be compared with PyTorch, only its runtimes "
        "with each other."
    )
    more = images(stranger.dataset)
    with steps(quiet=as_json) as progress:
        report = differences(
            stranger.file,
            stranger.format,
            stranger.variant,
            stranger.normalization,
            runtimes=runtimes,
            classes=stranger.dataset.classes if stranger.dataset else None,
            more_pixels=more,
            progress=progress,
        )
    with verdict(1):
        for row in report.rows:
            if row.state == "failed":
                say(f"error: {row.runtime}: {row.reason}")
        say("error: nothing was proved. Add --weights PATH for a proof.")
        if as_json:
            echo_json(report.as_dict())
        else:
            differences_table(report, wide=wide)


def _test_images(dataset: DatasetSpec | None, data_dir: Path | None, *, test_set: bool) -> dict[str, Pixels]:
    """The whole test set, where it was asked for: its minutes are nobody's surprise."""
    source = click.get_current_context().get_parameter_source("data_dir")
    from_environment = source is click.core.ParameterSource.ENVIRONMENT
    if not test_set and (data_dir is None or from_environment):
        if from_environment:
            say("note: the test set in CIFAR_DATA is not used. Add --test-set to compare on all of it, too.")
        return {}
    if dataset is None or dataset.name not in DATASETS:
        if test_set:
            raise InvalidInput("--test-set is for networks of cifar10 and cifar100. Leave it out, or add --dataset.")
        return {}
    from ..data import load_split

    folder = data_dir or Path("data")
    images = load_split(folder, dataset, "test").images
    say(f"note: also compared on the {len(images):,} test images of {dataset.title} in {folder}.")
    return {"test": images}
