"""The `cifar-export` command. Each command parses, calls one function of `exporter`, and prints.

Nothing heavy is imported here: `--help` must stay instant, so commands import what they need when they run.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exporter.console import (
    INTERRUPTED,
    Group,
    data_dir_option,
    dataset_option,
    echo_json,
    end_on_termination,
    file_options,
    input_option,
    json_option,
    network_options,
    output_option,
)
from exporter.errors import InvalidInput, Unavailable
from exporter.normalization import parse_normalization
from exporter.runtimes import RUNTIMES
from exporter.version import __version__
from exporter.zoo import DATASETS, MODELS, InputVariant, NetworkSpec, network

if TYPE_CHECKING:
    from exporter.weights import Weights

Load = Callable[[], "Weights"]


@click.group(cls=Group)
@click.version_option(__version__, prog_name="cifar-export")
def main() -> None:
    """Train, export, prove and package ResNets for CIFAR-10 and CIFAR-100.

    Try `cifar-export onnx resnet20 --dataset cifar100`.

    Exit codes: 0 done; 1 a check failed, and nothing new was written; 2 wrong usage; 3 this machine lacks something.
    """
    end_on_termination()


@main.command()
@json_option
def models(as_json: bool) -> None:
    """List the eight networks: size, accuracy, where their weights come from."""
    from exporter.catalog import catalog

    rows = catalog()
    if as_json:
        echo_json([row.as_dict() for row in rows])
        return
    from exporter.display import catalog_table

    catalog_table(rows)


def _export(
    spec: NetworkSpec, load: Load, format_name: str, golden: Path | None, as_json: bool, **options: Any
) -> None:
    """What the three export commands share."""
    from exporter.display import artifact_summary, steps
    from exporter.export import export

    with steps(quiet=as_json) as progress:
        progress(f"loading {spec.name}")
        artifact = export(load(), format_name, progress=progress, **options)
        if golden is not None:
            from exporter.golden import write_golden

            progress("golden vectors")
            write_golden(artifact, golden)
    if as_json:
        echo_json({**artifact.as_dict(), "golden": str(golden) if golden else None})
    else:
        artifact_summary(artifact, golden)


# negated by hand: what flag_value=False with default=True means differs between versions of click
no_check_option = click.option(
    "--no-check",
    "checked",
    is_flag=True,
    callback=lambda _context, _option, no_check: not no_check,
    help="Skip parity; the file's metadata says so.",
)

golden_option = click.option(
    "--golden",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write test inputs and their logits there, in ONNX's test-data convention.",
)


@main.command()
@network_options
@input_option
@click.option("--opset", type=int, help="Version of the ONNX operators, 13 to 26.  [default: 18]")
@output_option(".onnx")
@no_check_option
@golden_option
@json_option
def onnx(
    spec: NetworkSpec,
    load: Load,
    variant: InputVariant | None,
    opset: int | None,
    output: Path | None,
    checked: bool,
    golden: Path | None,
    as_json: bool,
) -> None:
    """Export MODEL to one ONNX file, proved in ONNX Runtime before it appears."""
    if opset is not None:
        from exporter.formats.onnx import check_opset

        check_opset(opset)
    options = {"variant": variant or "float32", "opset": opset, "output": output, "checked": checked}
    _export(spec, load, "onnx", golden, as_json, **options)


@main.command()
@network_options
@input_option
@output_option(".torchscript.pt")
@no_check_option
@golden_option
@json_option
def torchscript(
    spec: NetworkSpec,
    load: Load,
    variant: InputVariant | None,
    output: Path | None,
    checked: bool,
    golden: Path | None,
    as_json: bool,
) -> None:
    """Export MODEL to a TorchScript file for C++ (torch::jit::load), proved before it appears."""
    options = {"variant": variant or "float32", "output": output, "checked": checked}
    _export(spec, load, "torchscript", golden, as_json, **options)


@main.command("torch-export")
@network_options
@input_option
@output_option(".pt2")
@no_check_option
@golden_option
@json_option
def torch_export(
    spec: NetworkSpec,
    load: Load,
    variant: InputVariant | None,
    output: Path | None,
    checked: bool,
    golden: Path | None,
    as_json: bool,
) -> None:
    """Export MODEL to a .pt2 file (torch.export, dynamic batch), proved before it appears."""
    options = {"variant": variant or "float32", "output": output, "checked": checked}
    _export(spec, load, "torch-export", golden, as_json, **options)


@main.command()
@network_options
@click.option("--runtime", "runtimes", multiple=True, type=click.Choice(list(RUNTIMES)), help="Only this one; repeat.")
@input_option
@file_options
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CIFAR_DATA",
    show_envvar=True,
    help="Add the whole test set of that folder to the images compared.",
)
@click.option(
    "--save-repro",
    "repro",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where an ONNX file fails, write its first wrong node there, as a model with test data.",
)
@click.option(
    "--report",
    "page",
    metavar="FILE.html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a page: verdict, errors, the worst images as pictures.",
)
@json_option
def parity(
    spec: NetworkSpec,
    load: Load,
    runtimes: tuple[str, ...],
    variant: InputVariant | None,
    file: Path | None,
    trust_file: bool,
    data_dir: Path | None,
    repro: Path | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Compare every runtime with PyTorch in float64 on MODEL, on the bundled images and more."""
    from exporter.assess import prove
    from exporter.display import parity_table, steps

    more = {}
    if data_dir is not None:
        from exporter.data import load_split

        try:
            more["test"] = load_split(data_dir, spec.dataset, "test").images
        except Unavailable:
            source = click.get_current_context().get_parameter_source("data_dir")
            if source is not click.core.ParameterSource.ENVIRONMENT:
                raise
            click.echo(f"note: no {spec.dataset.title} in CIFAR_DATA={data_dir}; the bundled images do.", err=True)
    with steps(quiet=as_json) as progress:
        progress(f"loading {spec.name}")
        report = prove(
            load(),
            variant=variant,
            runtimes=runtimes,
            file=file,
            trust_file=trust_file,
            more_pixels=more,
            repro=repro,
            layers=page is not None,
            progress=progress,
        )
        if page is not None:
            from exporter.parity.inputs import input_sets
            from exporter.parity.page import write_page

            write_page(page, report, {**input_sets(), **more})
    if as_json:
        echo_json(report.as_dict())
    else:
        parity_table(report)
    for line in report.failures:
        click.echo(f"error: {line}", err=True)
    if page is not None:
        click.echo(f"report written to {page}", err=True)
    if repro is not None:
        wrote = f"repro written to {repro}" if report.divergence else "no repro written: no node diverges"
        click.echo(wrote, err=True)
    sys.exit(0 if report.passed else 1)


