"""What is shown while something takes its time: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

from functools import partial

import pytest
from rich.console import Console

from cifar_export.commands import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes as a test says."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_hears_of_images_once_a_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("evaluating") as move:
        for second in range(150):
            clock[0] = float(second)
            move(second * 10, 10_000)
    assert capsys.readouterr().err == "evaluating: 600 of 10,000\nevaluating: 1,200 of 10,000\n"


def test_of_an_unknown_end_it_hears_what_is_done(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("downloading") as move:
        clock[0] = 60.0
        move(4096, None)
    assert capsys.readouterr().err == "downloading: 4,096\n"


def test_a_log_hears_of_steps_that_begin_after_a_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.steps() as tell:
        tell("loading")
        clock[0] = 59.0
        tell("exporting")
        clock[0] = 61.0
        tell("openvino")
        clock[0] = 90.0
        tell("tract")
    assert capsys.readouterr().err == "openvino\n"


def test_who_wants_json_hears_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("evaluating", quiet=True) as move, progress.steps(quiet=True) as tell:
        clock[0] = 1000.0
        move(1, 2)
        tell("loading")
    assert capsys.readouterr().err == ""


def test_a_terminal_sees_how_many_are_done(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "Console", partial(Console, force_terminal=True, width=100))
    with progress.bar("evaluating") as move:
        move(2500, 10_000)
    assert "evaluating" in (shown := capsys.readouterr().err)
    assert "2500/10000" in shown
