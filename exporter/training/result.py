"""What a complete run leaves: its weights, its learning curve, and the numbers that are reported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..weights.core import Weights
from ..weights.native import save_weights
from . import environment, plot
from .holdout import HELD_OUT
from .log import Log, differ
from .log import parts as log_parts
from .loop import Trainer
from .options import CURVE, WEIGHTS


@dataclass(frozen=True)
class TrainingResult:
    """A complete run. `top1` and `top5`: percent of the test images, or of the held-out ones with `holdout`.

    `seconds`: time trained, over all interruptions. `hardware` and `precision`: of the last part. `parts`: where a run
    was resumed under other conditions, what trained each part (`log.parts`); else empty. `sha256` is that of
    `weights.safetensors` in `output`.
    """

    network: str
    recipe: str
    seed: int
    holdout: bool
    output: Path
    sha256: str
    top1: float
    top5: float
    seconds: float
    hardware: str
    precision: str
    parts: tuple[dict[str, Any], ...] = ()

    @property
    def weights(self) -> Path:
        """The file with the weights."""
        return self.output / WEIGHTS

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "output": str(self.output), "weights": str(self.weights)}


def write_result(trainer: Trainer, log: Log) -> TrainingResult:
    """Write the weights that a complete run yields, the curve and the log's last line, into the log's folder.

    Raises `Unavailable` on a full disk and `InvalidInput` where the folder cannot be written.
    """
    job, output = trainer.job, log.path.parent
    epochs = [event for event in log.events if event["event"] == "epoch"]
    metrics = {key: epochs[-1][key] for key in ("top1", "top5")}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in trainer.result().state_dict().items()}
    weights = Weights(
        network=job.network,
        state=state,
        normalization=job.network.dataset.normalization,
        source="trained",
        sha256="",  # the file's, known once it is written
        recipe=job.recipe.as_dict(),
        metrics=metrics | {"images": HELD_OUT if job.holdout else "test"},
    )
    sha256 = save_weights(output / WEIGHTS, weights)
    reported = "held-out images" if job.holdout else "test images"
    title = f"{job.network.name}, recipe {job.recipe.name}, seed {job.seed}"
    plot.save_learning_curve(output / CURVE, epochs, title, reported)
    log.events.append({"event": "end", "seconds": trainer.seconds, "sha256": sha256, **metrics})
    log.write()
    parts = log_parts(log.events)
    return TrainingResult(
        network=job.network.name,
        recipe=job.recipe.name,
        seed=job.seed,
        holdout=job.holdout,
        output=output,
        sha256=sha256,
        seconds=trainer.seconds,
        hardware=environment.hardware(trainer.processes.device, trainer.processes.count),
        precision=environment.precision(job.recipe, trainer.processes.device),
        parts=tuple(parts) if differ(parts) else (),
        **metrics,
    )
