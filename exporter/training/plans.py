"""Plans of runs: what was decided before a network was trained for the package (docs/protocol.md).

A plan is a tracked file of `artifacts/plans`. Beside them `evaluated.jsonl` lists the runs that were scored on the test
set for it, whether or not they were good enough to be bundled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, from_os_error
from ..networks.zoo import find_network
from ..system.files import write_atomically
from .recipe import PRESETS

SCHEMA = 1
EVALUATED = "evaluated.jsonl"
_TYPES: dict[str, Any] = {"network": str, "recipe": str, "epochs": int, "seed": int, "reason": str, "written": str}
_OPTIONAL = {"initial", "teachers"}


@dataclass(frozen=True)
class Plan:
    """One run of one network. `initial` and `teachers` are sha256 of weights; without them it starts from random ones.

    `written`: "before" the run or "afterwards". `reason`: why this recipe and length, in sentences.
    """

    network: str
    recipe: str
    epochs: int
    seed: int
    reason: str
    written: str
    initial: str | None = None
    teachers: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The name its file must have, so that no two plans are of the same run."""
        return _file_name(self.network, self.recipe, self.epochs, self.seed)


def read_plan(path: Path) -> Plan:
    """Read a plan. Raises `InvalidInput` for a file that is missing, no plan of schema 1, or named otherwise."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is no plan: {error}.") from error
    if problem := _problem(document):
        raise InvalidInput(f"{path} is no plan: {problem}.\ndocs/schemas/plan-1.json describes one.")
    known = {key: value for key, value in document.items() if key != "schema"}
    plan = Plan(**{**known, "teachers": tuple(known.get("teachers", ()))})
    if path.name != plan.file:
        raise InvalidInput(f"{path} is the plan of another run: rename it {plan.file}.")
    return plan


def plan_of(start: Mapping[str, Any], folder: Path) -> Plan:
    """Find in `folder` the plan of the run whose log begins with `start`.

    Raises `InvalidInput` where there is none, or where the run did something else than its plan says.
    """
    recipe = start["recipe"]
    name = _file_name(start["network"], recipe["name"], recipe["epochs"], start["seed"])
    if not (folder / name).is_file():
        raise InvalidInput(
            f"no plan of this run: {folder / name} is missing.\nWrite plans before runs (docs/protocol.md)."
        )
    plan = read_plan(folder / name)
    wrong = sorted(
        key
        for key, value in (PRESETS[plan.recipe].as_dict() | {"epochs": plan.epochs}).items()
        if recipe.get(key) != value
    )
    initial = (start.get("initial") or {}).get("sha256")
    teachers = tuple(teacher["sha256"] for teacher in start.get("teachers") or ())
    wrong += [] if initial == plan.initial else ["initial weights"]
    wrong += [] if teachers == plan.teachers else ["teachers"]
    if wrong:
        raise InvalidInput(f"the run did not follow {folder / name}: it has other {', '.join(wrong)}.")
    return plan


def evaluated(folder: Path) -> list[dict[str, Any]]:
    """List the runs that were scored for a plan of `folder`, the first one first; none without the file.

    Each has `network`, `plan` (a file name), `written`, `sha256`, `top1`, `top5`, `images` and `bundled`. Raises
    `InvalidInput` for a damaged file.
    """
    path = folder / EVALUATED
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error
    except ValueError as error:
        raise InvalidInput(f"{path} is damaged: {error}. Restore it from version control.") from error


def note_evaluated(folder: Path, run: dict[str, Any]) -> None:
    """Add `run` to the list, once for each sha256 and plan."""
    runs = evaluated(folder)
    if not any((one["plan"], one["sha256"]) == (run["plan"], run["sha256"]) for one in runs):
        lines = [json.dumps(one, allow_nan=False, sort_keys=True) + "\n" for one in [*runs, run]]
        write_atomically(folder / EVALUATED, "".join(lines).encode())


def _file_name(network: str, recipe: str, epochs: int, seed: int) -> str:
    return f"{network}-{recipe}-{epochs}-seed{seed}.json"


def _problem(document: object) -> str:
    """Say what keeps `document` from being a plan; "" where nothing does."""
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        return f"it is not an object of schema {SCHEMA}"
    keys = set(document) - {"schema"}
    if not set(_TYPES) <= keys <= set(_TYPES) | _OPTIONAL:
        return f"missing or unknown keys: {', '.join(sorted((set(_TYPES) ^ keys) - _OPTIONAL))}"
    wrong = [key for key, kind in _TYPES.items() if type(document[key]) is not kind]
    if not wrong:
        initial, teachers = document.get("initial"), document.get("teachers", [])
        checks = {
            "network": find_network(document["network"]) is not None,
            "recipe": document["recipe"] in PRESETS,
            "epochs": document["epochs"] >= 1,
            "reason": document["reason"].strip() != "",
            "written": document["written"] in ("before", "afterwards"),
            "initial": initial is None or _is_sha256(initial),
            "teachers": isinstance(teachers, list) and all(map(_is_sha256, teachers)),
        }
        wrong = [key for key, right in checks.items() if not right]
    return f"a wrong {wrong[0]}" if wrong else ""


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
