"""The process that `cifar_export.gate.isolation` runs runtimes in: `python -m cifar_export.gate.worker`.

It reads on stdin, a line each, the names of files that hold a job as JSON, and answers on stdout: a dot for every sign
of life, then the result as JSON. Arrays travel in .npy files. It imports what the runtime at hand needs and nothing
more.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..errors import first_line
from ..networks.zoo import Normalization
from ..runtimes import open_subject
from .forward import Answer, Inputs, attempt


def main() -> None:
    """Answer jobs until stdin ends."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)  # libraries that print to stdout do not disturb the answers
        for line in sys.stdin:
            job = json.loads(Path(json.loads(line)).read_text(encoding="utf-8"))
            _say(replies, json.dumps(_values(job) if "graph" in job else _answer(job, replies)))


def _answer(job: dict[str, Any], replies: TextIO) -> dict[str, Any]:
    """Run a file in a runtime; the reply is an `Answer` with the names of files in place of the logits."""
    pixels = {name: np.load(file, mmap_mode="r") for name, file in job["pixels"].items()}
    normalization = Normalization(**{name: tuple(values) for name, values in job["normalization"].items()})
    inputs = Inputs(pixels, job["variant"], normalization)
    where = {name: [np.array(batch, np.intp) for batch in cut] for name, cut in job["where"].items()}
    answer = attempt(
        lambda: open_subject(job["open"], job["reads"], Path(job["subject"])), inputs, where, lambda: _say(replies, ".")
    )
    files: dict[str, str] = {}
    for number, (name, logits) in enumerate(answer.logits.items()):
        if logits.dtype.hasobject:  # only a pickle could carry it
            answer = Answer(None, problem=f"logits are {logits.dtype}, not float32")
            files = {}
            break
        files[name] = f"{job['output']}-{number}.npy"
        np.save(files[name], logits, allow_pickle=False)
    return {**vars(answer), "logits": files}


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
