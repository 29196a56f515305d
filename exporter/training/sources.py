"""The trained weights that a run begins with and learns from: which they are, and which may not be used.

What their names tell already is told before anything is loaded or downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidInput
from ..networks.zoo import DATASETS, MODELS, network
from ..weights.core import Weights
from ..weights.foreign import Reading
from ..weights.sources import load_weights
from . import initial, teachers
from .holdout import refuse_seen
from .options import NamedWeights, Options


def load_sources(options: Options) -> tuple[Weights | None, tuple[Weights, ...]]:
    """Load the initial weights, None for random ones, and the teachers that `options` name.

    Raises `InvalidInput` for what cannot be used: initial weights of a deeper network, of other classes or of another
    normalization; teachers of other classes, for a recipe that does not distill, or none for one that does; with
    `holdout`, weights that may have been trained on the images set aside. Raises what `load_weights` raises.
    """
    begin, learn_from = options.initial, _teachers(options)
    _refuse_unless_usable(options, begin, learn_from)
    loaded = None if begin is None else _loaded(begin)
    loaded_teachers = tuple(map(_loaded, learn_from))
    _refuse_unless_usable(options, loaded, loaded_teachers)
    return loaded, loaded_teachers


def _refuse_unless_usable(
    options: Options, begin: Weights | NamedWeights | None, learn_from: Sequence[Weights | NamedWeights]
) -> None:
    if learn_from or not _resumes(options):
        teachers.refuse_unless_usable(learn_from, options.network, options.recipe)
    if begin is not None:
        initial.refuse_unless_usable(begin, options.network)
    elif options.freeze_body and not _resumes(options):
        raise InvalidInput(
            "--freeze-body trains the last layer on a body that is trained already. Add --initial-weights."
        )
    if options.holdout:
        refuse_seen(learn_from if begin is None else (begin, *learn_from))


def _teachers(options: Options) -> tuple[Weights | NamedWeights, ...]:
    """The teachers asked for; by default all bundled networks of the data set, if the recipe distills."""
    if options.teachers is not None:
        return options.teachers
    if not options.recipe.distill or _resumes(options):  # a run that is resumed knows what they answered
        return ()
    dataset = options.network.dataset.name
    if dataset not in DATASETS:
        raise InvalidInput(
            f"recipe {options.recipe.name} learns from bundled networks, and there are none of {dataset}. "
            "Choose another --recipe."
        )
    networks = [network(model, dataset) for model in MODELS]
    # a depth that was only listed has no weights yet
    return tuple(NamedWeights("bundled", spec) for spec in networks if spec.reference is not None)


def _resumes(options: Options) -> bool:
    return options.resume and options.checkpoint.exists()


def _loaded(given: Weights | NamedWeights) -> Weights:
    if isinstance(given, NamedWeights):
        reading = Reading(given.key, given.shortcut)
        return load_weights(given.network, given.source, given.normalization, reading=reading)
    return given
