"""Download a data set's official archive, and unpack exactly its files: all of them, or none."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import GateFailed, InvalidInput, from_os_error
from ..networks.zoo import CIFAR10, CIFAR100, DatasetSpec
from ..system.download import Progress, borrowed, clear_borrowed
from ..system.files import staged_folder
from ..system.leftovers import clear_dead
from .check import STATES, DataReport, check
from .layout import BINARY, SPLITS, image_count

OFFICIAL_URL = "https://www.cs.toronto.edu/~kriz/"
URL_VARIABLE = "CIFAR_EXPORT_DATA_URL"
MAX_TEXT_BYTES = 1 << 16
MAX_MEMBERS = 64


@dataclass(frozen=True)
class Archive:
    """An official archive: its name under `OFFICIAL_URL`, and its digests."""

    name: str
    md5: str
    sha256: str


# The md5s stand on https://www.cs.toronto.edu/~kriz/cifar.html. They are for accidents; against forgery (md5 collisions
# can be made) there are the sha256s, which many public readers of the binary version carry.
ARCHIVES: dict[str, Archive] = {
    CIFAR10.name: Archive(
        name="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    CIFAR100.name: Archive(
        name="cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
}


@dataclass(frozen=True)
class FetchReport:
    """What `fetch` did: whether anything was downloaded or unpacked, and what stands there now."""

    fetched: bool
    data: DataReport

    def as_dict(self) -> dict[str, Any]:
        """Return `fetched` and the fields of the `DataReport` for JSON."""
        return {"fetched": self.fetched, **self.data.as_dict()}


def fetch(
    dataset: DatasetSpec, data_dir: Path, *, progress: Progress | None = None, url: str | None = None
) -> FetchReport:
    """Bring the binary version of `dataset` into `data_dir`, unless it is complete there already.

    `url` is where the archives lie; without it the environment's `CIFAR_EXPORT_DATA_URL`, and then the official place.
    The digests hold for mirrors too. An archive of that name that lies in `data_dir` is taken without a network. What
    is already there and whole, in whatever record order, stays; files of ours that are short or broken are replaced.

    Raises `Unavailable` (no network, a full disk), `GateFailed` (another file came than the official one), and
    `InvalidInput` (a folder that can't be written).
    """
    archive = ARCHIVES[dataset.name]
    path = data_dir / archive.name
    found = check(dataset, data_dir)
    if found.complete:
        clear_borrowed(path)
        clear_dead(data_dir / BINARY[dataset.name].folder)
        return FetchReport(fetched=False, data=found)
    base = url or os.environ.get(URL_VARIABLE) or OFFICIAL_URL
    with borrowed(
        f"{base.rstrip('/')}/{archive.name}",
        path,
        keep=True,
        md5=archive.md5,
        sha256=archive.sha256,
        progress=progress,
        hint=f"or put {archive.name} into {data_dir}, or name a mirror in {URL_VARIABLE}",
    ):
        unpack(path, dataset, data_dir)
    found = check(dataset, data_dir)
    if not found.complete:
        raise GateFailed(f"{dataset.title} in {data_dir} is {STATES[found.state]} after unpacking: {found.problems[0]}")
    return FetchReport(fetched=True, data=found)


def unpack(archive: Path, dataset: DatasetSpec, data_dir: Path) -> None:
    """Unpack the official files of `dataset` from `archive` (.tar.gz) into `data_dir`.

    They are unpacked beside their place and renamed into it only when all are there in their right sizes. Of the
    archive only regular files of the expected names are taken. Raises `InvalidInput` for anything that could leave the
    folder or fill the disk (other paths, links, devices, wrong sizes), and for a damaged archive; then `data_dir` is
    as it was.
    """
    target = data_dir / BINARY[dataset.name].folder
    try:
        with staged_folder(target, merge=True) as staging:  # what else lies there is not ours to remove
            staging.mkdir()
            _unpack_into(staging, archive, dataset)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidInput(f"{archive} is damaged: {error}. Remove it and fetch it again.") from error
    except OSError as error:
        raise from_os_error(error, f"unpack {archive} into {data_dir}") from error


def _unpack_into(staging: Path, archive: Path, dataset: DatasetSpec) -> None:
    layout = BINARY[dataset.name]
    sizes = {
        name: image_count(dataset, split) // len(layout.files(split)) * layout.record_bytes
        for split in SPLITS
        for name in layout.files(split)
    }
    missing = set(sizes)
    with tarfile.open(archive, "r:gz") as tar:
        for count, member in enumerate(tar):
            if count >= MAX_MEMBERS:
                raise _not_official(archive, f"more than {MAX_MEMBERS} members")
            name = _plain_name(archive, member, layout.folder)
            if name in sizes and member.size != sizes[name]:
                raise _not_official(archive, f"{name} has {member.size:,} bytes, {sizes[name]:,} expected")
            if name not in sizes and member.size > MAX_TEXT_BYTES:
                raise _not_official(archive, f"{name} has {member.size:,} bytes, at most {MAX_TEXT_BYTES:,} expected")
            if (staging / name).is_file():
                raise _not_official(archive, f"{name} comes twice")
            source = tar.extractfile(member) if name in sizes or name in layout.text_files else None
            if source:
                with source, (staging / name).open("wb") as file:  # a path of ours, none of the archive's
                    shutil.copyfileobj(source, file)
                missing.discard(name)
    if missing:
        raise _not_official(archive, f"{', '.join(sorted(missing))} missing")


def _plain_name(archive: Path, member: tarfile.TarInfo, folder: str) -> str:
    """Return the file name of a regular member right inside `folder`, "" for the folder itself; refuse all others."""
    path = PurePosixPath(member.name)
    if member.isdir() and path == PurePosixPath(folder):
        return ""
    if not member.isfile() or path.parts[:-1] != (folder,) or path.name == "..":
        raise _not_official(archive, f"unexpected member {member.name!r}")
    return path.name


def _not_official(archive: Path, reason: str) -> InvalidInput:
    return InvalidInput(f"{archive} is not the official archive: {reason}.\nRemove it and fetch it again.")
