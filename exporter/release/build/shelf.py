"""The parent folder of releases: its `index.json` lists them, sorted by version, and never goes backwards.

The folders come first, the index follows: a release is what stands there complete and intact, listed or not. So a
build that dies between its rename and the index is healed by the next one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from ...errors import InvalidInput
from ...networks.zoo import in_order, parts_of
from ...system.files import sha256_file, staged
from ...system.outside import read_regular
from ..check.verify import verify
from ..layout import INDEX, SUMS, release_version

SCHEMA = 1


@dataclass(frozen=True)
class Listed:
    """A line of the index: version (PEP 440, normalized), hex sha256 of the release's SHA256SUMS, its networks."""

    version: str
    sha256: str
    networks: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"version": self.version, "sha256": self.sha256, "networks": list(self.networks)}


def read_shelf(output: Path) -> list[Listed]:
    """Read the index of `output`, oldest release first; nothing where there is no index. Raises `InvalidInput`."""
    path = output / INDEX
    if not os.path.lexists(path):
        return []
    try:
        document = json.loads(read_regular(path))
    except (ValueError, RecursionError):
        raise _damaged(path, "it is not JSON") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise _damaged(path, f"it is not a list of releases of schema {SCHEMA}")
    items = document.get("releases")
    listed = [_entry(path, item) for item in (items if isinstance(items, list) else [None])]
    if len({entry.version for entry in listed}) < len(listed):
        raise _damaged(path, "it lists a version twice")
    return _sorted(listed)


def _entry(path: Path, item: object) -> Listed:
    if isinstance(item, dict) and set(item) == {"version", "sha256", "networks"}:
        version, sha256, networks = item["version"], item["sha256"], item["networks"]
        plain = isinstance(version, str) and isinstance(sha256, str) and isinstance(networks, list)
        if plain and re.fullmatch("[0-9a-f]{64}", sha256) and all(map(parts_of, map(str, networks))):
            try:
                if release_version(version) == version:
                    return Listed(version, sha256, tuple(networks))
            except InvalidInput as error:
                raise _damaged(path, str(error)) from None
    raise _damaged(path, "it has an entry that is not a release")


def _damaged(path: Path, why: str) -> InvalidInput:
    return InvalidInput(f"{path} is damaged: {why}. Delete it; the next build lists the releases that are there.")


def _sorted(listed: Iterable[Listed]) -> list[Listed]:
    return sorted(listed, key=lambda entry: Version(entry.version))


def refuse_taken(output: Path, version: str) -> None:
    """Raise `InvalidInput` where `version` exists, was listed once, or is below the newest release of `output`."""
    if (output / version).is_symlink() or (output / version).exists():
        raise InvalidInput(
            f"{output / version} exists, and a release is never overwritten. Choose another --version or --output."
        )
    listed = read_shelf(output)
    if any(entry.version == version for entry in listed):
        raise InvalidInput(
            f"{output / INDEX} lists {version}, but its folder is gone, and a version is never made twice.\n"
            "Choose another --version or --output."
        )
    same = [entry.version for entry in listed if Version(entry.version) == Version(version)]
    if same:
        raise InvalidInput(
            f"{version} is the same version as {same[0]} (PEP 440), which {output} has. Choose another --version."
        )
    if listed and Version(version) < Version(listed[-1].version):
        raise InvalidInput(
            f"{version} is lower than {listed[-1].version}, the newest release in {output}, and releases do not go "
            "backwards.\nChoose a higher --version, or another --output."
        )


def heal(output: Path, say: Callable[[str], None]) -> None:
    """List what a build that died could not list any more: intact releases that stand in `output` without a line.

    What is not intact is named to `say` and stays out of the index. Raises what `read_shelf` raises, and for an index
    that cannot be written.
    """
    listed = read_shelf(output)
    known = {entry.version for entry in listed}
    found = []
    for folder in sorted(output.iterdir()):
        if folder.name in known or not _is_release_folder(folder):
            continue
        problems = verify(folder).problems
        entry = None if problems else describe(folder)
        if entry is None or entry.version != folder.name:
            reason = problems[0] if problems else "it is of another version than its name says"
            say(f"note: {folder} is not an intact release ({reason}); it is not listed.")
        else:
            found.append(entry)
    if found:
        _write(output, [*listed, *found])
    for entry in listed:
        sums = output / entry.version / SUMS
        if sums.is_file() and sha256_file(sums) != entry.sha256:
            say(
                f"note: {sums.parent} is not what {INDEX} lists: somebody has changed it. "
                "Check it with `cifar-export verify`."
            )


def _is_release_folder(folder: Path) -> bool:
    return is_version(folder.name) and folder.is_dir() and not folder.is_symlink() and (folder / SUMS).is_file()


def is_version(name: str) -> bool:
    """Whether a release's folder may be called `name`."""
    try:
        return release_version(name) == name
    except InvalidInput:
        return False


def describe(release: Path) -> Listed:
    """The line of a verified release folder."""
    index = json.loads((release / INDEX).read_bytes())
    return Listed(index["version"], sha256_file(release / SUMS), tuple(in_order(index["networks"])))


def add(output: Path, entry: Listed) -> None:
    """List one more release."""
    _write(output, [*read_shelf(output), entry])


def _write(output: Path, listed: Iterable[Listed]) -> None:
    document = {
        "schema": SCHEMA,
        "name": "cifar-export",
        "releases": [entry.as_dict() for entry in _sorted(listed)],
    }
    write_plain(output / INDEX, document)


def write_plain(path: Path, document: Any) -> None:
    """Write JSON to `path` at once, mode 0644 whatever the umask."""
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
    with staged(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.chmod(0o644)
