"""How a hostile case is declared."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Make = Callable[[Path], Path | None]

NETWORK = "cifar10_resnet20"
ARCHIVE = f"{NETWORK}-1.0.0.tar.gz"


@dataclass(frozen=True)
class Case:
    """`make` changes the release folder that it is given and returns what to verify in place of the release.

    `says` is part of a problem that must be named; `alone`: and no other problem is.
    """

    name: str
    make: Make
    says: str
    alone: bool = True


def collector(cases: list[Case]) -> Callable[..., Callable[[Make], Make]]:
    """A decorator that declares a case by the function that makes it."""

    def case(says: str, *, alone: bool = True) -> Callable[[Make], Make]:
        def declare(make: Make) -> Make:
            cases.append(Case(make.__name__, make, says, alone))
            return make

        return declare

    return case


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def described(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def rewrite_sums(folder: Path) -> None:
    """Write SHA256SUMS anew over all that stands in `folder`, as somebody would who hides a change."""
    names = [name for name in files_below(folder) if name not in ("SHA256SUMS", "model.sig")]
    text = "".join(f"{described(folder / name)['sha256']}  {name}\n" for name in names)
    (folder / "SHA256SUMS").write_text(text, newline="\n")


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    """Change a document in place."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def reseal(release: Path) -> None:
    """Make all checksums in a release right again, and the digests and sizes in index.json."""

    def refresh(index: Any) -> None:
        for name, entry in index["files"].items():
            entry |= described(release / name)
        for network, entry in index["networks"].items():
            for name in files_below(release / network):
                entry["files"].setdefault(name, {}).update(described(release / network / name))

    for config in release.glob("*/config.json"):
        rewrite_sums(config.parent)
    edit_json(release / "index.json", refresh)
    rewrite_sums(release)
