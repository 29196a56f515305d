"""A release folder appears by one rename: the lock, the hidden folder it is made in, and the last steps.

    with workshop(output, version, say) as staging:   # one build at a time in `output`
        ...                                            # network folders are made in `staging`
        publish(staging, output, origin, measurements, sign_key)

A process that is killed leaves a hidden folder behind, which the next one to hold the lock removes.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import GateFailed, InvalidInput, Unavailable, from_os_error
from ...system.files import hidden_folder, interrupts_held, leftover_of, no_empty_parents, sync, sync_tree
from ...system.locks import lock_in, only_one
from ..check.verify import verify
from ..layout import INDEX, measurements_name
from . import shelf
from .assemble import Origin, assemble

MEASUREMENTS_SCHEMA = 1
Say = Callable[[str], None]


@contextlib.contextmanager
def workshop(output: Path, version: str, say: Say) -> Iterator[Path]:
    """Hold the lock of `output` and yield a new, empty folder of the name `version` in a hidden folder there.

    Before, leftovers of killed builds are removed and the index is healed (notes go to `say`). After, the hidden folder
    is gone in any case, and so is `output` if it was made for nothing. Raises `Unavailable` while another build is at
    work there, `InvalidInput` where `output` cannot be written or `version` is taken.
    """
    busy = Unavailable(f"another build is at work in {output}. Wait until it is done, or choose another --output.")
    try:
        with no_empty_parents(lock_in(output)), only_one(lock_in(output), busy):
            _clear(output)
            shelf.heal(output, say)
            shelf.refuse_taken(output, version)
            with hidden_folder(output / version) as staging:
                staging.mkdir()
                yield staging
    except OSError as error:
        raise from_os_error(error, f"write {error.filename or output}") from error


def _clear(output: Path) -> None:
    """Remove what killed builds left: nobody else is at work here."""
    for path in output.iterdir():
        name = leftover_of(path)
        if shelf.is_version(name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif (name == INDEX or name.endswith(measurements_name(""))) and path.is_file():
            path.unlink()


def publish(
    staged: Path, output: Path, origin: Origin, measurements: Mapping[str, Any], sign_key: Path | None
) -> shelf.Listed:
    """Complete the networks in `staged`, sign, verify, and let the release appear in `output`.

    `measurements`: by network, what its build measured. Raises `GateFailed` where the result does not verify,
    `InvalidInput` where another folder has taken the name meanwhile, OSError.
    """
    assemble(staged, origin)
    if sign_key is not None:
        from ..sign import sign_release

        sign_release(staged, sign_key)
    result = verify(staged)
    if result.problems:
        raise GateFailed(f"the release that was built does not verify: {result.problems[0]}. Nothing was published.")
    entry = shelf.describe(staged)
    _settle(staged)
    document = {"schema": MEASUREMENTS_SCHEMA, "version": origin.version, "networks": dict(measurements)}
    beside = output / measurements_name(origin.version)
    with interrupts_held():
        shelf.write_plain(beside, document)
        try:
            # the system refuses to put a folder in the place of one that holds anything
            staged.rename(output / origin.version)
        except OSError as error:
            beside.unlink(missing_ok=True)
            if (output / origin.version).exists():
                raise InvalidInput(
                    f"{output / origin.version} was made by somebody else in the meantime. Nothing was published."
                ) from error
            raise
        sync(output)
        shelf.add(output, entry)
        sync(output)
    return entry


def _settle(folder: Path) -> None:
    """Give every file and folder its mode, whatever the umask was, and put all on the disk."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    sync_tree(folder)
