"""The weights that come with the package: `index.json` and the files it lists. Reading it needs no torch.

In a checkout they stand in `artifacts/weights`; a wheel carries that folder as `cifar_export/bundled`.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, Unavailable, from_os_error
from ..networks.interval import wilson
from ..networks.normalization import normalization_from
from ..networks.zoo import Normalization, find_network, in_order, named
from ..system.checkout import CHECKOUT, PACKAGE
from ..system.files import sha256_file, write_atomically

INDEX = "index.json"
SCHEMA = 2
"""Schema 1, which is read as well, has no `plan`, `runs_evaluated` and `top1_interval`."""


@dataclass(frozen=True)
class BundledEntry:
    """One line of the index. Law: `BundledEntry.from_dict(entry.as_dict()) == entry`.

    `network` is a name that `zoo.named` knows; `file` a plain file name beside the index, `sha256` its digest.
    `metrics` holds at least `top1` and `top5`, percent on the 10,000 test images. `below_reference`: top-1 is below
    what the seed publishes for this network (`NetworkSpec.reference`), False where it publishes nothing. `provenance`
    says where, when and with what it was trained. `plan`: the file in `artifacts/plans` of the run's plan, None where
    there was none. `runs_evaluated`: how many runs of this network were scored on the test set for plans written before
    them, this one included; None where nobody counted.
    """

    network: str
    model: str
    dataset: str
    file: str
    sha256: str
    normalization: Normalization
    recipe: dict[str, Any]
    seed: int | None
    metrics: dict[str, Any]
    below_reference: bool
    provenance: dict[str, Any] = field(default_factory=dict)
    plan: str | None = None
    runs_evaluated: int | None = None

    @property
    def top1(self) -> float:
        """Top-1 accuracy in percent on the test images."""
        return float(self.metrics["top1"])

    @property
    def top5(self) -> float:
        """Top-5 accuracy in percent on the test images."""
        return float(self.metrics["top5"])

    @property
    def top1_interval(self) -> tuple[float, float]:
        """The 95 % interval of top-1 by Wilson, low and high, in percent to two places."""
        images = self.metrics.get("images", named(self.network).dataset.test_images)
        low, high = wilson(self.top1, images)
        return round(low, 2), round(high, 2)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of the index, where the interval is written beside it."""
        return asdict(self) | {"normalization": self.normalization.as_dict()}

    @classmethod
    def from_dict(cls, document: Any) -> BundledEntry:
        """Check and read the JSON object of the index. Raises `ValueError` naming what is wrong with it."""
        if problem := _problem(document):
            raise ValueError(problem)
        return cls(**{**document, "normalization": normalization_from(document["normalization"])})


def bundled_folder() -> Path:
    """Find the folder with the index: inside an installed package, else in the checkout around it."""
    installed = PACKAGE / "bundled"
    return installed if (installed / INDEX).is_file() else CHECKOUT / "artifacts" / "weights"


