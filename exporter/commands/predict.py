"""`cifar-export predict`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from ..errors import InvalidInput
from ..networks.normalization import parse_normalization
from ..networks.zoo import DATASETS, MODELS, network
from ..runtimes import RUNTIMES
from .console import Command, echo_json, json_option


@click.command(cls=Command)
@click.argument("subject", metavar="MODEL|FILE")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dataset", type=click.Choice(list(DATASETS)), help="Data set of MODEL.  [default: cifar10]")
@click.option("--weights", help="Of MODEL: bundled, upstream, or a checkpoint's path.  [default: bundled]")
@click.option("--mean", metavar="R,G,B", help="Mean that MODEL's weights were trained with, pixels in 0..1.")
@click.option("--std", metavar="R,G,B", help="Standard deviation likewise.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="So many classes a picture.")
@click.option(
    "--runtime",
    type=click.Choice(list(RUNTIMES)),
    help="What runs it.  [default: pytorch for MODEL, the one that parity ran for FILE]",
)
@click.option("--trust-file", is_flag=True, help="Run a TorchScript or .pt2 file, which is code, unvouched for.")
@json_option
def predict(
    subject: str,
    images: tuple[Path, ...],
    dataset: str | None,
    weights: str | None,
    mean: str | None,
    std: str | None,
    top: int,
    runtime: str | None,
    trust_file: bool,
    as_json: bool,
) -> None:
    """Classify pictures with MODEL or with an exported FILE.

    IMAGE is a PNG, JPEG, WebP or PPM file, or a folder of them. What is not 32x32 is cropped to its middle square and
    averaged down; transparency becomes white. Files that are no pictures are reported and skipped, and the exit code
    is 1 at the end.
    """
    from ..prediction.pictures import find_pictures
    from ..prediction.predict import classifier_of_file, classifier_of_weights
    from ..prediction.predict import predict as predict_pictures
    from ..weights.sources import load_weights
    from .display import bar, predictions_table

    files = find_pictures(images)
    with contextlib.ExitStack() as stack:
        if subject in MODELS:
            if trust_file:
                raise InvalidInput("--trust-file without a file. Name the file that you trust.")
            spec, normalization = network(subject, dataset or "cifar10"), parse_normalization(mean, std)
            with bar("downloading", quiet=as_json) as progress:
                loaded = load_weights(spec, weights or "bundled", normalization, progress)
            classifier = stack.enter_context(classifier_of_weights(loaded, runtime))
        else:
            of_model = {"--dataset": dataset, "--weights": weights, "--mean": mean, "--std": std}
            given = next((name for name, value in of_model.items() if value is not None), None)
            if given:
                raise InvalidInput(f"{given} goes with a model; {subject} is taken for a file. Leave {given} away.")
            if not Path(subject).suffix:
                raise InvalidInput(f"no model {subject!r}, nor a file by its name. Models: {', '.join(MODELS)}.")
            classifier = classifier_of_file(Path(subject), runtime, trust_file=trust_file)
        with bar("classifying", quiet=as_json) as progress:
            result = predict_pictures(classifier, files, top, progress=progress)
    if as_json:
        echo_json([picture.as_dict() for picture in result.pictures])
    else:
        predictions_table(result)
    for line in result.skipped:
        click.echo(f"skipped {line}", err=True)
    sys.exit(1 if result.skipped else 0)
