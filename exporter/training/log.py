"""The log of a run: JSON lines that survive an interruption without a gap or a double epoch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..system.files import write_atomically
from ..system.outside import read_regular

CONDITIONS = ("hardware", "processes", "precision", "versions")
"""What a `start` says of the machine that trains from there on, as far as a run is described by it."""


def _line(event: dict[str, Any]) -> str:
    # NaN is no JSON; a loss that is not finite never gets here
    return json.dumps(event, allow_nan=False) + "\n"


class Log:
    """The events so far (`events`), and the file at `path` that holds one line for each.

    Event kinds: `start` (also after an interruption: what is trained on what), `epoch`, `end`. The file is written
    anew each time, from the events that a checkpoint kept on: no line is there twice, and none by half.
    """

    def __init__(self, path: Path, events: Iterable[dict[str, Any]] = ()) -> None:
        self.path = path
        self.events = list(events)

    def write(self) -> None:
        """Make the file say what `events` says, all at once. Raises `InvalidInput` or `Unavailable` where it can't."""
        write_atomically(self.path, "".join(map(_line, self.events)).encode())


def parts(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """List what trained which part of a run, one dict for each start that completed epochs, in order.

    Each has `epochs`, `seconds` and the start's `CONDITIONS`. A run that was never interrupted has one part.
    """
    found: list[dict[str, Any]] = []
    for event in events:
        if event["event"] == "start":
            found.append({"epochs": 0, "seconds": 0.0, **{key: event[key] for key in CONDITIONS}})
        elif event["event"] == "epoch":
            found[-1]["epochs"] += 1
            found[-1]["seconds"] += event["seconds"]
    return [part for part in found if part["epochs"]]


def differ(found: Sequence[dict[str, Any]]) -> bool:
    """Whether the parts of a run were trained under other conditions."""
    return any(part[key] != found[0][key] for part in found for key in CONDITIONS)


def read(path: Path) -> list[dict[str, Any]]:
    """Read the events of a log file. Raises `InvalidInput` for a file that is missing or no log."""
    try:
        events = [json.loads(line) for line in read_regular(path).decode().splitlines()]
    except ValueError as error:
        raise InvalidInput(f"{path} is not the log of a training run: {error}.") from error
    if not events or not all(isinstance(event, dict) and "event" in event for event in events):
        raise InvalidInput(f"{path} is not the log of a training run.")
    return events
