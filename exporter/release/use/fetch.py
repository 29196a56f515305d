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
    hidden_folder,
    leftover_of,
    no_empty_parents,
    remove_at_once,
    require_file,
    sha256_file,
    staged_folder,
)
from ...system.hub import bring, is_hub
from ...system.leftovers import clear_dead
from ...system.locks import clear_lock, lock_beside
from ..check.checked import check
from ..check.verify import HUB_FILE, HUB_FOLDER, extract, hub_blobs, place, shown
from ..layout import SUMS
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

    `release` is the URL of a release, served as plain files, its folder, or `hf://ORG/NAME@REVISION`: a repository of
    the Hugging Face Hub that holds a release, or the folder of one network. Of a URL, `sha256` (that of its SHA256SUMS)
    or the `signer` of the release is needed; of a folder, and of a whole commit of the Hub, both are optional. A
    network that is there already and intact stays as it is; anything else of that name stays too, and is an error. The
    folder appears by one rename. A download that is cut off goes on with the next call, but for the Hub's. `progress`
    gets (bytes, total bytes or None).

    Raises `InvalidInput` (no such network, a URL that nothing vouches for, an output that can't be written),
    `GateFailed` (something differs from what is vouched for) and `Unavailable` (no network, a full disk).
    """
    require_known(network)
    source = open_release(release, sha256=sha256, signer=signer)
    if source.single and not is_hub(source.url):
        raise InvalidInput(f"{source.location} is the folder of one network already. Name a release.")
    folder = (output or Path()) / network
    fetched = install(source, network, folder, progress=progress)
    version = check(folder).version if source.single else source.version(network)
    return Fetched(network, str(version), folder, fetched, source, source.files(network))


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
    files = source.files(network)
    archive = None if source.single else source.archive(network)
    path = folder.with_name(archive or f"{network}.tar.gz")
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
            if is_hub(source.url) or archive is None:
                _bring(source, network, folder)
                return True
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


def _bring(source: Source, network: str, folder: Path) -> None:
    """Download `network` from the Hub as the new `folder`, which appears once it is found to be what `source` says.

    A repository that is the folder of one network has no archive: its files are downloaded.
    """
    files = source.files(network)
    with hidden_folder(folder) as staging:
        downloaded = staging.with_name("download")
        if source.single:
            bring(source.url, list(files), downloaded, max_bytes=MAX_ARCHIVE)
            _require_network(source, network, downloaded)
            with staged_folder(folder) as made:
                for name in files:
                    (made / name).parent.mkdir(parents=True, exist_ok=True)
                    (downloaded / name).rename(made / name)
            return
        archive = source.archive(network)
        bring(source.url, [archive], downloaded, max_bytes=MAX_ARCHIVE)
        found = sha256_file(downloaded / archive)
        if found != source.digests[archive]:
            raise GateFailed(
                f"{archive} of {source.location} is not the one that {SUMS} lists: "
                f"sha256 {source.digests[archive]} expected, {found} found."
            )
        _unpack(downloaded / archive, files, folder)


def _require_network(source: Source, network: str, folder: Path) -> None:
    """Raise `GateFailed` unless `folder` is what `source` says, `InvalidInput` where it is of another network."""
    problem = difference(folder, source.files(network), hub=True)
    checked = check(folder, hub=True)
    problem = problem or "".join(checked.problems[:1])
    if problem:
        raise GateFailed(f"{source.location} is not what it claims to be: {problem}.")
    (held,) = checked.networks
    if held != network:
        raise InvalidInput(f"{source.location} holds {held}, not {network}.")


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
