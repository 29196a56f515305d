"""The soak: it sees what grows, and sees nothing where nothing does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools import soak

from support.paths import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
kept: list[Any] = []


def files(folder: Path) -> None:
    kept.append(os.open(os.devnull, os.O_RDONLY))


def threads(folder: Path) -> None:
    end = threading.Event()
    threading.Thread(target=end.wait, daemon=True).start()
    kept.append(end)


def processes(folder: Path) -> None:
    kept.append(subprocess.Popen(["sleep", "100"]))


def memory(folder: Path) -> None:
    kept.append(os.urandom(4 * 2**20))


@pytest.fixture(autouse=True)
def _nothing_stays() -> Any:
    yield
    for each in kept:
        if isinstance(each, int):
            os.close(each)
        elif isinstance(each, threading.Event):
            each.set()
        elif isinstance(each, subprocess.Popen):
            each.kill()
            each.wait()
    kept.clear()


@pytest.mark.parametrize("grows", [files, threads, processes, memory])
def test_what_grows_is_named(grows: Callable[[Path], None]) -> None:
    assert grows.__name__ in soak.soak("leak", grows, 10, 1).grew


@pytest.mark.parametrize("count", [1, 2])
def test_what_does_not_grow_is_not(count: int) -> None:
    part = soak.soak("clean", lambda folder: None, 10, count)
    assert (part.rounds, part.grew) == (10, [])


@pytest.mark.slow
def test_exports_and_predictions_leave_nothing_behind() -> None:
    command = [sys.executable, str(ROOT / "tools" / "soak.py"), "--rounds", "200", "--gated", "10"]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
