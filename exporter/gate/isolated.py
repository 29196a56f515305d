"""A file in a runtime that is asked batch after batch, in a process of its own: it may crash or hang, and that ends.

`isolation.Isolation` runs many files on batches that are known beforehand; here they come one by one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ERRORS, GateFailed, InvalidInput
from ..networks.preprocess import Images
from ..runtimes import Runtime, require_runtime, spec_of
from ..system.arrays import read_array
from ..system.files import require_utf8
from .isolation import Room, patience


class IsolatedFile(Runtime):
    """`file` in the runtime called `name`, opened when this is made. A context manager.

    Raises what `open_runtime` raises, and `GateFailed` where the process dies or is silent for longer than the
    runtime's patience, at once and for each batch.
    """

    def __init__(self, name: str, file: Path) -> None:
        require_runtime(name)
        whole = file.resolve()  # for another process
        require_utf8(whole)
        self.name, self._file, self._spec = name, file, spec_of(name)
        self._room = Room()
        self._room.__enter__()
        try:
            job = {"session": [self._spec.open, self._spec.reads, str(whole)]}
            self.provider = str(self._ask(job, 1)["provider"])
        except BaseException:
            self.close()
            raise

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`. Raises `GateFailed` for whatever the runtime raises."""
        asked, answer = self._room.folder / "images.npy", self._room.folder / "logits.npy"
        np.save(asked, images, allow_pickle=False)
        self._ask({"images": str(asked), "logits": str(answer)}, len(images))
        try:
            return read_array(answer)
        except InvalidInput as error:
            raise GateFailed(f"{self.name} with {self._file}: {error}") from error

    def close(self) -> None:
        """End the process."""
        self._room.__exit__(None, None, None)

    def _ask(self, job: dict[str, Any], images: int) -> dict[str, Any]:
        reply = self._room.ask(job, patience(self._spec, images))
        if isinstance(reply, str):
            raise GateFailed(f"{self.name} with {self._file}: {reply}. Do not use that file.")
        if "error" in reply:
            code, message = reply["error"]
            raise ERRORS[code](message)
        return reply
