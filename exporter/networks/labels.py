"""A data set that is known by its labels alone: a text file with one class a line, in the order of the logits."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import InvalidInput, from_os_error
from .zoo import DATASETS, DatasetSpec, Normalization

MOST = 10_000
_LONGEST = 200  # characters of a label
_BYTES = 4 * MOST * _LONGEST
# Until somebody says how his pixels are to be normalized: to -1..1. Only untrained weights may use it.
_UNKNOWN = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def read_labels(path: Path) -> DatasetSpec:
    """The data set whose classes `path` lists, UTF-8; it is called as the file is, without the suffix.

    Its name has letters, digits, `-` and `_` alone, and any other character becomes `-`. Raises `InvalidInput` for a
    file that is no such list: fewer than two labels, two that are equal, empty lines between them, or what is no text.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_BYTES + 1)
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error
    try:
        lines = data[:_BYTES].decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is no text in UTF-8. Write one label a line.") from None
    labels = [line.strip() for line in lines]
    while labels and not labels[-1]:
        labels.pop()
    if len(labels) < 2:
        raise InvalidInput(f"{path} has {len(labels)} label(s). Write two or more, one a line, as the logits stand.")
    if len(labels) > MOST or len(data) > _BYTES:
        raise InvalidInput(f"{path} has more than {MOST:,} labels. Give the list of classes.")
    seen: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        if not _is_label(label):
            raise InvalidInput(f"{path}, line {number}: {label!r:.60} is no label. Write one a line.")
        if label in seen:
            raise InvalidInput(f"{path}: lines {seen[label]} and {number} are both {label!r:.60}. Name classes apart.")
        seen[label] = number
    return DatasetSpec(_name(path), _name(path), tuple(labels), _UNKNOWN)


def require_labels(labels: tuple[str, ...], where: str) -> tuple[str, ...]:
    """`labels`. Raises `InvalidInput`, naming `where` they stand, for what cannot be the labels of a network."""
    if not 2 <= len(labels) <= MOST:
        raise InvalidInput(f"{where}: {len(labels):,} labels. A network tells 2 to {MOST:,} classes apart.")
    wrong = next((label for label in labels if not _is_label(label)), None)
    if wrong is not None:
        raise InvalidInput(f"{where}: {wrong!a:.60} is no label: it is empty, too long or no readable text.")
    if len(set(labels)) < len(labels):
        raise InvalidInput(f"{where}: a label stands there twice. Name classes apart.")
    return labels


def _is_label(label: str) -> bool:
    return bool(label) and label.isprintable() and len(label) <= _LONGEST


def _name(path: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-")
    if not name:
        raise InvalidInput(f"{path}: the network is called as this file is; give it a name of letters and digits.")
    if name in DATASETS:
        raise InvalidInput(f"{path}: {name} is another data set. Give the file another name.")
    return name
