"""`cifar-export evaluate`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput
from ..networks.zoo import InputVariant, NetworkSpec
from ..runtimes import RUNTIMES
from .console import Command, data_dir_option, echo_json, file_options, input_option, json_option, network_options

if TYPE_CHECKING:
    from ..weights.core import Weights

Load = Callable[[], "Weights"]


@click.command(cls=Command)
@network_options
@click.option(
    "--runtime", default="onnxruntime-cpu", show_default=True, type=click.Choice(list(RUNTIMES)), help="What runs it."
)
@click.option("--all-runtimes", is_flag=True, help="In every runtime, and where two of them disagree.")
@input_option
@file_options
@data_dir_option
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N test images.")
@click.option("--batch-size", type=click.IntRange(min=1), default=250, show_default=True, help="Images a forward pass.")
@json_option
def evaluate(
    spec: NetworkSpec,
    load: Load,
    runtime: str,
    all_runtimes: bool,
    variant: InputVariant | None,
    file: Path | None,
    trust_file: bool,
    data_dir: Path,
    limit: int | None,
    batch_size: int,
    as_json: bool,
) -> None:
    """Top-1 and top-5 accuracy of MODEL on the test set, in any runtime.

    With --all-runtimes, exit code 1 tells that float32 runtimes name different classes where the float64 margin is
    clear.
    """
    if all_runtimes:
        asked = {"variant": variant, "file": file, "trust_file": trust_file, "batch_size": batch_size, "limit": limit}
        return _evaluate_all(spec, load, data_dir, as_json, **asked)
    from ..accuracy.score import score
    from ..data import load_split
    from .display import bar, evaluation_summary

    split = load_split(data_dir, spec.dataset, "test")
    with bar("evaluating", quiet=as_json) as progress:
        result = score(
            load(),
            split,
            runtime,
            variant=variant,
            file=file,
            trust_file=trust_file,
            batch_size=batch_size,
            limit=limit,
            progress=progress,
        )
    if as_json:
        echo_json(result.as_dict())
    else:
        evaluation_summary(spec.name, result)
    return None


def _evaluate_all(spec: NetworkSpec, load: Load, data_dir: Path, as_json: bool, **asked: Any) -> None:
    """`evaluate --all-runtimes`."""
    source = click.get_current_context().get_parameter_source("runtime")
    if source != click.core.ParameterSource.DEFAULT:
        raise InvalidInput("--runtime with --all-runtimes. Leave one of them away.")
    from ..accuracy.agreement import score_all
    from ..data import load_split
    from .display import agreement_table, bar

    split = load_split(data_dir, spec.dataset, "test")
    with contextlib.ExitStack() as stack:

        def progress(runtime: str) -> Callable[[int, int], None]:
            stack.close()  # one bar at a time
            return stack.enter_context(bar(runtime, quiet=as_json))

        agreement = score_all(load(), split, progress=progress, **asked)
    if as_json:
        echo_json(agreement.as_dict())
    else:
        agreement_table(agreement)
    for line in agreement.failures:
        click.echo(f"error: {line}", err=True)
    sys.exit(1 if agreement.failures else 0)
