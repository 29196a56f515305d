"""`cifar-export predict`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput
from ..networks.labels import read_labels
from ..networks.normalization import parse_normalization
from ..networks.zoo import DATASETS, DatasetSpec
from .asked import asked, dataset_of
from .console import Command, echo_json
from .options import (
    dataset_option,
    json_option,
    labels_option,
    reading_options,
    runtime_option,
    seed_option,
    trust_option,
)
from .precision import made_ready, precision_option, refuse_precision
from .strangers import as_laid_out, layout_option
from .streams import say, verdict
from .subjects import called

if TYPE_CHECKING:
    from ..formats.onnx_choices import Layout, Precision
    from ..prediction.classifier import Classifier


@click.command(
    cls=Command,
    examples=["cifar-export predict resnet20 cat.png", "cifar-export predict model.onnx pictures --top 1 --json"],
)
@click.argument("subject", metavar="NETWORK|FILE")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@dataset_option
@click.option(
    "--weights",
    metavar="SOURCE",
    help="Weights of NETWORK: bundled, upstream, random, or the path of a checkpoint.  [default: bundled]",
)
@click.option("--mean", metavar="R,G,B", help="Mean that the weights of NETWORK were trained with, for pixels in 0..1.")
@click.option("--std", metavar="R,G,B", help="Standard deviation that the weights of NETWORK were trained with.")
@seed_option
@labels_option
@reading_options
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Number of classes to show per picture.",
)
@layout_option
@precision_option
@runtime_option(help="Runtime to classify in; by default PyTorch for NETWORK in float32, else the one that parity ran.")
@trust_option
@json_option
def predict(
    subject: str,
    images: tuple[Path, ...],
    dataset: str | None,
    weights: str | None,
    mean: str | None,
    std: str | None,
    key: str | None,
    shortcut: str | None,
    seed: int | None,
    labels: Path | None,
    top: int,
    layout: Layout | None,
    precision: Precision | None,
    runtime: str | None,
    trust_file: bool,
    as_json: bool,
) -> None:
    """Classify pictures with NETWORK or with an exported FILE.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, or the folder of a run or of a released network. A FILE of
    somebody else needs --dataset or --labels, and --mean and --std.

    IMAGE is a PNG, JPEG, WebP or PPM file, or a folder of them. A picture that is not 32x32 is cropped to its middle
    square and averaged down; transparency becomes white. Files that are not pictures are named and skipped, and then
    the exit code is 1.
    """
    from ..data.pictures import find_pictures
    from ..prediction.predict import predict as predict_pictures
    from .progress import bar
    from .reports import predictions_table

    files = find_pictures(images)
    of_model = {
        "dataset": dataset,
        "weights": weights,
        "mean": mean,
        "std": std,
        "key": key,
        "shortcut": shortcut,
        "seed": seed,
        "labels": labels,
    }
    with (
        as_laid_out(subject, layout) as subject,
        _classifier(subject, of_model, runtime, precision, trust_file=trust_file, quiet=as_json) as classifier,
        bar("classifying", quiet=as_json) as progress,
    ):
        result = predict_pictures(classifier, files, top, progress=progress)
    with verdict(1 if result.skipped else 0):
        for line in result.skipped:
            say(f"skipped {line}")
        if as_json:
            echo_json([picture.as_dict() for picture in result.pictures])
        else:
            predictions_table(result)


def _classifier(
    subject: str,
    of_model: dict[str, Any],
    runtime: str | None,
    precision: Precision | None,
    *,
    trust_file: bool,
    quiet: bool,
) -> AbstractContextManager[Classifier]:
    """What classifies: the network that `subject` names, or the file."""
    from ..prediction.predict import classifier_of_file, classifier_of_weights
    from .progress import steps

    name = called(subject)
    if name.file is None:
        if trust_file:
            raise InvalidInput("--trust-file without a file. Name the file that you trust.")
        dataset, weights = of_model["dataset"], of_model["weights"] or "bundled"
        chosen = {key: value for key, value in of_model.items() if key not in ("dataset", "weights")}
        wanted = asked(subject, dataset, weights, **chosen)
        loaded, reduced = wanted.load(quiet=quiet), precision or "float32"
        with steps(quiet=quiet) as tell:
            loaded = made_ready(loaded, reduced, tell)
        return classifier_of_weights(loaded, runtime, reduced)
    refuse_precision(precision, subject)
    said = {key: value for key, value in of_model.items() if value is not None}
    unfit = next((key for key in said if not name.is_foreign or key not in _OF_A_STRANGER), None)
    if unfit:
        why = "a network" if name.is_foreign else "a network, and the file says its own"
        raise InvalidInput(f"--{unfit} is for {why}, but {subject} is a file. Leave --{unfit} out.")
    if not name.is_foreign:
        return classifier_of_file(name.file, runtime, trust_file=trust_file)
    labels = _classes(subject, said).labels
    normalization = parse_normalization(said.get("mean"), said.get("std"))
    return classifier_of_file(name.file, runtime, trust_file=trust_file, labels=labels, normalization=normalization)


def _classes(subject: str, said: dict[str, Any]) -> DatasetSpec:
    """The classes that a user says a stranger's file tells apart."""
    if "labels" in said:
        return read_labels(said["labels"])
    if "dataset" not in said:
        raise InvalidInput(f"{subject} does not say its classes. Add --dataset, or --labels FILE (one a line).")
    named = dataset_of(said["dataset"])
    return named if isinstance(named, DatasetSpec) else DATASETS[named]


_OF_A_STRANGER = ("dataset", "labels", "mean", "std")
"""What can be said of a file that does not say it itself."""
