"""Runs commands whose calls to the system fail at a chosen point: the other end of `driver.py`."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.paths import ROOT

HERE = Path(__file__).parent
PATIENCE_S = 120.0
KILL = -1
"""In the place of an errno: the process ends there."""


@dataclass(frozen=True)
class Answer:
    """How a command ended: exit status (-9: it was killed), what it said, the calls that changed something."""

    code: int
    said: str
    calls: tuple[str, ...]


class Machine:
    """One process that answers orders."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, arguments: list[object], folder: Path, environment: dict[str, str], *, number: int = 0, error: int = 0
    ) -> Answer:
        """Run the command line; call `number` (from 1) that changes something below `folder` ends with `error`."""
        assert self._process.stdin
        assert self._process.stdout
        order = {"arguments": list(map(str, arguments)), "folder": str(folder), "environment": environment}
        self._process.stdin.write(json.dumps({**order, "number": number, "error": error}) + "\n")
        self._process.stdin.flush()
        assert select.select([self._process.stdout], [], [], PATIENCE_S)[0], "no answer"
        answer = json.loads(self._process.stdout.readline())
        return Answer(answer["code"], answer["said"], tuple(answer["calls"]))


def compiler() -> str | None:
    """A C compiler, where the system can preload what it makes."""
    return (shutil.which("gcc") or shutil.which("cc")) if sys.platform == "linux" else None


@contextmanager
def machine(folder: Path, official: dict[str, str], templates: Path, *, trains: bool) -> Iterator[Machine]:
    """Compile the shim into `folder`, and start the process; the rest is for `driver.prepare`."""
    shim = folder / "shim.so"
    compiled = [str(compiler()), "-shared", "-fPIC", "-O1", "-Wall", "-o", str(shim), str(HERE / "shim.c"), "-ldl"]
    subprocess.run(compiled, check=True, capture_output=True)
    environment = os.environ | {
        "LD_PRELOAD": str(shim),
        "OMP_NUM_THREADS": "1",  # a fork of a process in which torch has threads may hang
        "PYTHONPATH": str(ROOT / "tests"),
        "RELEASE_TEMPLATES": str(templates),
    }
    command = [sys.executable, str(HERE / "driver.py"), json.dumps(official), *(["trains"] if trains else [])]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield Machine(process)
        finally:
            process.kill()
