"""What makes two rows the same row, today and in an earlier benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Key:
    """What a row is of. `subject`: the network's name, or the file's. `threads`: as many as it takes."""

    subject: str
    runtime: str
    precision: str
    input: str
    batch: int
    threads: int

    def __str__(self) -> str:
        return f"{self.subject}, {self.runtime}, {self.precision}, batch {self.batch}"

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Key:
        """That of a row of a JSON document. Raises KeyError and TypeError for what is none."""
        key = cls(**{name.name: row[name.name] for name in fields(cls)})
        hash(key)
        return key
