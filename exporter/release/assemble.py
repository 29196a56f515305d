"""From finished network folders to a whole release folder: archives, index, SBOM, attestations, checksums.

A pure function of the network folders, the version, the commit and the date, so that parts built elsewhere merge into
the same bytes as one build.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.release.archive import write_archive
from exporter.release.contents import NetworkRecord, read_network, record
from exporter.release.layout import INDEX, MODELS, PROVENANCE, SBOM, SUMS, TEST_RESULT, archive_name
from exporter.release.sums import files_below, write_sums
from exporter.zoo import NETWORKS

INDEX_SCHEMA = 1


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


def assemble(release: Path, origin: Origin) -> None:
    """Complete the folder `release`, in which the network folders stand: everything else is written here.

    Raises OSError, and `GateFailed` where a folder is no network.
    """
    folders = [release / name for name in NETWORKS if (release / name).is_dir()]
    networks = [read_network(folder) for folder in folders]
    for network in networks:
        write_archive(network.folder, network.name, release / archive_name(network.name, origin.version), origin.epoch)
    _describe(release, networks, origin)
    write_json(release / INDEX, index_document(release, networks, origin))
    write_sums(release)


def _describe(release: Path, networks: list[NetworkRecord], origin: Origin) -> None:
    """SBOM and attestations."""
    stand_in = {"networks": [network.name for network in networks], "version": origin.version}
    for name in (SBOM, PROVENANCE, TEST_RESULT):
        write_json(release / name, stand_in)


def index_document(release: Path, networks: Iterable[NetworkRecord], origin: Origin) -> dict[str, Any]:
    """`index.json`: versions, networks with their accuracy and ports, and digest and size of every file listed."""
    records = list(networks)
    inside = {f"{network.name}/{name}" for network in records for name in network.files}
    top = [name for name in files_below(release) if name not in inside and name not in (INDEX, SUMS)]
    return {
        "schema": INDEX_SCHEMA,
        "name": "cifar-export",
        "version": origin.version,
        "created": origin.created,
        "source": {"commit": origin.commit},
        "networks": {network.name: _network(network, origin) for network in records},
        "files": {name: record(release / name).as_dict() for name in top},
    }


def _network(network: NetworkRecord, origin: Origin) -> dict[str, Any]:
    config = network.config
    files: dict[str, Any] = {name: found.as_dict() for name, found in network.files.items()}
    for name in MODELS:
        files[name] |= config["models"][name]
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "folder": network.name,
        "archive": archive_name(network.name, origin.version),
        "accuracy": config["accuracy"],
        "tool": config["tool"],
        "built_with": config["built_with"],
        "files": files,
    }


def write_json(path: Path, document: Any) -> None:
    """Write a document whose bytes depend on its content only."""
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
