"""Export and predict a thousand times in one process, and in threads: memory, open files and threads must stay flat.

    python tools/soak.py [--rounds N] [--threads N] [--gated N] [--json]

A round exports an untrained network to ONNX, and classifies a picture with it in PyTorch and in ONNX Runtime. Gated
rounds are exports with parity, and predictions of the file in its process of its own: these start processes, which must
be gone afterwards. The first tenth of each part, ten rounds at least, warms up. Exit code 1 where something grew. Linux
only.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from cifar_export.commands.console import Command, echo_json
from cifar_export.commands.options import json_option
from cifar_export.errors import GateFailed, Unavailable
from cifar_export.exporting.artifact import export
from cifar_export.networks.zoo import network
from cifar_export.prediction.predict import classifier_of_file, classifier_of_weights, predict_pixels
from cifar_export.weights.seeded import random_weights

MOST_GROWTH = 24 * 2**20
"""Bytes of memory that a part may gain: a leak of 25 KB a round shows in a thousand."""
WEIGHTS = random_weights(network("resnet8", "cifar10"), seed=0)
PICTURE = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
Round = Callable[[Path], None]


@dataclass(frozen=True)
class Held:
    """What this process holds: bytes of memory, open files, threads and processes that it started."""

    memory: int
    files: int
    threads: int
    processes: int


@dataclass(frozen=True)
class Part:
    """One part of the soak: what was held after warming up and at the end."""

    name: str
    rounds: int
    seconds: float
    before: Held
    after: Held

    @property
    def grew(self) -> list[str]:
        """What grew."""
        gained = {
            name: getattr(self.after, name) - getattr(self.before, name) for name in ("files", "threads", "processes")
        }
        names = [name for name, count in gained.items() if count > 0]
        return names + (["memory"] if self.after.memory - self.before.memory > MOST_GROWTH else [])


def held() -> Held:
    """Look at this process, after it has given back what it can."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    own = Path("/proc/self")
    memory = int((own / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    tasks = list((own / "task").iterdir())
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    return Held(memory, len(list((own / "fd").iterdir())), len(tasks), len(children))


def ungated(folder: Path) -> None:
    """One round without another process."""
    file = folder / "a.onnx"
    artifact = export(WEIGHTS, "onnx", output=file, checked=False)
    if not artifact.stands():
        raise GateFailed(f"{file} is not what was written.")
    for runtime in ("pytorch", "onnxruntime-cpu"):
        with classifier_of_weights(WEIGHTS, runtime) as classifier:
            predict_pixels(classifier, PICTURE)


def gated(folder: Path) -> None:
    """One round with parity, and with a process for the file."""
    artifact = export(WEIGHTS, "onnx", output=folder / "a.onnx")
    with classifier_of_file(artifact.path) as classifier:
        predict_pixels(classifier, PICTURE)


def soak(name: str, one: Round, rounds: int, threads: int) -> Part:
    """Run `one` so often in `threads` threads, each in a folder of its own, and look before and after."""
    with tempfile.TemporaryDirectory(prefix="cifar-export-soak-") as top:
        folders = [Path(top, str(number)) for number in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            barrier = threading.Barrier(threads)
            list(pool.map(lambda _: barrier.wait(), folders))  # the pool starts a thread only when it needs one

            def run(count: int) -> None:
                def work(folder: Path) -> None:
                    for _ in range(count // threads):
                        one(folder)

                list(pool.map(work, folders))

            run(max(10, rounds // 10))
            before, began = held(), time.monotonic()
            run(rounds)
            return Part(name, rounds // threads * threads, time.monotonic() - began, before, held())


@click.command(cls=Command)
@click.option("--rounds", type=click.IntRange(1), default=1000, show_default=True, help="Rounds in this process.")
@click.option("--threads", type=click.IntRange(1), default=4, show_default=True, help="Threads of the second part.")
@click.option("--gated", "proved", type=click.IntRange(0), default=20, show_default=True, help="Gated rounds.")
@json_option
def main(rounds: int, threads: int, proved: int, as_json: bool) -> None:
    """Export and predict over and over, and see that nothing grows."""
    if sys.platform != "linux":
        raise Unavailable("what a process holds is read from /proc. Run it on Linux.")
    parts = [soak("one thread", ungated, rounds, 1), soak(f"{threads} threads", ungated, rounds, threads)]
    if proved:
        parts.append(soak("gated", gated, proved, 1))
    if as_json:
        echo_json([{**asdict(part), "grew": part.grew} for part in parts])
    else:
        for part in parts:
            click.echo(f"{part.name}: {part.rounds} rounds in {part.seconds:.0f} s")
            for what, values in asdict(part.before).items():
                click.echo(f"  {what}: {values:,} -> {getattr(part.after, what):,}")
    grew = [f"{part.name}: {', '.join(part.grew)}" for part in parts if part.grew]
    if grew:
        raise GateFailed(f"something grew: {'; '.join(grew)}.")


if __name__ == "__main__":
    main()
