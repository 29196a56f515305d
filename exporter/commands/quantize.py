"""`cifar-export quantize`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput, Unavailable, from_os_error
from ..networks.zoo import DATASETS
from ..system.files import no_empty_parents
from ..training.options import FINETUNING, MOST_EPOCHS
from .asked import asked
from .console import Command, echo_json, leave_interrupted
from .options import data_dir_option, json_option, network_options
from .precision import quantization_options
from .streams import say
from .subjects import WEIGHTS as KNOWN

if TYPE_CHECKING:
    from ..networks.preprocess import Pixels
    from ..training.finetuning import Finetuned
    from ..weights.core import Weights

FOLDER = Path("artifacts") / "quantized"
WEIGHTS = KNOWN[0]


@click.command(
    cls=Command,
    examples=[
        "cifar-export quantize resnet20 --calibration data -o quantized",
        "cifar-export quantize resnet20 --finetune 1 --data-dir data -o quantized",
    ],
)
@network_options
@quantization_options
@click.option(
    "--finetune",
    metavar="EPOCHS",
    type=click.IntRange(1, MOST_EPOCHS),
    help="Then train the rounded weights on the training pictures, to answer as float32 does.",
)
@data_dir_option
@click.option("--resume", is_flag=True, help="Continue the finetuning that was interrupted in that folder.")
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
    finetune: int | None,
    data_dir: Path,
    resume: bool,
    output: Path | None,
    as_json: bool,
    **network: Any,
) -> None:
    """Measure the int8 ranges of NETWORK and keep them.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, or the folder of a run or of a released network.

    The folder's weights.safetensors holds the float32 weights and the ranges; `onnx`, `evaluate` and `parity` take the
    folder in the place of a network, and write or prove the same int8 file on every machine.

    With --finetune the weights' steps and the biases learn from the float32 network on all training pictures.
    Labels are not looked at.
    """
    wanted = asked(**network)
    if wanted.file is not None:
        raise InvalidInput(f"{wanted.file} is exported already. Name a network, or the folder of a run.")
    if resume and finetune is None:
        raise InvalidInput("--resume continues a finetuning. Add --finetune EPOCHS, or leave it away.")
    from ..exporting.precision import DEFAULT_SCHEME, quantized
    from ..quantization.grids import WEIGHT_BITS
    from ..weights.native import save_weights
    from .precision import training_pictures
    from .progress import steps

    folder = output or FOLDER / wanted.spec.name
    if (folder / WEIGHTS).exists():
        raise InvalidInput(f"{folder / WEIGHTS} is there already. Choose another --output, or remove it.")
    images = None
    with steps(quiet=as_json) as progress:
        progress(f"loading {wanted.spec.name}")
        weights = wanted.load(quiet=as_json)
        if weights.grids is not None:
            raise InvalidInput("these weights are quantized already. Give the float32 weights.")
        if finetune is not None:
            images = _training_images(weights, data_dir, calibration)
        pixels = training_pictures(weights.network.dataset, calibration)
        ready = quantized(
            weights,
            pixels,
            weight_bits=int(weight_bits or WEIGHT_BITS[0]),
            scheme=scheme or DEFAULT_SCHEME,  # type: ignore[arg-type]  # click has checked it
            progress=progress,
        )
    found = None
    if finetune is not None and images is not None:
        found = _finetuned(ready, images, finetune, folder, resume=resume, as_json=as_json)
        ready = found.weights
    sha256 = save_weights(folder / WEIGHTS, ready)
    (folder / FINETUNING).unlink(missing_ok=True)
    grids = ready.grids
    if grids is None:
        raise InvalidInput("no grids were found")
    document: dict[str, Any] = {
        "path": str(folder / WEIGHTS),
        "sha256": sha256,
        "network": wanted.spec.name,
        "quantization": {**grids.described(), "sha256": grids.digest()},
    }
    if found is not None:
        document["finetuning"] = {"kept": found.kept, "before": asdict(found.before), "after": asdict(found.after)}
    if as_json:
        return echo_json(document)
    click.echo(f"{wanted.spec.name}: {grids.weight_bits} bits, {grids.scheme}, on {grids.calibration}")
    if found is not None:
        _tell(found)
    click.echo(f"{folder / WEIGHTS}")
    return None


def _training_images(weights: Weights, data_dir: Path, calibration: Path | None) -> Pixels:
    """All training pictures, of CIFAR in `data_dir`, of one's own data set in its folder or in `calibration`."""
    from .precision import training_split

    split = training_split(
        weights.network.dataset, data_dir if weights.network.dataset.name in DATASETS else calibration
    )
    if split is None:
        raise InvalidInput(
            f"--finetune needs training pictures of {weights.network.dataset.name}.\n"
            "Name their folder with --dataset or --calibration."
        )
    return split.images


def _finetuned(
    weights: Weights, images: Pixels, epochs: int, folder: Path, *, resume: bool, as_json: bool
) -> Finetuned:
    from ..system.locks import lock_in, only_one
    from ..training.finetuning import finetune
    from .progress import bar

    if resume and not (folder / FINETUNING).exists():
        say(f"note: there is no checkpoint in {folder}: the finetuning begins anew.")
    busy = Unavailable(f"another process finetunes in {folder}. Wait until it is done, or name another --output.")
    try:
        with (
            no_empty_parents(lock_in(folder)),
            only_one(lock_in(folder), busy),
            bar("finetuning", quiet=as_json) as move,
        ):
            return finetune(weights, images, epochs, folder, resume=resume, on_step=move)
    except OSError as error:
        raise from_os_error(error, f"write {folder}") from error
    except KeyboardInterrupt as error:
        onward = "--resume continues at the last checkpoint."
        early = "there was no checkpoint yet, so there is nothing to resume."
        leave_interrupted(error, onward if (folder / FINETUNING).exists() else early, as_json=as_json)


def _tell(found: Finetuned) -> None:
    before, after = found.before, found.after
    click.echo(
        f"finetuned: of {before.images:,} training pictures {after.other_class} get another class than in float32, "
        f"before {before.other_class}; divergence {after.divergence:.5f} nats, before {before.divergence:.5f}"
    )
    if not found.kept:
        say("note: finetuning brought it no nearer to float32, so the measured ranges are kept as they were.")