@main.command()
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
    from exporter.assess import score
    from exporter.data import load_split
    from exporter.display import bar, evaluation_summary

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
    from exporter.agreement import score_all
    from exporter.data import load_split
    from exporter.display import agreement_table, bar

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


@main.group()
def data() -> None:
    """Get CIFAR-10 and CIFAR-100, and tell what is there."""


datasets_option = click.option(
    "--dataset", "names", type=click.Choice([*DATASETS, "all"]), default="all", show_default=True, help="Which of them."
)


@data.command("fetch")
@datasets_option
@data_dir_option
@json_option
def data_fetch(names: str, data_dir: Path, as_json: bool) -> None:
    """Download the official binary archives, check and unpack them; what is complete stays as it is.

    An archive that lies in the folder already is used without a network. CIFAR_EXPORT_DATA_URL names a mirror.
    """
    from exporter.data.fetch import fetch
    from exporter.display import bar, data_summary

    reports = []
    for dataset in DATASETS.values():
        if names in (dataset.name, "all"):
            try:
                with bar(f"downloading {dataset.title}", quiet=as_json) as progress:
                    reports.append(fetch(dataset, data_dir, progress=progress))
            except KeyboardInterrupt:
                click.echo("interrupted: what has arrived is kept, and the next run goes on from there.", err=True)
                sys.exit(INTERRUPTED)
            if not as_json:
                data_summary(reports[-1].data, "fetched" if reports[-1].fetched else "already there")
    if as_json:
        echo_json({"datasets": [report.as_dict() for report in reports]})


