"""What a user names: a model, a network, an exported file, or the folder of a run or of a released network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidInput
from ..networks.zoo import DEPTHS, MODELS, NETWORKS, DatasetSpec, find_model, find_network

if TYPE_CHECKING:
    from ..formats import FileFacts

WEIGHTS = ("weights.safetensors", "model.safetensors")
"""In the folder of a run, and in that of a network of a release."""


@dataclass(frozen=True)
class Called:
    """What a name says. `model` and `dataset` are None where it does not say.

    `weights`: the file of weights in a folder that was named. `file`: an exported file that was named, `facts` what it
    says of itself.
    """

    model: str | None
    dataset: str | DatasetSpec | None = None
    weights: Path | None = None
    file: Path | None = None
    facts: FileFacts | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether it is a file that carries no metadata of ours."""
        return self.facts is not None and self.facts.metadata is None


def require_name(name: str) -> None:
    """Raise `InvalidInput` unless there is such a model or network, or anything at such a path."""
    if find_model(name) or find_network(name) or _is_there(Path(name)):
        return
    known = f"Models: {', '.join(MODELS)}, and any other {DEPTHS}; networks: {next(iter(NETWORKS))} and so on"
    raise InvalidInput(f"no model {name!r}, and no network, file or folder of that name. {known}.")


def called(name: str) -> Called:
    """What `name` says. Raises `InvalidInput` for a folder that is no run's or network's, and a file of no format."""
    require_name(name)
    if find_model(name):
        return Called(name)
    network = find_network(name)
    if network is not None:
        return Called(network.model.name, network.dataset.name)
    path = Path(name)
    return _of_folder(path) if path.is_dir() else _of_file(path)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def _of_folder(folder: Path) -> Called:
    from ..weights.sources import said_dataset, said_model

    file = _weights_in(folder)
    if file is None:
        inside = sorted(entry.name for entry in folder.iterdir() if _weights_in(entry))
        if inside:
            raise InvalidInput(f"{folder} holds several networks. Name one: {folder / inside[0]}.")
        raise InvalidInput(f"{folder} is neither a run nor a network of a release: it has no {' or '.join(WEIGHTS)}.")
    model = said_model(file)
    if model is None:
        raise InvalidInput(f"{file} does not say which network it is of. Name the model and add --weights {file}.")
    return Called(model, said_dataset(file), weights=file)


def _weights_in(folder: Path) -> Path | None:
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def _of_file(path: Path) -> Called:
    from ..exporting.subject import require_trusted
    from ..formats import format_of

    if path.suffix.lower() in (".gz", ".xz", ".bz2", ".zip") and not path.name.endswith(".pt"):
        raise InvalidInput(f"{path} is packed. Unpack it, and name the file that was inside.")
    spec = format_of(path)
    require_trusted(path, trust=True)  # nothing in it runs here
    facts = spec.load().inspect(path)
    if facts.metadata is None:
        return Called(None, file=path, facts=facts)
    dataset = _dataset_in(facts.metadata)
    return Called(str(facts.metadata.get("model")), dataset, file=path, facts=facts)


def _dataset_in(metadata: dict[str, object]) -> str | DatasetSpec:
    """The data set that a file's metadata names."""
    from ..networks.normalization import normalization_from
    from ..networks.zoo import DATASETS
    from ..weights.sources import dataset_in

    name = metadata.get("dataset")
    if isinstance(name, str) and name in DATASETS:
        return name
    try:
        return dataset_in(metadata, normalization_from({key: metadata.get(key) for key in ("mean", "std")}))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"the file's metadata is damaged ({error}). Export it again.") from error
