"""From finished network folders to a whole release folder: archives, index, SBOM, attestations, checksums.

A pure function of the network folders, the version, the commit and the date, so that parts built elsewhere merge into
the same bytes as one build.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import GateFailed
from ...networks.zoo import in_order
from ..archive import write_archive
from ..contents import FileRecord, NetworkRecord, read_network, record
from ..contents import Origin as Origin
from ..documents.attest import provenance, test_result
from ..documents.sbom import sbom_document
from ..layout import INDEX, PROVENANCE, SBOM, SUMS, TEST_RESULT, archive_name
from ..sums import files_below, write_sums

INDEX_SCHEMA = 1


def assemble(release: Path, origin: Origin) -> None:
    """Complete the folder `release`, in which the network folders stand: everything else is written here.

    Raises OSError, and `GateFailed` where a folder is no network.
    """
    folders = [release / name for name in in_order(path.name for path in release.iterdir() if path.is_dir())]
    networks = [read_network(folder) for folder in folders]
    archives = {}
    for network in networks:
        name = archive_name(network.name, origin.version)
        write_archive(network.folder, network.name, release / name, origin.epoch)
        archives[name] = record(release / name)
    try:
        _describe(release, networks, archives, origin)
        write_json(release / INDEX, index_document(release, networks, origin))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GateFailed(
            f"a network in {release} is not described as this version does it ({type(error).__name__}: {error}).\n"
            "Package it again with this version."
        ) from error
    write_sums(release)


def _describe(release: Path, networks: list[NetworkRecord], archives: Mapping[str, FileRecord], origin: Origin) -> None:
    """SBOM and attestations."""
    write_json(release / SBOM, sbom_document(networks, origin))
    write_json(release / PROVENANCE, provenance(networks, archives, origin))
    write_json(release / TEST_RESULT, test_result(networks, archives, origin))


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
    for name, described in config["models"].items():
        files[name] |= described
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
