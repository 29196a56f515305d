"""What a terminal shows of a run while it trains."""

from functools import partial

from rich.console import Console

from cifar_export.commands import training_progress
from cifar_export.training.loop import Progress


def test_a_terminal_sees_the_asking(capsys, monkeypatch):
    monkeypatch.setattr(training_progress, "Console", partial(Console, force_terminal=True, width=100))
    for progress, shown in (
        (Progress(0, 40, 100, 400, 250.0, 150.0), "asking the teachers, 250 images/s, 2 min left"),
        (Progress(1, 40, 10, 390, 330.0, 6000.0), "epoch 1/40, step 10/390, 330 images/s, 1 h 40 min left"),
    ):
        with training_progress.live() as show:
            show(progress)  # what it said last is what it draws when it stops
        assert shown in capsys.readouterr().err
