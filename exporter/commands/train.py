"""`cifar-export train`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput
from ..networks.normalization import parse_normalization
from ..networks.zoo import MODELS, UPSTREAM_NORMALIZATION, NetworkSpec, Normalization, network
from ..training.recipe import CONTINUING, PRESETS, preset
from .console import INTERRUPTED, Command, data_dir_option, dataset_option, echo_json, json_option

if TYPE_CHECKING:
    from ..weights.core import Weights


_KNOWS_TOO_MUCH = (
    "the initial weights or teachers know the images that --holdout holds out: it would report too much.\n"
    "Start from random weights, or from a run's that held out the same, and without teachers."
)


def _note(text: str) -> None:
    click.echo(f"note: {text}", err=True)


def _load_initial(spec: NetworkSpec, source: str, of: NetworkSpec, normalization: Normalization | None) -> Weights:
    from ..training.initial import refuse_deeper, refuse_other_normalization
    from ..weights.sources import load_weights

    if source == "upstream":  # what is known of them before they are downloaded
        refuse_deeper(of, spec)
        refuse_other_normalization(normalization or UPSTREAM_NORMALIZATION[spec.dataset.name], spec)
    return load_weights(of, source, normalization)


def _load_teachers(models: Iterable[str], spec: NetworkSpec) -> tuple[Weights, ...]:
    from ..weights.sources import load_weights

    return tuple(load_weights(network(name, spec.dataset.name), "bundled") for name in models)


@click.command(cls=Command)
@click.argument("model", metavar="MODEL", type=click.Choice(list(MODELS)))
@dataset_option
@click.option(
    "--recipe",
    "recipe_name",
    default="quick",
    show_default=True,
    type=click.Choice(list(PRESETS)),
    help="Hyperparameters; --show-recipe prints them.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Stretch or shrink the recipe to so many epochs.")
@click.option(
    "--prune",
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of the images learned already that an epoch leaves out, 0 for none.  [default: the recipe's]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides everything random.")
@click.option(
    "--initial-weights",
    metavar="SOURCE",
    help="Start from trained weights: bundled, upstream (those of CIFAR-10), or a checkpoint's path.",
)
@click.option(
    "--initial-model",
    type=click.Choice(list(MODELS)),
    help="Model that they are of; a shallower one is grown.  [default: MODEL]",
)
@click.option("--mean", metavar="R,G,B", help="Mean that they were trained with, where their file doesn't say.")
@click.option("--std", metavar="R,G,B", help="Standard deviation likewise.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    type=click.Choice(list(MODELS)),
    help="Bundled network that a recipe which distills learns from (repeat).  [default: all four of DATASET]",
)
@data_dir_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run.  [default: artifacts/runs/<dataset>_<model>-<recipe>[-holdout]-seed<seed>]",
)
@click.option("--resume", is_flag=True, help="Continue the run in that folder.")
@click.option("--holdout", is_flag=True, help="Report on 5,000 images held out of training, not on the test set.")
@click.option("--show-recipe", is_flag=True, help="Print the recipe and train nothing.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(("auto", "cpu", "cuda")))
@click.option("--threads", type=click.IntRange(1, 4096), help="CPU threads.  [default: one per core]")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard files to the run's folder too.")
@json_option
def train(
    model: str,
    dataset: str,
    recipe_name: str,
    epochs: int | None,
    prune: float | None,
    initial_weights: str | None,
    initial_model: str | None,
    mean: str | None,
    std: str | None,
    teachers: tuple[str, ...],
    output: Path | None,
    show_recipe: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train MODEL by a recipe, resumably; torchrun -m cli train ... trains on several devices."""
    spec, recipe = network(model, dataset), preset(recipe_name).with_changes(epochs=epochs, prune=prune)
    if show_recipe:
        if as_json:
            return echo_json(recipe.as_dict())
        from .display import fields

        return fields(list(recipe.as_dict().items()))
    from ..training.display import live, result_lines
    from ..training.run import CHECKPOINT, HELD_OUT, Options
    from ..training.run import train as train_network

    asked = Options(spec, recipe, output=output, **options)
    checkpoint = asked.folder / CHECKPOINT
    if teachers and not recipe.distill:
        raise InvalidInput(f"--teacher is for recipes that distill; {recipe.name} does not.")
    if asked.holdout and (recipe.distill or initial_weights in ("bundled", "upstream")):
        raise InvalidInput(_KNOWS_TOO_MUCH)
    if initial_weights is not None:
        of = network(initial_model or model, dataset)
        initial = _load_initial(spec, initial_weights, of, parse_normalization(mean, std))
        if asked.holdout and (initial.metrics or {}).get("images") != HELD_OUT:
            raise InvalidInput(_KNOWS_TOO_MUCH)
        asked = replace(asked, initial=initial)
    elif (initial_model, mean, std) != (None, None, None):
        raise InvalidInput("--initial-model, --mean and --std are of --initial-weights: name them too.")
    resumes = asked.resume and checkpoint.exists()
    if recipe.name in CONTINUING and asked.initial is None and not resumes:
        _note(f"recipe {recipe.name} is for trained weights, and this run begins with random ones: --initial-weights.")
    # a run that is resumed knows what its teachers answered
    if recipe.distill and (teachers or not resumes):
        asked = replace(asked, teachers=_load_teachers(dict.fromkeys(teachers or MODELS), spec))
    try:
        with live() as progress:
            result = train_network(asked, progress, _note)
    except KeyboardInterrupt:
        onward = "Continue after the last complete epoch with --resume."
        early = "No epoch was complete: there is nothing to resume."
        click.echo(f"interrupted. {onward if checkpoint.exists() else early}", err=True)
        sys.exit(INTERRUPTED)
    if result is None:
        return None  # under torchrun the first process reports
    if as_json:
        return echo_json(result.as_dict())
    from .display import fields

    return fields(result_lines(result))
