"""Where weights come from: the package itself, the upstream release, or a file."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, Unavailable
from ..networks.labels import require_labels
from ..networks.normalization import normalization_from
from ..networks.zoo import (
    DATASETS,
    NETWORKS,
    UPSTREAM_NORMALIZATION,
    DatasetSpec,
    NetworkSpec,
    Normalization,
    find_model,
)
from ..networks.zoo import network as network_of
from ..quantization.document import from_document
from ..system.download import cache_folder, download
from ..system.files import sha256_bytes
from ..system.torch_state import plain
from .candidates import choose
from .core import Weights
from .foreign import AS_IT_IS, Reading, fit
from .index import bundled_entries, bundled_folder
from .matching import family
from .naming import names
from .native import SCHEMA
from .reader import document_in, is_safetensors, max_bytes, printable, read_bytes, read_checkpoint, read_safetensors
from .sanity import refuse_insane
from .seeded import random_weights

UPSTREAM_URL = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download/resnet"


def load_weights(
    network: NetworkSpec,
    source: str = "bundled",
    normalization: Normalization | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    reading: Reading = AS_IT_IS,
    seed: int | None = None,
) -> Weights:
    """Load the weights of `network` from `source`: "bundled", "upstream", "random" or the path of a file.

    Random ones are nobody's: for measuring runtimes. `seed` decides them, 0 by default.

    `normalization` overrides what is known about them; metrics, which were measured with theirs, are dropped then.
    `progress` is called with (bytes so far, bytes in all or None) during a download. `reading` says how a file is to
    be read, where it can be in more than one way.

    Raises `InvalidInput` for a file that is not this network, that float32 cannot run or whose normalization is
    unknown, where nothing is bundled, and for a `reading` of what is no file; `Unavailable` without a network or with a
    damaged installation; `GateFailed` where the upstream server sends another file.
    """
    if seed is not None and source != "random":
        raise InvalidInput(f"--seed is for --weights random, not for {source}. Leave it away.")
    if source in ("bundled", "upstream", "random") and reading != AS_IT_IS:
        raise InvalidInput(f"--key and --shortcut are for a file of weights, not for {source} ones. Leave them away.")
    if source == "bundled":
        weights = _bundled(network)
    elif source == "upstream":
        weights = _upstream(network, progress)
    elif source == "random":
        weights = random_weights(network, seed or 0)
        weights = dataclasses.replace(weights, changes=(f"untrained: random numbers of seed {seed or 0}",))
    else:
        return _from_file(Path(source), network, normalization, reading)
    return weights if normalization is None else _renormalized(weights, normalization)


def upstream_url(network: NetworkSpec) -> str:
    """Address of the upstream file of `network`; `CIFAR_EXPORT_UPSTREAM_URL` names another base than GitHub's."""
    base = os.environ.get("CIFAR_EXPORT_UPSTREAM_URL") or UPSTREAM_URL
    return f"{base.rstrip('/')}/{network.upstream_file}"


def _bundled(network: NetworkSpec) -> Weights:
    folder = bundled_folder()
    entry = bundled_entries(folder).get(network.name)
    if entry is None:
        upstream = "`--weights upstream` (downloads published ones), " if network.upstream_sha256 else ""
        raise InvalidInput(
            f"no weights of {network.name} are bundled yet.\n"
            f"Give {upstream}`--weights PATH` (a checkpoint of yours) or `--weights random` (untrained)."
        )
    path = folder / entry.file
    try:
        data = read_bytes(path, max_bytes(network))
        if (found := sha256_bytes(data)) != entry.sha256:
            raise InvalidInput(f"{path} has sha256 {found}, expected {entry.sha256}.")
        weights = _parse(path, data, network, None)
    except InvalidInput as error:  # not the caller's fault: nobody chose that file
        raise Unavailable(
            f"the bundled weights of {network.name} are damaged: {error}\n"
            "Install cifar-export again, or restore that file from version control."
        ) from error
    return dataclasses.replace(
        weights, source="bundled", normalization=entry.normalization, recipe=entry.recipe, metrics=entry.metrics
    )


def _upstream(network: NetworkSpec, progress: Callable[[int, int | None], None] | None) -> Weights:
    if network.upstream_file is None or network.upstream_sha256 is None:
        raise InvalidInput(
            f"pytorch-cifar-models publishes no weights of {network.name}.\n"
            "Give `--weights PATH` (a checkpoint of yours) or `--weights random` (untrained)."
        )
    path = cache_folder() / "upstream" / network.upstream_file
    download(
        upstream_url(network),
        path,
        sha256_prefix=network.upstream_sha256,
        progress=progress,
        max_bytes=max_bytes(network),
        hint=f"or put the file there by hand: {path}",
    )
    data = read_bytes(path, max_bytes(network))
    if not sha256_bytes(data).startswith(network.upstream_sha256):
        raise Unavailable(f"{path} was changed while it was read. Run it again.")
    weights = _parse(path, data, network, UPSTREAM_NORMALIZATION[network.dataset.name])
    return dataclasses.replace(weights, source="upstream")


def _from_file(path: Path, network: NetworkSpec, normalization: Normalization | None, reading: Reading) -> Weights:
    try:
        path = path.expanduser()  # shells leave --weights=~/x alone
    except RuntimeError as error:
        raise InvalidInput(f"no file {path}: {error}") from error
    weights = _parse(path, read_bytes(path, max_bytes(network)), network, normalization, reading)
    try:
        refuse_insane(weights)
    except InvalidInput as error:
        raise InvalidInput(f"cannot use {path}: {error}") from None
    return weights


