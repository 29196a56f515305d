"""The names of a network's classes, in index order."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from ..errors import InvalidInput
from ..system.outside import read_regular

MAX_LABELS = 1000
MAX_LABEL_LENGTH = 100
MAX_LABELS_BYTES = MAX_LABELS * 4 * (MAX_LABEL_LENGTH + 2)


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels in a text file, UTF-8, one a line, in index order. Empty lines at the end do not count.

    Raises `InvalidInput` for fewer than two, an empty or doubled one, one that a terminal could not show, and for a
    file that is no such text.
    """
    try:
        text = read_regular(path, MAX_LABELS_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: labels are UTF-8 text, one a line; this is not.") from error
    labels = tuple(line.strip() for line in text.rstrip().splitlines())
    return require_labels(labels, str(path))


def require_labels(labels: tuple[str, ...], where: str) -> tuple[str, ...]:
    """`labels`. Raises `InvalidInput`, naming `where` they stand, for what cannot be the labels of a network."""
    if not 2 <= len(labels) <= MAX_LABELS:
        raise InvalidInput(f"{where}: {len(labels):,} labels. A network tells 2 to {MAX_LABELS:,} classes apart.")
    seen: set[str] = set()
    for number, label in enumerate(labels, 1):
        if not label or len(label) > MAX_LABEL_LENGTH or any(unicodedata.category(c)[0] == "C" for c in label):
            shown = ascii(label[:20])
            raise InvalidInput(f"{where}: label {number}, {shown}, is empty, too long or no readable text.")
        if label in seen:
            raise InvalidInput(f"{where}: the label {label!r} stands there twice. Labels are unique.")
        seen.add(label)
    return labels