def bundled_entries(folder: Path | None = None) -> dict[str, BundledEntry]:
    """Read the index of `folder` (default: the package's own), by network name, in the zoo's order.

    Raises `Unavailable` where the index is missing or damaged: then the installation is.
    """
    index = (folder or bundled_folder()) / INDEX
    try:
        entries = _parse(index.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise Unavailable(
            f"the index of bundled weights {index} can't be used: {reason}.\n"
            "Install cifar-export again, or restore that file from version control."
        ) from error
    return {name: entries[name] for name in in_order(entries)}


def add_to_index(folder: Path, entry: BundledEntry) -> None:
    """Put `entry` into the index of `folder`, in place of an older one of the same network, whose file is deleted.

    The file must already stand in `folder`. The index is replaced atomically and sorted by the zoo's order; only then
    does the superseded file go, so that at every moment each listed file exists. A missing index is begun.
    Raises `InvalidInput` where the entry is inconsistent or its file is missing or has another sha256.
    """
    try:
        checked = BundledEntry.from_dict(entry.as_dict())
    except ValueError as error:
        raise InvalidInput(f"cannot add to {folder / INDEX}: {error}.") from error
    path = folder / checked.file
    try:
        found = sha256_file(path)
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error
    if found != checked.sha256:
        raise InvalidInput(f"cannot add {path} to the index: its sha256 is {found}, the entry says {checked.sha256}.")
    entries = bundled_entries(folder) if (folder / INDEX).exists() else {}
    superseded = entries.get(checked.network)
    entries[checked.network] = checked
    listed = [entries[name] for name in in_order(entries)]
    ordered = [one.as_dict() | {"top1_interval": list(one.top1_interval)} for one in listed]
    text = json.dumps({"schema": SCHEMA, "weights": ordered}, indent=2, sort_keys=True, allow_nan=False) + "\n"
    write_atomically(folder / INDEX, text.encode())
    if superseded and superseded.file not in {other.file for other in entries.values()}:
        (folder / superseded.file).unlink(missing_ok=True)


def _parse(data: bytes) -> dict[str, BundledEntry]:
    document = json.loads(data)
    schema, items = (document.get("schema"), document.get("weights")) if isinstance(document, dict) else (None, None)
    if schema not in (1, SCHEMA) or not isinstance(items, list):
        raise ValueError(f"it is not an index of schema 1 or {SCHEMA} with a list of weights")
    entries: dict[str, BundledEntry] = {}
    for item in items:
        entry = _entry(item, schema)
        if entry.network in entries:
            raise ValueError(f"{entry.network} is listed twice")
        entries[entry.network] = entry
    return entries


def _entry(item: Any, schema: int) -> BundledEntry:
    """Read an entry as the index has it: with its interval, or as schema 1 had it, with less."""
    if not isinstance(item, dict):
        return BundledEntry.from_dict(item)  # which says what is wrong
    if schema == 1:
        return BundledEntry.from_dict({**item, "plan": None, "runs_evaluated": None})
    entry = BundledEntry.from_dict({key: value for key, value in item.items() if key != "top1_interval"})
    if item.get("top1_interval") != list(entry.top1_interval):
        raise ValueError(f"{entry.network} has a wrong top1_interval")
    return entry


def _problem(document: object) -> str:
    """Say what keeps `document` from being an entry; "" where nothing does. The normalization is checked elsewhere."""
    name = document.get("network") if isinstance(document, dict) else None
    spec = find_network(name) if isinstance(name, str) else None
    if not isinstance(document, dict) or spec is None:
        return f"an entry names no known network ({name!r})"
    known = {entry_field.name for entry_field in fields(BundledEntry)}
    if set(document) != known:
        return f"{name} has missing or unknown fields: {', '.join(sorted(set(document) ^ known))}"
    metrics = document["metrics"]
    checks = {
        "model": document["model"] == spec.model.name,
        "dataset": document["dataset"] == spec.dataset.name,
        "file (not a plain file name)": _is_plain_name(document["file"]),
        "sha256 (not 64 hex digits)": re.fullmatch("[0-9a-f]{64}", str(document["sha256"])) is not None,
        "recipe (not an object)": isinstance(document["recipe"], dict),
        "seed (not an integer)": document["seed"] is None or type(document["seed"]) is int,
        "metrics (no top1 and top5 in percent)": isinstance(metrics, dict)
        and all(_is_percent(metrics.get(key)) for key in ("top1", "top5"))
        and _is_count(metrics.get("images", 1)),
        "below_reference (neither true nor false)": isinstance(document["below_reference"], bool),
        "provenance (not an object)": isinstance(document["provenance"], dict),
        "plan (not a plain file name)": document["plan"] is None or _is_plain_name(document["plan"]),
        "runs_evaluated (not a count)": document["runs_evaluated"] is None or _is_count(document["runs_evaluated"]),
    }
    wrong = [what for what, right in checks.items() if not right]
    return f"{name} has a wrong {wrong[0]}" if wrong else ""


def _is_plain_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value) is not None


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_percent(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100
