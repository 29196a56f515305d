"""How a file from outside is opened: a regular one only, never waited for, and of a bounded size.

A name that a person gives, or that stands in a folder that others can write, may be a pipe that nobody writes to, a
device without an end, or a sparse file of terabytes.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from ..errors import InvalidInput, from_os_error

MAX_MODEL_BYTES = 1 << 28
"""Of an exported file. The largest of the networks has 3.5 million bytes, a network of 60 million parameters fits."""
MAX_DOCUMENT_BYTES = 1 << 26
"""Of a document in JSON. The longest of ours, the bill of materials and a run's log, have some hundred thousand."""
# O_NONBLOCK: opening a pipe would wait for its writer. It changes nothing about regular files.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: Path, max_bytes: int) -> BufferedReader:
    """Open the regular file at `path`, a link followed, to be read.

    Raises `InvalidInput` for anything else (also where nothing is there), for more than `max_bytes` and for what may
    not be read, and `Unavailable` for what the machine is short of.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except ValueError:
        raise InvalidInput(f"cannot read {str(path)!r}: no name holds a NUL character.") from None
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise InvalidInput(f"cannot read {path}: it is a folder. Name a file.")
        if not stat.S_ISREG(found.st_mode):
            raise InvalidInput(f"cannot read {path}: it is not a regular file. Name one.")
        if found.st_size > max_bytes:
            raise InvalidInput(f"cannot read {path}: it has {found.st_size:,} bytes, more than {max_bytes:,}.")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The content of the regular file at `path`. Raises what `open_regular` raises."""
    with open_regular(path, max_bytes) as stream:
        try:
            data = stream.read(max_bytes + 1)  # it may have grown since
        except OSError as error:
            raise from_os_error(error, f"read {path}") from error
    if len(data) > max_bytes:
        raise InvalidInput(f"cannot read {path}: it has more than {max_bytes:,} bytes.")
    return data
