"""`cifar-export quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import InvalidInput
from .console import Command, asked, echo_json, json_option, network_options
from .precision import quantization_options
from .subjects import WEIGHTS as KNOWN

FOLDER = Path("artifacts") / "quantized"
WEIGHTS = KNOWN[0]


@click.command(cls=Command, examples=["cifar-export quantize resnet20 --calibration data -o quantized"])
@network_options
@quantization_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Folder to write to.  [default: {FOLDER}/<dataset>_<model>]",
)
@json_option
def quantize(
    weight_bits: str | None,
    scheme: str | None,
    calibration: Path | None,
    output: Path | None,
    as_json: bool,
    **network: Any,
) -> None:
    """Measure the int8 ranges of NETWORK and keep them.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, or the folder of a run or of a released network.

    The folder's weights.safetensors holds the float32 weights and the ranges; `onnx`, `evaluate` and `parity` take the
    folder in the place of a network, and write or prove the same int8 file on every machine.
    """
    wanted = asked(**network)
    if wanted.file is not None:
        raise InvalidInput(f"{wanted.file} is exported already. Name a network, or the folder of a run.")
    from ..exporting.precision import DEFAULT_SCHEME, quantized
    from ..quantization.grids import WEIGHT_BITS
    from ..weights.native import save_weights
    from .precision import training_pictures
    from .progress import steps

    with steps(quiet=as_json) as progress:
        progress(f"loading {wanted.spec.name}")
        weights = wanted.load(quiet=as_json)
        if weights.grids is not None:
            raise InvalidInput("these weights are quantized already. Give the float32 weights.")
        pixels = training_pictures(weights.network.dataset, calibration)
        found = quantized(
            weights,
            pixels,
            weight_bits=int(weight_bits or WEIGHT_BITS[0]),
            scheme=scheme or DEFAULT_SCHEME,  # type: ignore[arg-type]  # click has checked it
            progress=progress,
        )
        folder = output or FOLDER / wanted.spec.name
        if (folder / WEIGHTS).exists():
            raise InvalidInput(f"{folder / WEIGHTS} is there already. Choose another --output, or remove it.")
        sha256 = save_weights(folder / WEIGHTS, found)
    grids = found.grids
    if grids is None:
        raise InvalidInput("no grids were found")
    document = {
        "path": str(folder / WEIGHTS),
        "sha256": sha256,
        "network": wanted.spec.name,
        "quantization": {**grids.described(), "sha256": grids.digest()},
    }
    if as_json:
        echo_json(document)
    else:
        click.echo(f"{wanted.spec.name}: {grids.weight_bits} bits, {grids.scheme}, on {grids.calibration}")
        click.echo(f"{folder / WEIGHTS}")
