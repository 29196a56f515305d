"""Put a verified release, or one network's folder, into a repository of the Hugging Face Hub, by one commit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import GateFailed, InvalidInput, first_line
from ...system.files import sha256_bytes
from ...system.hub import library, put, require_name
from ...system.outside import read_regular
from ..check.checked import check
from ..check.verify import parse_sums
from ..layout import CARD, SIGNATURE, SUMS

REQUIRED = ("license", "library_name", "pipeline_tag", "tags")
"""What the header of a card must say: hubs list and find models by it."""


@dataclass(frozen=True)
class Uploaded:
    """What was uploaded, or would be: `files` have their bytes by path, `cards` the paths of the model cards.

    `commit` is that of the repository which has them now, None where nothing was sent. `sha256` is that of SHA256SUMS.
    """

    repository: str
    version: str
    networks: tuple[str, ...]
    files: dict[str, int]
    cards: tuple[str, ...]
    sha256: str
    commit: str | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "networks": list(self.networks), "cards": list(self.cards)}


def upload(folder: Path, repository: str, *, replace: bool = False, dry_run: bool = False) -> Uploaded:
    """Upload the release, or the one network's folder, in `folder` to the Hub's `repository` ("ORG/NAME").

    It is verified first, and each model card's header is read as the Hub's library reads it. The files go there as they
    are, all in one commit on main, by the login that the library knows; what else is there is an error, or removed by
    that commit with `replace`. With `dry_run` nothing is sent and no server is asked.

    Raises `GateFailed` (not intact, a card that is no good), `InvalidInput` (neither a release nor a network's folder,
    other files there) and `Unavailable` (no library, no login, no such repository, no network).
    """
    require_name(repository)
    library()
    result = check(folder)
    if result.problems:
        more = f" (and {len(result.problems) - 1} more)" if len(result.problems) > 1 else ""
        raise GateFailed(f"{folder} is not intact: {result.problems[0]}{more}. Nothing was uploaded.")
    if result.kind == "archive":
        raise InvalidInput(f"{folder} is an archive. Name a release's folder, or a network's.")
    sums = read_regular(folder / SUMS)
    sha256, digests = sha256_bytes(sums), parse_sums(sums)[0]
    names = [*sorted(digests), SUMS, *([SIGNATURE] if result.signed else [])]
    files = {name: folder / name for name in names}
    cards = _require_cards(folder, digests)
    commit = None
    if not dry_run:
        message = f"{', '.join(result.networks) if result.kind == 'network' else 'release'} {result.version}"
        commit = put(repository, files, {**digests, SUMS: sha256}, message=message, replace=replace)
    sizes = {name: path.stat().st_size for name, path in files.items()}
    return Uploaded(repository, str(result.version), result.networks, sizes, cards, sha256, commit)


def _require_cards(folder: Path, names: Iterable[str]) -> tuple[str, ...]:
    """The model cards among `names`. Raises `GateFailed` where the Hub's library can't read the header of one."""
    cards = tuple(sorted(name for name in names if name.rpartition("/")[2] == CARD))
    for card in cards:
        try:
            _check_header(read_regular(folder / card).decode())
        except ValueError as error:
            raise GateFailed(f"{card} has no header that the Hub takes: {first_line(error)}.") from error
    return cards


def _check_header(card: str) -> None:
    """Raise ValueError unless the YAML header of `card` says what it must, with results that are fractions."""
    from huggingface_hub import ModelCard

    if not card.startswith("---\n"):
        raise ValueError("it does not begin with a line of ---")
    try:
        data: Any = ModelCard(card).data
    except Exception as error:  # of YAML, of the library, of whatever stands in the header
        raise ValueError(f"it can't be read, {first_line(error)}") from error
    missing = [name for name in REQUIRED if not data.get(name)]
    if missing:
        raise ValueError(f"it does not say {', '.join(missing)}")
    for result in data.eval_results or ():
        value = result.metric_value
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise ValueError(f"a result of {value!r} is no fraction")
