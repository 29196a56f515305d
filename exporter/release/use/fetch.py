"""Get one network of a release by its name: downloaded, checked against what vouches for the release, unpacked."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import GateFailed, InvalidInput, from_os_error
from ...networks.zoo import named, parts_of
from ...system.download import Progress, borrowed, clear_borrowed, is_theirs, one_download
from ...system.files import (
    leftover_of,
    no_empty_parents,
    remove_at_once,
    require_file,
    sha256_file,
    staged_folder,
)
from ...system.leftovers import clear_dead
from ...system.locks import clear_lock, lock_beside
from ..check.verify import HUB_FILE, HUB_FOLDER, extract, hub_blobs, place, shown
from ..signer import Signer
from .source import Source, below, is_url, open_folder, open_url

MAX_ARCHIVE = 1 << 28
"""Bytes of an archive; that of the largest network has some 20 million."""


@dataclass(frozen=True)
class Fetched:
    """A network's folder, complete and checked; `fetched` is False where it was there already, intact."""

    network: str
    version: str
    folder: Path
    fetched: bool
    source: Source
    files: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON. `sha256` is that of the release's SHA256SUMS, `files` those of the network's files."""
        return {
            "network": self.network,
            "version": self.version,
            "folder": str(self.folder),
            "fetched": self.fetched,
            "release": self.source.location,
            "sha256": self.source.sha256,
            "vouched_by": list(self.source.vouched),
            "files": dict(self.files),
        }


def fetch(
    network: str,
    release: str | Path,
    *,
    sha256: str | None = None,
    signer: Signer | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
) -> Fetched:
    """Bring `network` from `release` into the folder `output`/`network`, by default in the current folder.

    `release` is the URL of a release, served as plain files, or its folder. Of a URL, `sha256` (that of its SHA256SUMS)
    or the `signer` of the release is needed; of a folder both are optional. A network that is there already and intact
    stays as it is; anything else of that name stays too, and is an error. The folder appears by one rename. A download
    that is cut off goes on with the next call. `progress` gets (bytes, total bytes or None).

    Raises `InvalidInput` (no such network, a URL that nothing vouches for, an output that can't be written),
    `GateFailed` (something differs from what is vouched for) and `Unavailable` (no network, a full disk).
    """
    require_known(network)
    source = open_release(release, sha256=sha256, signer=signer)
    if source.single:
        raise InvalidInput(f"{source.location} is the folder of one network already. Name a release.")
    folder = (output or Path()) / network
    fetched = install(source, network, folder, progress=progress)
    return Fetched(network, source.version(network), folder, fetched, source, source.files(network))


def require_known(network: str) -> None:
    """Raise `InvalidInput`, naming some, where `network` cannot be the name of one; a release may have any."""
    if parts_of(network) is None:
        named(network)


def open_release(
    release: str | Path, *, sha256: str | None = None, signer: Signer | None = None, kept: Path | None = None
) -> Source:
    """`open_url` or `open_folder`, whichever `release` is; a path may begin with `~`."""
    if "\0" in str(release):
        raise InvalidInput(f"{str(release)!r}: no name holds a NUL character.")
    if signer is not None:  # before anything is downloaded
        from ..sign import require_extra

        require_extra()
        if signer.public_key is not None:
            require_file(signer.public_key)
    if is_url(release):
        return open_url(str(release), sha256=sha256, signer=signer, kept=kept)
    try:
        folder = Path(release).expanduser()  # shells leave --release=~/x alone
    except RuntimeError as error:
        raise InvalidInput(f"there is no folder {release}: {error}") from error
    return open_folder(folder, sha256=sha256, signer=signer)


def install(
    source: Source, network: str, folder: Path, *, replace: bool = False, progress: Progress | None = None
) -> bool:
    """Make `folder` the intact folder of `network`; False where it was that already.

    What else stands under that name is an error, or removed with `replace`: everything there is ours then. The archive
    is downloaded beside `folder`, and removed again unless somebody had put it there. Raises like `fetch`.
    """
    files, archive = source.files(network), source.archive(network)
    path = folder.with_name(archive)
    if os.path.lexists(folder) and not difference(folder, files):
        clear_borrowed(path)
        clear_lock(lock_beside(folder))
        clear_dead(folder)
        return False
    try:
        with no_empty_parents(folder), one_download(folder):
            _clear(folder)
            if os.path.lexists(folder):
                problem = difference(folder, files)
                if not problem:  # another process was quicker
                    return False
                if not replace:
                    raise InvalidInput(
                        f"{folder} is there already, and is not {network} of this release: {problem}.\n"
                        "Move it away, or choose another --output."
                    )
                remove_at_once(folder)
            if source.folder is not None:
                _unpack(source.folder / archive, files, folder, blobs=hub_blobs(source.folder))
                return True
            url, digest = below(source.url, archive), source.digests[archive]
            if not replace and is_theirs(path) and _is_other(path, digest):
                raise InvalidInput(
                    f"{path} is there already, and is not the archive of this release.\n"
                    "Move it away, or choose another --output."
                )
            with borrowed(url, path, ours=replace, sha256=digest, progress=progress, max_bytes=MAX_ARCHIVE):
                _unpack(path, files, folder)
            return True
    except OSError as error:
        raise from_os_error(error, f"write {folder}") from error


def _is_other(path: Path, sha256: str) -> bool:
    """Whether `path` is anything but a regular file of that digest."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_ARCHIVE:
        return True
    return sha256_file(path) != sha256


def difference(folder: Path, files: Mapping[str, str], *, hub: bool = False) -> str:
    """Say what is wrong with `folder` as the folder of exactly `files` (sha256 by path); "" where nothing is.

    Nothing is followed or opened that is no regular file. With `hub`, links to blobs of the Hugging Face Hub's cache
    are files too, and what the Hub adds is left aside, as `verify` does.
    """
    blobs = hub_blobs(folder) if hub else None
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return "it is not a folder"
        found = {name: is_file for name, is_file in _walk(folder) if not (hub and _is_hubs(name))}
        for name in sorted(found.keys() | files.keys()):
            path = place(folder / name, blobs)
            if name not in files:
                return f"{shown(name)} does not belong there"
            if name not in found:
                return f"{name} is missing"
            if not found[name] and path == folder / name:
                return f"{name} is not a regular file"
            if sha256_file(path) != files[name]:
                return f"{name} differs"
    except OSError as error:
        return f"{error.filename or folder} cannot be read ({error.strerror or error})"
    return ""


def _is_hubs(name: str) -> bool:
    return name == HUB_FILE or name.startswith(f"{HUB_FOLDER}/")


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Relative path of everything below `folder`, folders with something in them excepted, and if it is a file."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                inside = list(_walk(Path(entry.path), f"{name}/"))
                yield from inside or [(name, False)]
            else:
                yield name, entry.is_file(follow_symlinks=False)


def _unpack(archive: Path, files: Mapping[str, str], folder: Path, *, blobs: Path | None = None) -> None:
    """Unpack `archive` as the new `folder`, which appears once it is found to hold exactly `files`."""
    with staged_folder(folder) as staging:
        problems = extract(archive, staging, blobs=blobs)
        if problems:
            raise GateFailed(f"{archive} is refused, and was not unpacked: {problems[0]}.")
        problem = difference(staging, files)
        if problem:
            raise GateFailed(f"{archive} is not what the release says, and was not unpacked: {problem}.")


def _clear(folder: Path) -> None:
    """Remove the hidden folders that killed processes left beside `folder`; whoever holds its lock may."""
    for path in folder.parent.iterdir():
        if leftover_of(path) == folder.name and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
