"""Runtimes in a process of their own: one that crashes or hangs is a row of the table, not the end of the run.

One process runs all of them, one after another, while the parent computes the reference; it is replaced only after it
died or was killed. What a library prints goes to a file and is dropped.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import GateFailed, InvalidInput
from ..networks.preprocess import Images
from ..runtimes import RuntimeSpec
from ..runtimes.threads import VARIABLE
from ..system.arrays import read_array
from ..system.checkout import PACKAGE
from ..system.files import require_utf8
from .forward import Answer, Inputs, Places, Sign

if TYPE_CHECKING:
    import onnx

_PATIENT_WITH = 256  # images in a batch: a runtime's patience is for so many, and grows in proportion with more
_GRAPH_PATIENCE_S = 30.0  # for a few images through a beginning of the graph; a hundred times what it takes


def patience(spec: RuntimeSpec, images: int) -> float:
    """The seconds that a runtime may be silent over a batch of so many images."""
    return spec.patience_s * max(1.0, images / _PATIENT_WITH)


class Room:
    """A temporary folder, and a worker that is started when it is asked and replaced after it failed.

    `module` of this package is what the worker runs, and `environment` its whole environment, where it is another one.
    """

    def __init__(self, module: str = "gate.worker", environment: Mapping[str, str] | None = None) -> None:
        self._module, self._environment = module, environment
        self._stack = contextlib.ExitStack()
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="cifar-export-")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._worker is not None:
            self._worker.kill()
        self._stack.close()

    def ask(self, job: Mapping[str, Any], patience_s: float, sign: Sign | None = None) -> dict[str, Any] | str:
        """What `Worker.ask` says; a worker that failed is ended, and the next job gets another one."""
        if self._worker is None:
            self._worker = Worker(self.folder / "stderr.txt", self._module, self._environment)
        file = self.folder / "job.json"  # a line of a pipe that nobody reads would block where it is long
        file.write_text(json.dumps(job), encoding="utf-8")
        reply = self._worker.ask(json.dumps(str(file)), patience_s, sign)
        if isinstance(reply, str):
            self._worker.kill()
            self._worker = None
        return reply


class Isolation(Room):
    """A room for runtimes that read files; `inputs` is what each of them gets. A context manager.

    `threads`: as many as each of them takes, where it obeys OMP_NUM_THREADS; None for what that says here.
    """

    def __init__(self, inputs: Inputs, threads: int | None = None) -> None:
        super().__init__(environment=None if threads is None else {**os.environ, VARIABLE: str(threads)})
        self._inputs = inputs
        self._closed = False
        self._jobs = 0

    def __enter__(self) -> Self:
        super().__enter__()
        self._files = {}
        for number, (name, pixels) in enumerate(self._inputs.pixels.items()):
            self._files[name] = str(self.folder / f"pixels-{number}.npy")
            np.save(self._files[name], pixels, allow_pickle=False)
        self._thread = ThreadPoolExecutor(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        if self._worker is not None:
            self._worker.kill()  # before the thread that waits for it
        self._thread.shutdown(cancel_futures=True)
        self._stack.close()

    def submit(self, spec: RuntimeSpec, file: Path, where: Places, sign: Sign | None = None) -> Future[Answer]:
        """Run `file` in the runtime of `spec` on the batches that `where` says, after what was submitted before.

        `sign` is called, in another thread, when the runtime is open and after each batch. The future raises nothing of
        its own. Raises `InvalidInput` for a file whose whole path is not UTF-8.
        """
        whole = file.resolve()  # for another process, whose current folder may be another
        require_utf8(whole)
        return self._thread.submit(self._run, spec, whole, where, sign)

    def _run(self, spec: RuntimeSpec, file: Path, where: Places, sign: Sign | None) -> Answer:
        if self._closed:
            return Answer(None, problem="interrupted")
        self._jobs += 1
        job = {
            "open": spec.open,
            "reads": spec.reads,
            "subject": str(file),
            "pixels": self._files,
            "variant": self._inputs.variant,
            "normalization": self._inputs.normalization.as_dict(),
            "where": {name: [batch.tolist() for batch in cut] for name, cut in where.items()},
            "output": str(self.folder / f"logits-{self._jobs}"),
        }
        largest = max((len(batch) for cut in where.values() for batch in cut), default=0)
        reply = self.ask(job, patience(spec, largest), sign)
        if isinstance(reply, str):
            return Answer(None, problem=reply)
        try:
            logits = {name: read_array(Path(written)) for name, written in reply["logits"].items()}
        except InvalidInput as error:  # the process ran a stranger's file
            return Answer(None, problem=str(error))
        return Answer(**reply | {"logits": logits, "misplaced": tuple(reply["misplaced"])})


class GraphIsolation(Room):
    """A room for `node_outputs.run_all`: what crashes or hangs there is an error here. A context manager."""

    def run(self, model: onnx.ModelProto, images: Images) -> dict[str, NDArray[Any]]:
        """Every output of `model` by name, on `images`. Raises `GateFailed`: what stopped it, in words."""
        file, images_file = self.folder / "graph.onnx", self.folder / "images.npy"
        file.write_bytes(model.SerializeToString())
        np.save(images_file, images, allow_pickle=False)
        job = {"graph": str(file), "images": str(images_file), "output": str(self.folder / "value")}
        reply = self.ask(job, _GRAPH_PATIENCE_S)
        if isinstance(reply, str):
            raise GateFailed(reply)
        if reply["problem"]:
            raise GateFailed(reply["problem"])
        try:
            return {name: read_array(Path(written)) for name, written in reply["values"].items()}
        except InvalidInput as error:
            raise GateFailed(str(error)) from error


class Worker:
    """The process, and a thread that reads what it says: pipes cannot be waited for with a limit on all systems."""

    def __init__(self, errors: Path, module: str = "gate.worker", environment: Mapping[str, str] | None = None) -> None:
        self._errors = errors
        with errors.open("wb") as stderr:
            # -P: a module of the current folder must not stand in for one of ours. A session of its own, so that
            # what a runtime started ends with it.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(PACKAGE / "start.py"), module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
                start_new_session=True,
                env=environment,
            )
        self._said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=_read, args=(self._process.stdout, self._said), daemon=True)
        self._reader.start()

    def ask(self, job: str, patience_s: float, sign: Sign | None = None) -> dict[str, Any] | str:
        """The reply to `job`, or why there is none: the process died, or was silent for `patience_s` seconds.

        `sign` is called for each sign of life.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it died: what it ended with is read below
                self._process.stdin.write(job + "\n")
                self._process.stdin.flush()
        while True:
            try:
                line = self._said.get(timeout=patience_s)
            except queue.Empty:
                return f"no answer within {patience_s:g} s"
            if line is None:
                return self._death()
            if line != ".":
                reply: dict[str, Any] = json.loads(line)
                return reply
            if sign is not None:
                sign()

    def _death(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"crashed: signal {-code} ({signal.Signals(-code).name})"
        lines = self._errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = f": {lines[-1][:200]}" if lines else ""
        return f"crashed: exit code {code}{last}"

    def kill(self) -> None:
        """End the process and what it started, if it still runs."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _read(stream: IO[str], said: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        said.put(line.rstrip("\n"))
    said.put(None)
