"""The options of reduced precision, and weights made ready for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import InvalidInput
from ..formats import FORMATS
from ..formats.onnx_choices import PRECISIONS, Precision
from ..networks.zoo import DATASETS, DatasetSpec
from .options import F, together

if TYPE_CHECKING:
    from ..data import Split
    from ..networks.preprocess import Pixels
    from ..quantization.grids import Scheme
    from ..weights.core import Weights


def precision_option_of(format_name: str | None = None) -> Callable[[F], F]:
    """The option that asks for a precision that files of that format can have, or those of any format."""
    known = FORMATS[format_name].precisions if format_name else PRECISIONS
    return click.option(
        "--precision", type=click.Choice(known), help="Precision of weights and arithmetic.  [default: float32]"
    )


precision_option = precision_option_of()
quantization_options = together(
    click.option(
        "--weight-bits",
        type=click.Choice(["7", "8"]),
        help="Bits of int8 weights. 8 need a processor with VNNI: others are wrong in silence.  [default: 7]",
    ),
    click.option(
        "--scheme",
        type=click.Choice(["per-channel", "per-tensor", "power-of-two"]),
        help="Scales of int8 weights, for hardware that wants others.  [default: per-channel]",
    ),
    click.option(
        "--calibration",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="Measure int8 ranges on training pictures of this folder (as --data-dir or --dataset take it).",
    ),
)


def made_ready(
    weights: Weights,
    precision: Precision,
    progress: Callable[[str], None],
    *,
    weight_bits: str | None = None,
    scheme: Scheme | None = None,
    calibration: Path | None = None,
) -> Weights:
    """`weights` with what a file in that precision needs. Raises what `exporting.precision.prepared` raises."""
    from ..exporting.precision import prepared

    pixels = None
    if precision == "int8" and weights.grids is None:
        pixels = training_pictures(weights.network.dataset, calibration)
    bits = int(weight_bits) if weight_bits else None
    return prepared(weights, precision, weight_bits=bits, scheme=scheme, pixels=pixels, progress=progress)


def refuse_precision(precision: Precision | None, file: str) -> None:
    """Raise `InvalidInput` for a precision asked of somebody else's file, which has its own."""
    if precision is not None:
        raise InvalidInput(f"{file} has the precision that it has. Leave --precision away.")


def training_pictures(dataset: DatasetSpec, folder: Path | None) -> Pixels | None:
    """512 training pictures of `dataset`, from its own folder or from `folder`; None where neither is known."""
    from ..quantization.pictures import COUNT

    split = training_split(dataset, folder)
    return None if split is None else split.thinned(COUNT).images


def training_split(dataset: DatasetSpec, folder: Path | None) -> Split | None:
    """The training pictures of `dataset`, from its own folder or from `folder`; None where neither is known."""
    from ..data import load_split
    from ..data.named import dataset_named

    if folder is not None and dataset.name not in DATASETS:
        dataset = dataset_named(str(folder))
    if folder is None and dataset.folder is None:
        return None
    return load_split(folder or Path(), dataset, "train")