@data.command("check")
@datasets_option
@data_dir_option
@json_option
def data_check(names: str, data_dir: Path, as_json: bool) -> None:
    """Tell whether the data sets are complete, and whether they are the official bytes.

    Missing, short and foreign files and labels out of range end with exit code 1; other bytes than the official ones,
    such as another order of the images, do not.
    """
    from exporter.data.check import check
    from exporter.display import data_summary

    reports = [check(dataset, data_dir) for dataset in DATASETS.values() if names in (dataset.name, "all")]
    ok = all(report.ok for report in reports)
    if as_json:
        echo_json({"ok": ok, "datasets": [report.as_dict() for report in reports]})
    for report in reports:
        if not as_json:
            data_summary(report)
        for line in report.problems:
            click.echo(f"error: {line}", err=True)
        if not report.complete:
            command = f"cifar-export data fetch --dataset {report.dataset} --data-dir {data_dir}"
            click.echo(f"Get it: {command}", err=True)
    sys.exit(0 if ok else 1)


@main.command()
@click.argument("model", metavar="MODEL", type=click.Choice(list(MODELS)))
@dataset_option
@click.option(
    "--recipe", "recipe_name", default="quick", show_default=True, type=click.Choice(("quick", "seed", "release"))
)
@click.option("--epochs", type=click.IntRange(min=1), help="Stretch or shrink the recipe to so many epochs.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides everything random.")
@data_dir_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run.  [default: artifacts/runs/<dataset>_<model>-<recipe>-seed<seed>]",
)
@click.option("--resume", is_flag=True, help="Continue the run in that folder, to the same weights.")
@click.option("--holdout", is_flag=True, help="Report on 5,000 images held out of training, not on the test set.")
@click.option("--show-recipe", is_flag=True, help="Print the recipe and train nothing.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(("auto", "cpu", "cuda")))
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: one per core]")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard files to the run's folder too.")
@json_option
def train(
    model: str,
    dataset: str,
    recipe_name: str,
    epochs: int | None,
    output: Path | None,
    show_recipe: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train MODEL by a recipe, resumably; torchrun -m cli train ... trains on several devices."""
    from exporter.training.recipe import preset

    spec, recipe = network(model, dataset), preset(recipe_name).with_epochs(epochs)
    if show_recipe:
        if as_json:
            return echo_json(recipe.as_dict())
        from exporter.display import fields

        return fields(list(recipe.as_dict().items()))
    from exporter.training.display import live, result_lines
    from exporter.training.run import Options
    from exporter.training.run import train as train_network

    asked = Options(spec, recipe, output=output, **options)
    try:
        with live() as progress:
            result = train_network(asked, progress)
    except KeyboardInterrupt:
        click.echo("interrupted. Continue after the last complete epoch with --resume.", err=True)
        sys.exit(INTERRUPTED)
    if result is None:
        return None  # under torchrun the first process reports
    if as_json:
        return echo_json(result.as_dict())
    from exporter.display import fields

    return fields(result_lines(result))


@main.command()
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
    from exporter.display import bar, predictions_table
    from exporter.pictures import find_pictures
    from exporter.predict import classifier_of_file, classifier_of_weights
    from exporter.predict import predict as predict_pictures
    from exporter.weights import load_weights

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


@main.command()
@data_dir_option
@json_option
def doctor(data_dir: Path, as_json: bool) -> None:
    """Tell what of this machine will or won't work, and how to mend it.

    Ends with exit code 3 if something that should work here does not.
    """
    from exporter.display import diagnosis_table, steps
    from exporter.doctor import diagnose

    with steps(quiet=as_json) as progress:
        diagnosis = diagnose(data_dir, progress)
    if as_json:
        echo_json(diagnosis.as_dict())
    else:
        diagnosis_table(diagnosis)
    sys.exit(0 if diagnosis.ok else Unavailable.exit_code)


if __name__ == "__main__":
    main()
