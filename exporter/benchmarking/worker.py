"""The process of one row: it opens a runtime, and times runs of it, so many as it is asked, as often as it is asked.

Nothing is imported but Python, NumPy and the runtime at hand, for start-up and memory are those of a program that uses
it. See `cifar_export.gate.worker` for how it is asked.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..gate.forward import Sign
from ..gate.worker import failed, serve
from ..runtimes import Runtime, TimesCopies, resolve
from ..runtimes.feeding import Wanted, as_wanted
from .usage import usage


class Row:
    """A runtime that is opened by the first job and timed by the others."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None

    def answer(self, job: dict[str, Any], sign: Sign) -> dict[str, Any]:
        """The reply to a job: what opening took, or the seconds of each run."""
        try:
            if "open" in job:
                return self._open(job, sign)
            return self._time(int(job["runs"]))
        except Exception as error:  # noqa: BLE001  runtimes raise what they like
            return failed(error)

    def _open(self, job: dict[str, Any], sign: Sign) -> dict[str, Any]:
        self._images = np.load(job["images"], allow_pickle=False)
        subject: Any = Path(job["subject"])
        bare, _ = usage()
        began = time.perf_counter()
        if job["library"]:
            importlib.import_module(job["library"])
        imported = time.perf_counter()
        sign()
        if job["reads"] == "network":
            subject = _module(subject, job["variant"])
        runtime: Runtime = resolve(job["open"])(subject)
        loaded = time.perf_counter()
        sign()
        if job["wanted"]:
            runtime = as_wanted(runtime, Wanted(*job["wanted"]))
        self._runtime = runtime
        first_began = time.perf_counter()
        logits = np.asarray(runtime.logits(self._images))
        first = time.perf_counter() - first_began
        return {
            "provider": runtime.provider,
            "import_s": imported - began if job["library"] else None,
            "load_s": loaded - imported,
            "first_s": first,
            "bare_bytes": bare,
            "shape": list(logits.shape),
        }

    def _time(self, runs: int) -> dict[str, Any]:
        if self._runtime is None:
            raise RuntimeError("nothing is open")
        images, clock, seconds = self._images, time.perf_counter, []
        copies: list[tuple[float, float]] = []
        if isinstance(self._runtime, TimesCopies):
            for _ in range(runs):
                began = clock()
                _, into, out = self._runtime.logits_and_copies(images)
                seconds.append(clock() - began)
                copies.append((into, out))
        else:
            logits = self._runtime.logits
            for _ in range(runs):
                began = clock()
                logits(images)
                seconds.append(clock() - began)
        peak, spent = usage()
        return {"seconds": seconds, "copies": copies, "peak_bytes": peak, "cpu_s": spent}


def _module(file: Path, variant: Any) -> Any:
    """The network whose weights stand in `file`, as PyTorch runs it."""
    from ..networks.resnet import with_input
    from ..networks.zoo import network
    from ..weights.core import build_network
    from ..weights.sources import load_weights, said_dataset, said_model

    spec = network(str(said_model(file)), said_dataset(file) or "cifar10")
    weights = load_weights(spec, str(file))
    return with_input(build_network(weights), variant, weights.normalization).eval()


if __name__ == "__main__":
    serve(Row().answer)
