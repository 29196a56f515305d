"""The process that `cifar_export.gate.isolation` runs runtimes in: `python -m cifar_export.gate.worker`.

`serve` is the loop of any such process; `main` answers the jobs of the gate.

It reads on stdin, a line each, the names of files that hold a job as JSON, and answers on stdout: a dot for every sign
of life, then the result as JSON. Arrays travel in .npy files. It imports what the runtime at hand needs and nothing
more.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..errors import CifarExportError, GateFailed, first_line
from ..networks.zoo import Normalization
from ..runtimes import Runtime, open_subject, run_batch
from .forward import Answer, Inputs, Sign, attempt

_LOOK_EVERY_S = 2.0


def main() -> None:
    """Answer the jobs of the gate."""
    runtime: Runtime | None = None

    def answer(job: dict[str, Any], sign: Sign) -> dict[str, Any]:
        nonlocal runtime
        if "session" in job:
            reply, runtime = _open(job)
            return reply
        if "images" in job and "logits" in job:
            return _run(runtime, job)
        return _values(job) if "graph" in job else _answer(job, sign)

    serve(answer)


def serve(answer: Callable[[dict[str, Any], Sign], dict[str, Any]]) -> None:
    """Answer jobs until stdin ends, or who asks for them is gone.

    `answer` gets a job and a function that gives a sign of life, and returns what can be JSON.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)  # libraries that print to stdout do not disturb the answers
        for line in sys.stdin:
            job = json.loads(Path(json.loads(line)).read_text(encoding="utf-8"))
            _say(replies, json.dumps(answer(job, lambda: _say(replies, "."))))


def _end_with(parent: int) -> None:
    """End this process when its parent was killed: what runs here may never come back to read that stdin has ended."""
    while os.getppid() == parent:
        threading.Event().wait(_LOOK_EVERY_S)
    os._exit(1)


def _answer(job: dict[str, Any], sign: Sign) -> dict[str, Any]:
    """Run a file in a runtime; the reply is an `Answer` with the names of files in place of the logits."""
    pixels = {name: np.load(file, mmap_mode="r") for name, file in job["pixels"].items()}
    normalization = Normalization(**{name: tuple(values) for name, values in job["normalization"].items()})
    inputs = Inputs(pixels, job["variant"], normalization)
    where = {name: [np.array(batch, np.intp) for batch in cut] for name, cut in job["where"].items()}
    answer = attempt(lambda: open_subject(job["open"], job["reads"], Path(job["subject"])), inputs, where, sign)
    files: dict[str, str] = {}
    for number, (name, logits) in enumerate(answer.logits.items()):
        if logits.dtype.hasobject:  # only a pickle could carry it
            answer = Answer(None, problem=f"logits are {logits.dtype}, not float32")
            files = {}
            break
        files[name] = f"{job['output']}-{number}.npy"
        np.save(files[name], logits, allow_pickle=False)
    return {**vars(answer), "logits": files}


def _open(job: dict[str, Any]) -> tuple[dict[str, Any], Runtime | None]:
    """Open a file that is to be asked batch after batch, until the process is ended."""
    target, reads, subject = job["session"]
    try:
        runtime = open_subject(target, reads, Path(subject))
    except Exception as error:  # noqa: BLE001  runtimes raise what they like
        return failed(error), None
    return {"provider": runtime.provider}, runtime


def _run(runtime: Runtime | None, job: dict[str, Any]) -> dict[str, Any]:
    """One batch of the file that is open."""
    if runtime is None:
        return failed(GateFailed("the file is no longer open. Open it again."))
    try:
        logits = np.asarray(run_batch(runtime, np.load(job["images"], allow_pickle=False)))
        if logits.dtype.hasobject:  # only a pickle could carry it
            raise GateFailed(f"{runtime.name} returns {logits.dtype}, not float32.")
        np.save(job["logits"], logits, allow_pickle=False)
    except Exception as error:  # noqa: BLE001  runtimes raise what they like
        return failed(error)
    return {}


def failed(error: Exception) -> dict[str, Any]:
    """The reply that `isolated` raises as what it was here; what is no error of ours is the file's fault."""
    if isinstance(error, CifarExportError):
        return {"error": [error.exit_code, str(error)]}
    return {"error": [GateFailed.exit_code, f"the runtime fails: {first_line(error, named=True)}."]}


def _values(job: dict[str, Any]) -> dict[str, Any]:
    """Run a graph all of whose values are outputs; the reply names a file for each."""
    from .node_outputs import load, run_all

    try:
        values = run_all(load(Path(job["graph"])), np.load(job["images"]))
    except Exception as error:  # noqa: BLE001  onnxruntime's errors share no base class
        return {"problem": first_line(error), "values": {}}
    files = {name: f"{job['output']}-{number}.npy" for number, name in enumerate(values)}
    for name, array in values.items():
        np.save(files[name], array, allow_pickle=False)
    return {"problem": None, "values": files}


def _say(replies: TextIO, line: str) -> None:
    print(line, file=replies, flush=True)


if __name__ == "__main__":
    main()
