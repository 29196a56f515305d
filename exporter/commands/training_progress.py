"""Live progress of a run on stderr: a bar and a line per epoch on a terminal, the lines alone in a log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from ..training.loop import Progress, ProgressCallback
from ..training.result import TrainingResult


def _left(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def epoch_line(progress: Progress, result: dict[str, Any]) -> str:
    """Say in one line of at most 80 cells what a complete epoch brought; `result` is its log entry."""
    parts = [
        f"epoch {progress.epoch:>3}/{progress.epochs}",
        f"loss {result['loss']:.3f}",
        f"training {result['train_top1']:5.2f} %",
    ]
    speed = f"{result['images_per_second']:,.0f} images/s"
    parts += [f"top-1 {result['top1']:.2f} %" if "top1" in result else speed, f"{_left(progress.seconds_left)} left"]
    return "  ".join(parts)


def _trained(result: TrainingResult) -> str:
    """Say how long the run took on what; of one that was resumed elsewhere, of each part."""
    if not result.parts:
        return f"{_left(result.seconds)} on {result.hardware}, in {result.precision}"
    return "; ".join(
        f"{part['epochs']} epochs in {_left(part['seconds'])} on {part['hardware']} in {part['precision']}"
        for part in result.parts
    )


def result_lines(result: TrainingResult) -> list[tuple[str, str]]:
    """Describe a complete run as names and values."""
    reported = "held-out images" if result.holdout else "test images"
    return [
        ("network", result.network),
        ("recipe", f"{result.recipe}, seed {result.seed}"),
        ("top-1", f"{result.top1:.2f} % of the {reported}"),
        ("top-5", f"{result.top5:.2f} %"),
        ("trained for", _trained(result)),
        ("weights", str(result.weights)),
        ("sha256", result.sha256),
    ]


@contextlib.contextmanager
def live() -> Iterator[ProgressCallback]:
    """Yield a callback for `run.train`. Nothing is shown before its first call, so other processes stay silent."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    bar = Bar(TextColumn("{task.description}"), BarColumn(), console=console, transient=True)
    task = bar.add_task("", total=1.0)

    def show(progress: Progress) -> None:
        if progress.result is not None:
            console.print(epoch_line(progress, progress.result), markup=False)
        elif console.is_terminal:
            bar.start()
            speed = f"{progress.images_per_second:,.0f} images/s, {_left(progress.seconds_left)} left"
            part = progress.step / progress.steps
            if progress.epoch:
                doing = f"epoch {progress.epoch}/{progress.epochs}, step {progress.step}/{progress.steps}"
                part = (progress.epoch - 1 + part) / progress.epochs
            else:
                doing = "asking the teachers"
            bar.update(task, description=f"{doing}, {speed}", completed=part)

    try:
        yield show
    finally:
        if bar.live.is_started:  # else it would print an empty line
            bar.stop()
