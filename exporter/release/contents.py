"""A finished network folder as data: what the index, the SBOM, the attestations and a merge are made of."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import GateFailed, InvalidInput
from ..networks.zoo import DATASETS, model
from ..system.files import sha256_file
from ..system.outside import read_regular
from .layout import CONFIG, PARITY
from .sums import files_below

CONFIG_SCHEMA = 3
CONFIG_SCHEMAS = (1, 2, CONFIG_SCHEMA)
"""What is read: before 2 there were no files in reduced precision, before 3 none in further formats."""


@dataclass(frozen=True)
class Origin:
    """What a release says of its making: PEP 440 version, git commit (None outside a checkout), seconds since 1970."""

    version: str
    commit: str | None
    epoch: int

    @property
    def created(self) -> str:
        """The date in ISO 8601, UTC."""
        return datetime.datetime.fromtimestamp(self.epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class FileRecord:
    """A file's digest (hex) and size."""

    sha256: str
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"sha256": self.sha256, "bytes": self.bytes}


def record(path: Path) -> FileRecord:
    """Digest and size of the file at `path`. Raises OSError."""
    return FileRecord(sha256_file(path), path.stat().st_size)


@dataclass(frozen=True)
class NetworkRecord:
    """A network folder: its `config.json` and `parity.json`, and all its files by relative path, SHA256SUMS included.

    `config` has these keys (docs/releases.md): schema, network, model, dataset, version, tool, labels, normalization,
    weights, accuracy, models, golden, reduced (since schema 2), further (since
    schema 3), built_with.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    parity: dict[str, Any]
    files: dict[str, FileRecord]

    @property
    def depth(self) -> int:
        """Number of weighted layers, by the model's name."""
        return model(self.config["model"]).depth


def title_of(dataset: str) -> str:
    """What a data set is called in sentences; one of somebody's own as in the network's name."""
    return DATASETS[dataset].title if dataset in DATASETS else dataset


def read_network(folder: Path) -> NetworkRecord:
    """Read a network folder that was written here or verified before. Raises `GateFailed` where it is none."""
    documents = []
    for name in (CONFIG, PARITY):
        try:
            document = json.loads(read_regular(folder / name))
        except (InvalidInput, ValueError, RecursionError) as error:
            raise GateFailed(f"{folder} is not a network of a release: {name} can't be read ({error}).") from error
        documents.append(document if isinstance(document, dict) else {})
    config, parity = documents
    if config.get("schema") not in CONFIG_SCHEMAS or not isinstance(config.get("network"), str):
        known = ", ".join(map(str, CONFIG_SCHEMAS[:-1])) + f" or {CONFIG_SCHEMA}"
        raise GateFailed(f"{folder / CONFIG} does not describe a network by schema {known}.")
    files = {name: record(folder / name) for name in files_below(folder)}
    return NetworkRecord(config["network"], folder, config, parity, files)
