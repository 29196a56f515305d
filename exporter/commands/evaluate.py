"""`cifar-export evaluate`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..errors import InvalidInput
from ..formats.onnx_choices import Precision
from ..networks.zoo import InputVariant
from .console import (
    Asked,
    Command,
    asked,
    data_dir_option,
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
@runtime_option(default="onnxruntime-cpu", help="Runtime to evaluate in.")
@click.option("--all-runtimes", is_flag=True, help="Evaluate in every runtime, and show where two of them disagree.")
@input_option
@precision_option
@file_options
@data_dir_option
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first so many test images.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=250,
    show_default=True,
    help="Number of images per forward pass.",
)
@json_option
def evaluate(
    runtime: str,
    all_runtimes: bool,
    variant: InputVariant | None,
    precision: Precision | None,
    file: Path | None,
    trust_file: bool,
    data_dir: Path,
    limit: int | None,
    batch_size: int,
    as_json: bool,
    **network: Any,
) -> None:
    """Measure the accuracy of NETWORK on the test set.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, the folder of a run or of a released network, or an
    exported file.

    Reports top-1 and top-5 accuracy in the runtime that you name. With --all-runtimes, exit code 1 means that float32
    runtimes name different classes for an image whose class is clear in float64.
    """
    wanted = asked(**network)
    file = one_file(wanted, file)
    refuse_trust_without_file(file, trust_file)
    if variant != "unit":
        refuse_guessing(wanted, file)
    how: dict[str, Any] = {"variant": variant, "file": file, "trust_file": trust_file}
    how |= {"batch_size": batch_size, "limit": limit}
    if all_runtimes:
        if precision not in (None, "float32"):
            raise InvalidInput("--all-runtimes compares float32 runtimes. Leave --precision away, or name a --runtime.")
        return _evaluate_all(wanted, data_dir, as_json, **how)
    from ..accuracy.score import score
    from ..data import load_split
    from .display import bar, evaluation_summary, steps

    split = load_split(data_dir, wanted.spec.dataset, "test")
    weights = wanted.load(quiet=as_json)
    if file is None and precision:
        with steps(quiet=as_json) as tell:
            weights = made_ready(weights, precision, tell)
    with bar("evaluating", quiet=as_json) as progress:
        result = score(weights, split, runtime, precision=precision, progress=progress, **how)
    if as_json:
        echo_json(result.as_dict())
    else:
        evaluation_summary(wanted.spec.name, result)
    return None


def _evaluate_all(wanted: Asked, data_dir: Path, as_json: bool, **how: Any) -> None:
    """`evaluate --all-runtimes`."""
    source = click.get_current_context().get_parameter_source("runtime")
    if source != click.core.ParameterSource.DEFAULT:
        raise InvalidInput("--runtime with --all-runtimes. Leave one of them out.")
    from ..accuracy.agreement import score_all
    from ..data import load_split
    from .display import agreement_table, bar

    split = load_split(data_dir, wanted.spec.dataset, "test")
    with contextlib.ExitStack() as stack:

        def progress(runtime: str) -> Callable[[int, int], None]:
            stack.close()  # one bar at a time
            return stack.enter_context(bar(runtime, quiet=as_json))

        agreement = score_all(wanted.load(quiet=as_json), split, progress=progress, **how)
    with verdict(1 if agreement.failures else 0):
        for line in agreement.failures:
            say(f"error: {line}")
        if as_json:
            echo_json(agreement.as_dict())
        else:
            agreement_table(agreement)