@plain()
def _parse(
    path: Path,
    data: bytes,
    network: NetworkSpec,
    normalization: Normalization | None,
    reading: Reading = AS_IT_IS,
) -> Weights:
    """Make `Weights` of the bytes of the file at `path`, with `normalization` or what the file says of it."""
    sha256 = sha256_bytes(data)
    document: str | None = None
    content: object
    sorted_names = is_safetensors(data)
    if sorted_names:
        content, document = read_safetensors(path, data)
    else:
        content = read_checkpoint(path, data, max_bytes(network))
    ours = None if document is None else _described(path, document, network)
    try:
        fitted = fit(content, network, reading, ordered=not sorted_names)
    except InvalidInput as error:
        raise InvalidInput(f"cannot load {path} as {network.name}: {printable(str(error))}") from None
    weights = ours or Weights(network, {}, _known_normalization(path, sha256, normalization), "file", sha256)
    weights = dataclasses.replace(
        weights, state=fitted.state, sha256=sha256, changes=fitted.changes, key=fitted.key, renamed=fitted.renamed
    )
    return weights if normalization is None else _renormalized(weights, normalization)


def said_model(path: Path) -> str | None:
    """The model that a file of our weights says it is of; None for a file that does not say."""
    try:
        said = json.loads(document_in(read_bytes(path)) or "{}")["model"]
    except (InvalidInput, ValueError, KeyError, TypeError, RecursionError):
        return None
    return said if isinstance(said, str) and find_model(said) else None


def model_of_weights(path: Path, reading: Reading = AS_IT_IS) -> str:
    """The model whose weights stand in the file at `path`: what it says, else what its convolutions are of.

    Raises `InvalidInput` for a file that cannot be read, and for one of no such network.
    """
    said = said_model(path)
    if said is not None:
        return said
    data = read_bytes(path)
    content: object = read_safetensors(path, data)[0] if is_safetensors(data) else read_checkpoint(path, data)
    try:
        found, _ = names(choose(content, reading.key))
        counted = family(found)
    except InvalidInput as error:
        raise InvalidInput(f"cannot load {path}: {printable(str(error))}") from None
    if counted is None:
        raise InvalidInput(f"{path} holds none of these networks, as far as can be told. Name the network.")
    return f"resnet{6 * counted[0] + 2}"


def said_dataset(path: Path) -> str | DatasetSpec | None:
    """The data set that a file of our weights says it is of: of CIFAR's by name; None for a file that does not say."""
    try:
        document = document_in(read_bytes(path))
        meta = json.loads(document or "{}")
        dataset = dataset_in(meta, normalization_from(meta["normalization"]))
    except (InvalidInput, ValueError, KeyError, TypeError, RecursionError):
        return None  # whoever loads it says what is wrong
    return dataset if isinstance(dataset, DatasetSpec) or dataset in DATASETS else None


def dataset_in(meta: Any, normalization: Normalization) -> str | DatasetSpec:
    """The data set that our metadata names: of CIFAR's by name, one of one's own by its labels.

    Raises ValueError, KeyError, TypeError and `InvalidInput` for what is none.
    """
    name, labels = meta["dataset"], meta.get("labels")
    if labels is None:
        return str(name)
    if name in DATASETS or not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", name, re.ASCII):
        raise ValueError(f"{name!r:.40} is no name of a data set of one's own")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError("its labels are no list of names")
    return DatasetSpec(name, name, require_labels(tuple(labels), "its metadata"), normalization)


def _described(path: Path, document: str, network: NetworkSpec) -> Weights:
    """Read our metadata document: everything but the state. Raises `InvalidInput` if it is of another network."""
    try:
        meta = json.loads(document)
        if meta["schema"] != SCHEMA:
            raise ValueError(f"schema {meta['schema']}, known is {SCHEMA}; a newer cifar-export may read it")
        normalization = normalization_from(meta["normalization"])
        held = network_of(meta["model"], dataset_in(meta, normalization))
        recipe, metrics = meta["recipe"], meta["metrics"]
        grids = from_document(meta["quantization"]) if "quantization" in meta else None
        if not all(part is None or isinstance(part, dict) for part in (recipe, metrics)):
            raise ValueError("recipe or metrics is not an object")
    except (ValueError, KeyError, TypeError, RecursionError, InvalidInput) as error:
        raise InvalidInput(
            f"cannot load {path}: its cifar-export metadata is damaged ({printable(str(error))})."
        ) from error
    if (held.model, held.dataset.labels) != (network.model, network.dataset.labels):
        if held.dataset.name not in DATASETS:
            raise InvalidInput(
                f"{path} holds {held.name}, which tells {held.dataset.classes} classes apart, not {network.name}. "
                f"Ask for `{held.model.name}` without --dataset, or give other weights."
            )
        raise InvalidInput(
            f"{path} holds {held.name}, not {network.name}. "
            f"Ask for `{held.model.name} --dataset {held.dataset.name}`, or give other weights."
        )
    return Weights(network, {}, normalization, "file", "", recipe, metrics, grids=grids)


def _known_normalization(path: Path, sha256: str, given: Normalization | None) -> Normalization:
    """Find the normalization of a foreign checkpoint: as given, or of the upstream file that it is."""
    if given is not None:
        return given
    for spec in NETWORKS.values():
        if sha256 == spec.upstream_sha256:
            return UPSTREAM_NORMALIZATION[spec.dataset.name]
    raise InvalidInput(
        f"{path} does not say which normalization it was trained with, and guessing costs accuracy unseen.\n"
        "Give --mean R,G,B and --std R,G,B of pixels scaled to 0..1, as its training script has them."
    )


def _renormalized(weights: Weights, normalization: Normalization) -> Weights:
    """Return `weights` to be fed with `normalization`; figures measured with another one are dropped."""
    metrics = weights.metrics if normalization == weights.normalization else None
    return dataclasses.replace(weights, normalization=normalization, metrics=metrics)
