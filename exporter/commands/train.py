"""`cifar-export train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import InvalidInput
from ..networks.normalization import parse_normalization
from ..networks.zoo import DatasetSpec, Normalization, find_network, network
from ..training.options import HIGHEST_SEED, MOST_EPOCHS, NamedWeights, Options
from ..training.recipe import PRESETS, Recipe, preset
from .asked import dataset_of
from .console import Command, echo_json, leave_interrupted
from .options import MODEL, MODEL_OR_NETWORK, data_dir_option, dataset_option, json_option, reading_options
from .streams import say


@click.command(
    cls=Command,
    examples=[
        "cifar-export train resnet20 --recipe quick -o run",
        "cifar-export train resnet20 --recipe quick -o run --resume",
    ],
)
@click.argument("model", metavar="NETWORK", type=MODEL_OR_NETWORK)
@dataset_option
@click.option(
    "--recipe",
    "recipe_name",
    default="quick",
    show_default=True,
    type=click.Choice(list(PRESETS)),
    help="Hyperparameters to train with; --show-recipe prints them.",
)
@click.option("--epochs", type=click.IntRange(1, MOST_EPOCHS), help="Number of epochs.  [default: the recipe's]")
@click.option(
    "--prune",
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of the images learned already that each epoch leaves out; 0 leaves out none.  [default: the recipe's]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, HIGHEST_SEED),
    default=0,
    show_default=True,
    help="Number that decides all random choices.",
)
@click.option(
    "--initial-weights",
    metavar="SOURCE",
    help="Start from trained weights instead of random ones: bundled, upstream, or the path of a checkpoint.",
)
@click.option(
    "--initial-model",
    metavar="MODEL",
    type=MODEL_OR_NETWORK,
    help="Model that the initial weights are of, or network (cifar100_resnet20); a shallower one is grown.  "
    "[default: that of NETWORK, of CIFAR-100 if the data set is your own]",
)
@click.option(
    "--freeze-body",
    is_flag=True,
    help="Train the last layer alone, on the body of the initial weights as it is.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Train on so many images only, spread over the set: a first try."
)
@click.option(
    "--mean", metavar="R,G,B", help="Mean that the initial weights were trained with, if their file does not say so."
)
@click.option("--std", metavar="R,G,B", help="Standard deviation that the initial weights were trained with.")
@reading_options
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="MODEL",
    type=MODEL,
    help="Bundled network to learn from, with a recipe that distills; may be given several times.  [default: all four]",
)
@data_dir_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run.",
)
@click.option("--resume", is_flag=True, help="Continue the run in that folder.")
@click.option(
    "--holdout", is_flag=True, help="Set aside 5,000 training images and report on them, not on the test set."
)
@click.option("--show-recipe", is_flag=True, help="Print the recipe and train nothing.")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    type=click.Choice(("auto", "cpu", "cuda")),
    help="Device to train on; auto takes a GPU if there is one.",
)
@click.option("--threads", type=click.IntRange(1, 4096), help="Number of CPU threads.  [default: one per core]")
@click.option("--tensorboard", is_flag=True, help="Also write TensorBoard files to the folder of the run.")
@json_option
def train(
    model: str,
    dataset: str | None,
    recipe_name: str,
    epochs: int | None,
    prune: float | None,
    initial_weights: str | None,
    initial_model: str | None,
    mean: str | None,
    std: str | None,
    key: str | None,
    shortcut: str | None,
    teachers: tuple[str, ...],
    show_recipe: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train NETWORK by a recipe; a run can be resumed.

    NETWORK is resnet20 (with --dataset) or cifar100_resnet20.

    By default the folder of a run is artifacts/runs/<dataset>_<model>-<recipe>[-holdout]-seed<seed>. To train on
    several devices, start the command with torchrun: `torchrun -m cifar_export train ...`.
    """
    recipe = preset(recipe_name).with_changes(epochs=epochs, prune=prune)
    if show_recipe:
        return _show(recipe, as_json)
    said = find_network(model)
    if said is not None:
        if dataset not in (None, said.dataset.name):
            raise InvalidInput(f"{model} says {said.dataset.name}, and --dataset says {dataset}. Leave --dataset away.")
        model, dataset = said.model.name, said.dataset.name
    trained_on = dataset_of(dataset, quiet=as_json)
    wanted = Options(
        network(model, trained_on),
        recipe,
        initial=_initial(
            initial_weights, initial_model, model, trained_on, parse_normalization(mean, std), key, shortcut
        ),
        teachers=tuple(NamedWeights("bundled", network(name, trained_on)) for name in dict.fromkeys(teachers)) or None,
        **options,
    )
    from ..training import run
    from .tables import fields
    from .training_progress import live, result_lines

    try:
        with live() as progress:
            result = run.train(wanted, progress, lambda note: say(f"note: {note}"))
    except KeyboardInterrupt as error:
        onward = "--resume continues at the last checkpoint."
        early = "no epoch was complete, so there is nothing to resume."
        leave_interrupted(error, onward if wanted.checkpoint.exists() else early, as_json=as_json)
    if result is None:
        return None  # under torchrun the first process reports
    return echo_json(result.as_dict()) if as_json else fields(result_lines(result))


def _initial(
    source: str | None,
    named: str | None,
    model: str,
    trained_on: str | DatasetSpec,
    normalization: Normalization | None,
    key: str | None,
    shortcut: str | None,
) -> NamedWeights | None:
    """The weights to start from. Their data set is the file's own; else that trained on, or CIFAR-100 for one's own."""
    if source is None:
        if any(given is not None for given in (named, normalization, key, shortcut)):
            raise InvalidInput(
                "--initial-model, --mean, --std, --key and --shortcut describe the initial weights. "
                "Add --initial-weights."
            )
        return None
    known = find_network(named) if named else None
    if known is None:
        dataset = trained_on
        if not isinstance(trained_on, str):
            dataset = "cifar100" if source in ("bundled", "upstream") else dataset_of(None, source)
        known = network(named or model, dataset)
    return NamedWeights(source, known, normalization, key, shortcut)


def _show(recipe: Recipe, as_json: bool) -> None:
    from .tables import fields

    if as_json:
        echo_json(recipe.as_dict())
    else:
        fields(list(recipe.as_dict().items()))
