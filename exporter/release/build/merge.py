"""`cifar-export merge`: releases of single networks, made on several machines, as the one that a single build makes.

What describes the whole (index, SBOM, attestations, archives) is made anew by the same pure function of the network
folders, version, commit and date. So the parts must agree on these, and on the libraries they were built with.
"""

from __future__ import annotations

import calendar
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import GateFailed, InvalidInput
from ...networks.zoo import in_order
from ...system.files import sha256_bytes
from ...system.outside import read_regular
from ..check.checked import check
from ..check.verify import parse_json
from ..contents import FileRecord, NetworkRecord, read_network
from ..layout import INDEX, measurements_name, release_version
from .assemble import Origin
from .package import RELEASES, Published, published, require_signing
from .publish import publish, workshop
from .shelf import refuse_taken


@dataclass(frozen=True)
class Part:
    """A verified part: what must agree (by name), its networks, and their measurements where it has any beside it."""

    path: Path
    origin: Origin
    agreed: dict[str, str]
    networks: tuple[NetworkRecord, ...]
    measurements: dict[str, Any]


def merge(
    parts: Sequence[Path],
    output: Path = RELEASES,
    *,
    sign_key: Path | None = None,
    progress: Callable[[str], None] = lambda what: None,
    say: Callable[[str], None] = lambda line: None,
) -> Published:
    """Merge the release folders `parts` into one release of their version in `output`.

    Raises `GateFailed` where a part does not verify, parts disagree, or the same network comes with different bytes;
    `InvalidInput` for what is no release, and for a version that is taken or below the newest in `output`.
    """
    began = time.monotonic()
    if sign_key is not None:
        require_signing(sign_key)
    read = []
    for path in parts:
        progress(f"verifying {path}")
        read.append(_read_part(path))
    first = read[0]
    for part in read[1:]:
        for what, value in part.agreed.items():
            if value != first.agreed[what]:
                raise GateFailed(
                    f"the parts differ in {what}: {first.agreed[what]} in {first.path}, {value} in {part.path}.\n"
                    "Build all of them from the same source, with the same versions of everything."
                )
    networks = _networks(read)
    measurements = {name: facts for part in read for name, facts in part.measurements.items() if name in networks}
    refuse_taken(output, first.origin.version)
    with workshop(output, first.origin.version, say) as staging:
        for name in in_order(networks):
            progress(f"copying {name}")
            _copy(networks[name], staging / name)
        progress("assembling and verifying")
        entry = publish(staging, output, first.origin, measurements, sign_key)
    return published(output, first.origin, entry.sha256, entry.networks, began)


def _read_part(path: Path) -> Part:
    result = check(path)
    if result.problems:
        more = f" (the first of {len(result.problems)} problems)" if len(result.problems) > 1 else ""
        raise GateFailed(f"{path} does not verify: {result.problems[0]}{more}. Nothing was merged.")
    if result.kind != "release":
        raise InvalidInput(
            f"{path} is not a release folder, but one {result.kind}. Name the folder that holds {INDEX}."
        )
    index = parse_json(read_regular(path / INDEX))
    try:
        created = calendar.timegm(time.strptime(index["created"], "%Y-%m-%dT%H:%M:%SZ"))
        if not 0 <= created < 1 << 32:  # what gzip and zip can hold
            raise ValueError(f"created {index['created']}")
        origin = Origin(index["version"], index["source"]["commit"], created)
        if release_version(origin.version) != origin.version:
            raise ValueError(f"version {origin.version}, which is written {release_version(origin.version)}")
        networks = tuple(read_network(path / name) for name in in_order(index["networks"]))
        agreed = {"version": origin.version, "commit": str(origin.commit), "created": origin.created}
        for network in networks:
            _agree(path, agreed, "tool", network.config["tool"])
            _agree(path, agreed, "built_with", network.config["built_with"])
    except (KeyError, TypeError, ValueError, InvalidInput) as error:
        raise GateFailed(f"{path / INDEX} lacks what a merge needs ({error!r}). Build that part again.") from error
    if not networks:
        raise InvalidInput(f"{path} holds no network. Leave it out.")
    return Part(path, origin, agreed, networks, _measurements(path, origin.version))


def _agree(path: Path, agreed: dict[str, str], what: str, value: object) -> None:
    text = json.dumps(value, sort_keys=True)
    if agreed.setdefault(what, text) != text:
        raise GateFailed(f"the networks in {path} differ in {what}. Build that part again.")


def _measurements(part: Path, version: str) -> dict[str, Any]:
    """What was measured for `part`; nothing where nobody copied that file along."""
    path = part.resolve().parent / measurements_name(version)
    if not os.path.lexists(path):
        return {}
    try:
        document = json.loads(read_regular(path), parse_constant=_no_number)
    except (ValueError, RecursionError):
        document = None
    networks = document.get("networks") if isinstance(document, dict) else None
    if not isinstance(networks, dict):
        raise InvalidInput(
            f"{path} is damaged: it does not hold the measurements of a release. Copy it again, or delete it."
        )
    return networks


def _no_number(text: str) -> None:
    """For `json.loads`: NaN and infinity are no JSON, and could not be written again."""
    raise ValueError(f"{text} in JSON")


def _networks(parts: Sequence[Part]) -> dict[str, NetworkRecord]:
    found: dict[str, NetworkRecord] = {}
    for part in parts:
        for network in part.networks:
            other = found.setdefault(network.name, network)
            if other.files != network.files:
                changed = sorted(other.files.items() ^ network.files.items(), key=lambda item: item[0])
                raise GateFailed(
                    f"{network.name} has different bytes in {other.folder.parent} and in {part.path} "
                    f"({changed[0][0]}, for one).\nLeave one of them out, or find out why they differ."
                )
    return found


def _copy(network: NetworkRecord, folder: Path) -> None:
    """Copy what was verified, and nothing that took its place since."""
    for name, facts in network.files.items():
        data = (network.folder / name).read_bytes()
        if FileRecord(sha256_bytes(data), len(data)) != facts:
            raise GateFailed(f"{network.folder / name} has changed while it was merged. Nothing was merged.")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
