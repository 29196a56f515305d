"""TensorBoard, for those who ask for it: the extra `tensorboard` of this package."""

from __future__ import annotations

from pathlib import Path

from ..errors import Unavailable
from .loop import Progress, ProgressCallback


def writer(folder: Path) -> ProgressCallback:
    """Write every complete epoch's numbers to `folder`. Raises `Unavailable` where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise Unavailable(
            "--tensorboard needs a package that is not installed. Run `pip install 'cifar-export[tensorboard]'`."
        ) from error
    started: list[SummaryWriter] = []  # with the first epoch: a run that is refused writes nothing

    def write(progress: Progress) -> None:
        if progress.result is None:
            return
        if not started:
            started.append(SummaryWriter(folder))
        (summary,) = started
        for name, value in progress.result.items():
            if name != "epoch":
                summary.add_scalar(name, value, progress.epoch)
        summary.flush()

    return write
