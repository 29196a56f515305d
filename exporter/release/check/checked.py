"""`verify`, for the rest of the library: what it cannot read is an error of ours."""

from __future__ import annotations

from pathlib import Path

from ...errors import InvalidInput, Unavailable, from_os_error
from .verify import Result, shown, verify


def check(path: Path, *, hub: bool = False) -> Result:
    """Verify the release, network's folder or archive at `path`; whether it is intact, the result says.

    With `hub`, it may be a download of the Hugging Face Hub, as `verify` says.

    Raises `InvalidInput` (`Unavailable` where it is the machine's fault) for what is none of these or cannot be read.
    """
    try:
        return verify(path, hub=hub)
    except ValueError as error:
        raise InvalidInput(str(error)) from error
    except MemoryError as error:
        raise Unavailable(
            f"not enough memory to verify {shown(path)}. Close something, or use a larger machine."
        ) from error
    except OSError as error:
        raise from_os_error(error, f"read {shown(error.filename or path)}") from error
