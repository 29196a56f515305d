"""Findings as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

SCHEMA = 1
Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Check:
    """One finding. `fix` says what to do about it; an "ok" needs none.

    "problem": something that this machine should be able to do does not work. "note": it lacks something.
    """

    name: str
    status: Status
    detail: str
    fix: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in the order they are shown, and the versions of what is installed (None: not installed)."""

    checks: tuple[Check, ...]
    versions: dict[str, str | None]

    @property
    def ok(self) -> bool:
        """Whether no finding is a problem."""
        return not self.of("problem")

    def of(self, status: Status) -> tuple[Check, ...]:
        """The findings of that status."""
        return tuple(check for check in self.checks if check.status == status)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "ok": self.ok,
            "checks": [asdict(check) for check in self.checks],
            "versions": self.versions,
        }
