"""Several `cifar-export train` at once, each in a process of its own, which end with the block that started them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from ..errors import ERRORS, CifarExportError, GateFailed
from ..runtimes.threads import VARIABLE, share

COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "cifar_export", "train")
_PATIENCE_S = 60.0  # for what ends a run at a signal, which may be writing a checkpoint


class Child:
    """A `cifar-export train` beside others, in a process of its own that takes `threads` of the CPU."""

    def __init__(self, arguments: Sequence[str], threads: int) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the child
        environment = {**os.environ, VARIABLE: str(threads)}
        command = [*COMMAND, *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._errors, env=environment)

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def end(self) -> None:
        """End it, if it still runs; its last checkpoint stays."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def failure(self, name: str) -> CifarExportError | None:
        """What a child that has ended says of why, as an error of ours; None where it ended well."""
        code = self._process.wait()
        if not code:
            return None
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        return ERRORS.get(code, GateFailed)(f"{name}: {said.rpartition('error: ')[2] or f'exit code {code}'}")


@contextlib.contextmanager
def side_by_side(commands: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Child]]:
    """A child for the arguments of each, by name; those that still run at the end of the block are ended."""
    children: dict[str, Child] = {}
    try:
        for name, arguments in commands.items():
            children[name] = Child(arguments, share(len(commands)))
        yield children
    finally:
        for child in children.values():
            child.end()
