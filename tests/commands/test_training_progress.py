"""What a terminal shows of a run while it trains."""

from functools import partial

import pytest
from rich.console import Console

from cifar_export.commands import training_progress
from cifar_export.training.loop import Progress


@pytest.mark.parametrize("scored", [{}, {"top1": 100.0, "top5": 100.0}])
def test_an_epoch_is_a_line_of_eighty_cells(scored):
    result = {"loss": 9.345, "train_top1": 100.0, "images_per_second": 99_999.0, **scored}
    line = training_progress.epoch_line(Progress(400, 400, 1, 1, 99_999.0, 86_400.0, result), result)
    assert len(line) <= 80
    assert ("top-1 100.00 %" if scored else "99,999 images/s") in line
    assert line.endswith("24 h 00 min left")


def test_a_terminal_sees_the_asking(capsys, monkeypatch):
    monkeypatch.setattr(training_progress, "Console", partial(Console, force_terminal=True, width=100))
    for progress, shown in (
        (Progress(0, 40, 100, 400, 250.0, 150.0), "asking the teachers, 250 images/s, 2 min left"),
        (Progress(1, 40, 10, 390, 330.0, 6000.0), "epoch 1/40, step 10/390, 330 images/s, 1 h 40 min left"),
    ):
        with training_progress.live() as show:
            show(progress)  # what it said last is what it draws when it stops
        assert shown in capsys.readouterr().err
