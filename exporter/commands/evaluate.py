"""`cifar-export evaluate`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput
from ..formats import proving_runtime
from ..networks.zoo import DatasetSpec, InputVariant, Normalization
from .asked import Asked, asked, refuse_guessing, refuse_trust_without_file
from .console import Command, echo_json
from .options import (
    data_dir_option,
    file_options,
    input_option,
    json_option,
    network_options,
    runtime_option,
    wide_option,
)
from .precision import made_ready, precision_option, refuse_precision
from .strangers import Stranger, as_laid_out, is_stranger, layout_option, name_of, refuse_two_files, stranger_of
from .streams import say, verdict

if TYPE_CHECKING:
    from ..accuracy.evaluation import Evaluation
    from ..formats.onnx_choices import Layout, Precision

_ADD = "Add --weights PATH, or leave --all-runtimes out."


@click.command(
    cls=Command,
    examples=[
        "cifar-export evaluate resnet20 --data-dir data",
        "cifar-export evaluate cifar100_resnet20 --all-runtimes --limit 1000",
    ],
)
@network_options
@runtime_option(help="Runtime to evaluate in.  [default: the one that proves such a file, onnxruntime-cpu for ONNX]")
@click.option("--all-runtimes", is_flag=True, help="Evaluate in every runtime, and show where two of them disagree.")
@input_option
@precision_option
@file_options
@layout_option
@data_dir_option
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first so many test images.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=250,
    show_default=True,
    help="Number of images per forward pass.",
)
@wide_option
@json_option
def evaluate(
    runtime: str | None,
    all_runtimes: bool,
    variant: InputVariant | None,
    precision: Precision | None,
    file: Path | None,
    trust_file: bool,
    layout: Layout | None,
    data_dir: Path,
    limit: int | None,
    batch_size: int,
    wide: bool,
    as_json: bool,
    **network: Any,
) -> None:
    """Measure the accuracy of NETWORK on the test set.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, the folder of a run or of a released network, or an
    exported file. A file of somebody else needs --dataset, and --mean and --std.

    Reports top-1 and top-5 accuracy in the runtime that you name. With --all-runtimes, exit code 1 means that
    runtimes name different classes for an image whose class is clear in float64.
    """
    how: dict[str, Any] = {"batch_size": batch_size, "limit": limit}
    refuse_two_files(network["model"], file)
    with as_laid_out(str(file or network["model"]), layout) as subject:
        if file is not None:
            file = Path(subject)
        else:
            network["model"] = subject
        if file is None and is_stranger(subject, network["weights"]):
            if all_runtimes:
                raise InvalidInput(f"--all-runtimes judges by float64, which needs the weights of {subject}. {_ADD}")
            refuse_precision(precision, subject)
            stranger = stranger_of(subject, network, variant, trust=trust_file)
            return _evaluate_stranger(stranger, data_dir, runtime or proving_runtime(stranger.file), as_json, **how)
        wanted = asked(**network)
        if wanted.file is not None and wanted.source == "bundled" and not all_runtimes:
            how["precision"] = precision
            chosen = runtime or proving_runtime(wanted.file)
            return _evaluate_ours(wanted, variant, data_dir, chosen, as_json, trust=trust_file, **how)
        file = wanted.file or file
        refuse_trust_without_file(file, trust_file)
        if variant != "unit":
            refuse_guessing(wanted, file)
        how |= {"variant": variant, "file": file, "trust_file": trust_file}
        if all_runtimes:
            return _evaluate_all(wanted, data_dir, as_json, wide=wide, precision=precision, **how)
        how["precision"] = precision
        return _evaluate(wanted, data_dir, runtime or proving_runtime(file, precision or "float32"), as_json, **how)


def _evaluate(wanted: Asked, data_dir: Path, runtime: str, as_json: bool, **how: Any) -> None:
    from ..accuracy.score import score
    from ..data import load_split
    from .progress import bar, steps

    split = load_split(data_dir, wanted.spec.dataset, "test")
    weights = wanted.load(quiet=as_json)
    if how["file"] is None and how["precision"]:
        with steps(quiet=as_json) as tell:
            weights = made_ready(weights, how["precision"], tell)
    with bar("evaluating", quiet=as_json) as progress:
        result = score(weights, split, runtime, progress=progress, **how)
    _show(name_of(how["file"]) or wanted.spec.name, result, as_json)


def _evaluate_stranger(stranger: Stranger, data_dir: Path, runtime: str, as_json: bool, **how: Any) -> None:
    """`evaluate` of a file of somebody else, by what its user says of it."""
    fed = (stranger.file, stranger.format, stranger.variant, stranger.normalization)
    _show(stranger.name, _scored(stranger.require_dataset(), fed, data_dir, runtime, as_json, **how), as_json)


def _evaluate_ours(
    wanted: Asked,
    variant: InputVariant | None,
    data_dir: Path,
    runtime: str,
    as_json: bool,
    *,
    trust: bool,
    precision: Precision | None,
    **how: Any,
) -> None:
    """`evaluate` of a file of ours, which says all that is needed: no weights are."""
    from ..exporting.subject import facts_of, precision_of
    from ..prediction.predict import said_in
    from ..runtimes import require_precision

    file = Path(str(wanted.file))
    facts = facts_of(file, variant, trust=trust)
    require_precision(runtime, precision_of(file, facts, precision))
    labels, normalization = said_in(file, facts.metadata or {})
    if labels != wanted.spec.dataset.labels:
        raise InvalidInput(f"{file} names other labels, or in another order, than {wanted.spec.dataset.title} has.")
    fed = (file, facts.format, facts.variant or "float32", normalization)
    _show(wanted.spec.name, _scored(wanted.spec.dataset, fed, data_dir, runtime, as_json, **how), as_json)


def _scored(
    dataset: DatasetSpec,
    fed: tuple[Path, str, InputVariant, Normalization],
    data_dir: Path,
    runtime: str,
    as_json: bool,
    **how: Any,
) -> Evaluation:
    """The accuracy of a file of that format, which takes images of that variant and normalization."""
    from ..accuracy.score import score_file
    from ..data import load_split
    from .progress import bar

    file, format_name, variant, normalization = fed
    split = load_split(data_dir, dataset, "test")
    with bar("evaluating", quiet=as_json) as progress:
        return score_file(
            file,
            format_name,
            split,
            runtime,
            variant,
            normalization,
            classes=dataset.classes,
            progress=progress,
            **how,
        )


def _show(name: str, result: Evaluation, as_json: bool) -> None:
    from .summaries import evaluation_summary

    if as_json:
        echo_json(result.as_dict())
    else:
        evaluation_summary(name, result)


def _evaluate_all(wanted: Asked, data_dir: Path, as_json: bool, *, wide: bool, **how: Any) -> None:
    """`evaluate --all-runtimes`."""
    source = click.get_current_context().get_parameter_source("runtime")
    if source != click.core.ParameterSource.DEFAULT:
        raise InvalidInput("--runtime with --all-runtimes. Leave one of them out.")
    from ..accuracy.agreement import score_all
    from ..data import load_split
    from .progress import bar, steps
    from .reports import agreement_table

    split = load_split(data_dir, wanted.spec.dataset, "test")
    weights = wanted.load(quiet=as_json)
    if how["file"] is None and how["precision"]:
        with steps(quiet=as_json) as tell:
            weights = made_ready(weights, how["precision"], tell)
    with contextlib.ExitStack() as stack:

        def progress(runtime: str) -> Callable[[int, int], None]:
            stack.close()  # one bar at a time
            return stack.enter_context(bar(runtime, quiet=as_json))

        agreement = score_all(weights, split, progress=progress, **how)
    with verdict(1 if agreement.failures else 0):
        for line in agreement.failures:
            say(f"error: {line}")
        if as_json:
            echo_json(agreement.as_dict())
        else:
            agreement_table(agreement, wide=wide)
