"""Build networks: one after another in this process, or several at once in processes of their own.

A worker imports torch once, takes its share of the threads, and ends with the process that started it, however that
one ends: nobody writes into a folder that the next build is clearing.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...data import Split, load_split
from ...errors import Unavailable
from ...networks.zoo import DATASETS, NetworkSpec, named
from ...runtimes.threads import VARIABLE, asked_threads
from ...system.processor import cores
from ..required import NOTHING_MORE, Wanted
from .own import Prepared

Progress = Callable[[str], None]


class Builder(Protocol):
    """Writes a complete network into a new folder; returns what was measured. A function that processes can import."""

    def __call__(
        self,
        spec: NetworkSpec,
        version: str,
        folder: Path,
        split: Split | None,
        *,
        runtimes: Sequence[str],
        wanted: Wanted = ...,
        own: Prepared | None = ...,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Raises `GateFailed` where parity or accuracy fails."""


@dataclass(frozen=True)
class Job:
    """One network to build, in plain data that travels between processes. `own`: of what, if not of bundled weights."""

    builder: Builder
    network: str
    version: str
    folder: Path
    data_dir: Path
    runtimes: tuple[str, ...]
    own: Prepared | None = None
    wanted: Wanted = NOTHING_MORE


def build_all(
    jobs: Sequence[Job], processes: int, progress: Progress
) -> Generator[tuple[Job, dict[str, Any]], None, None]:
    """Build `jobs`, at most `processes` at once; yield each with its measurements as it is finished.

    The first failure ends the others. Raises what a builder raises, and `Unavailable` where a worker dies.
    """
    if min(len(jobs), processes) > 1:
        yield from _in_processes(jobs, min(len(jobs), processes), progress)
        return
    for job in jobs:
        yield job, _build(job, progress)


def _build(job: Job, progress: Progress | None = None) -> dict[str, Any]:
    how: dict[str, Any] = {"runtimes": job.runtimes, "wanted": job.wanted, "progress": progress}
    if job.own:
        return job.builder(job.own.network, job.version, job.folder, job.own.split, own=job.own, **how)
    spec = named(job.network)
    return job.builder(spec, job.version, job.folder, test_images(job.data_dir, spec.dataset.name), **how)


@functools.cache
def test_images(data_dir: Path, dataset: str) -> Split:
    """The test set, read once."""
    return load_split(data_dir, DATASETS[dataset], "test")


def _in_processes(
    jobs: Sequence[Job], processes: int, progress: Progress
) -> Generator[tuple[Job, dict[str, Any]], None, None]:
    spawn = multiprocessing.get_context("spawn")  # a fork of a process in which torch has threads may hang
    threads = max(1, cores() // processes)
    before = multiprocessing.active_children()
    pool = ProcessPoolExecutor(processes, spawn, initializer=_start, initargs=(threads,))
    try:
        futures = {pool.submit(_build, job): job for job in jobs}
        progress(f"building {len(jobs)} networks, {processes} at once")
        for done, future in enumerate(as_completed(futures), 1):
            yield futures[future], future.result()
            progress(f"{done} of {len(jobs)} networks built")
    except BrokenExecutor as error:
        raise Unavailable(
            "a process that built a network died (out of memory?). "
            "Use fewer --jobs; networks that are finished are kept."
        ) from error
    finally:
        for child in multiprocessing.active_children():
            if child not in before:
                child.kill()
        pool.shutdown(cancel_futures=True)


def _start(threads: int) -> None:
    """Begin a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends this process
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.join,), daemon=True).start()
    threads = min(threads, asked_threads() or threads)
    os.environ[VARIABLE] = str(threads)  # for ONNX Runtime, and for the processes that parity starts
    import torch

    torch.set_num_threads(threads)  # it was imported when this function arrived, and reads the variable no more


def _end_with(wait: Callable[[], None]) -> None:
    wait()
    os._exit(1)
