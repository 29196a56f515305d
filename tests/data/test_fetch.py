"""Fetching the archives from a mirror, and unpacking them, hostile ones included."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cifar_export.data.check
import cifar_export.data.fetch
from cifar_export.data import load_split
from cifar_export.data.fetch import ARCHIVES, fetch, unpack
from cifar_export.errors import GateFailed, InvalidInput, Unavailable
from cifar_export.networks.zoo import CIFAR10, CIFAR100, DatasetSpec

from support.data_files import Mirror, contents, folder_member, pack, to_python
from support.web_server import Server

Write = Callable[..., DatasetSpec]


def test_fetch_brings_the_whole_data_set(tmp_path: Path, mirror: Mirror, http_server: Server) -> None:
    spec, files = mirror
    seen: list[tuple[int, int | None]] = []
    report = fetch(spec, tmp_path / "data", progress=lambda done, total: seen.append((done, total)))
    assert report.fetched
    assert report.as_dict()["fetched"] is True
    assert report.as_dict()["ok"] is True
    assert contents(tmp_path / "data") == files  # and nothing else: no archive, no temporary files
    assert seen[-1][0] == seen[-1][1] == (http_server.root / ARCHIVES["cifar10"].name).stat().st_size
    assert len(load_split(tmp_path / "data", spec, "train").labels) == 200


def test_fetch_leaves_alone_what_is_complete(tmp_path: Path, mirror: Mirror, http_server: Server) -> None:
    spec, _ = mirror
    fetch(spec, tmp_path / "data")
    http_server.requests.clear()
    path = tmp_path / "data" / "cifar-10-batches-bin" / "test_batch.bin"
    records = np.fromfile(path, np.uint8).reshape(-1, 3073)
    path.write_bytes(records[::-1].tobytes())  # another record order is complete, too
    before = contents(tmp_path / "data")
    report = fetch(spec, tmp_path / "data")
    assert not report.fetched
    assert http_server.requests == []
    assert contents(tmp_path / "data") == before


def test_fetch_leaves_alone_what_is_complete_among_foreign_files(
    tmp_path: Path, mirror: Mirror, http_server: Server
) -> None:
    spec, _ = mirror
    fetch(spec, tmp_path / "data")
    (tmp_path / "data" / "cifar-10-batches-bin" / "mine.txt").write_text("mine")
    assert not fetch(spec, tmp_path / "data").fetched
    assert len(http_server.requests) == 1


def test_fetch_leaves_a_torchvision_folder_alone(
    tmp_path: Path, write_cifar: Write, http_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_cifar(tmp_path / "data", CIFAR10)
    to_python(tmp_path / "data", CIFAR10, monkeypatch)
    report = fetch(spec, tmp_path / "data", url=http_server.url)
    assert (report.fetched, report.data.layout) == (False, "python")
    assert http_server.requests == []


def test_fetch_repairs_and_keeps_foreign_files(tmp_path: Path, mirror: Mirror) -> None:
    spec, files = mirror
    folder = tmp_path / "data" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "test_batch.bin").write_bytes(b"short")
    (folder / "mine.txt").write_bytes(b"mine")
    report = fetch(spec, tmp_path / "data")
    assert report.fetched
    assert contents(tmp_path / "data") == {**files, "cifar-10-batches-bin/mine.txt": b"mine"}
    assert report.data.foreign == ("cifar-10-batches-bin/mine.txt",)


def test_an_archive_that_lies_there_is_used_and_kept(tmp_path: Path, mirror: Mirror, http_server: Server) -> None:
    spec, files = mirror
    (tmp_path / "data").mkdir()
    name = ARCHIVES["cifar10"].name
    shutil.copy(http_server.root / name, tmp_path / "data" / name)
    fetch(spec, tmp_path / "data", url="https://no.such.host.invalid/")
    assert contents(tmp_path / "data").keys() == {*files, name}


def test_fetch_goes_on_after_an_interruption(tmp_path: Path, mirror: Mirror, http_server: Server) -> None:
    spec, files = mirror

    def interrupt(done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(spec, tmp_path / "data", progress=interrupt)
    kept = contents(tmp_path / "data")[f"{ARCHIVES['cifar10'].name}.part"]
    fetch(spec, tmp_path / "data")
    assert http_server.ranges_asked == [None, f"bytes={len(kept)}-"]
    assert contents(tmp_path / "data") == files


def test_a_mirror_with_other_bytes_is_refused(tmp_path: Path, mirror: Mirror, http_server: Server) -> None:
    spec, _ = mirror
    archive = http_server.root / ARCHIVES["cifar10"].name
    raw = bytearray(archive.read_bytes())
    raw[len(raw) // 2] ^= 1
    archive.write_bytes(raw)
    with pytest.raises(GateFailed, match="sha256"):
        fetch(spec, tmp_path / "data")
    assert contents(tmp_path / "data") == {}


def test_the_published_md5_is_checked_as_well(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, _ = mirror
    monkeypatch.setitem(ARCHIVES, "cifar10", replace(ARCHIVES["cifar10"], md5="0" * 32))
    with pytest.raises(GateFailed, match="md5 0000"):
        fetch(spec, tmp_path / "data")


def test_offline_says_what_else_can_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_export.system.http.BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(Unavailable, match=r"no\.such\.host\.invalid") as caught:
        fetch(CIFAR100, tmp_path, url="https://no.such.host.invalid/~kriz")
    assert "https://no.such.host.invalid/~kriz/cifar-100-binary.tar.gz" in str(caught.value)
    assert f"put cifar-100-binary.tar.gz into {tmp_path}" in str(caught.value)
    assert "CIFAR_EXPORT_DATA_URL" in str(caught.value)


def test_the_published_digests() -> None:
    """As https://www.cs.toronto.edu/~kriz/cifar.html states them."""
    assert ARCHIVES["cifar10"].md5 == "c32a1d4ab5d03f1284b67883e8d87530"
    assert ARCHIVES["cifar100"].md5 == "03b5dce01913d631647c71ecec9e9cb8"
    assert cifar_export.data.fetch.OFFICIAL_URL == "https://www.cs.toronto.edu/~kriz/"


# Archives that want to do harm: the digest would stop them, and unpacking does not rely on it


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.devmajor, info.devminor = kind, 1, 3
    return info


TEST = "cifar-10-batches-bin/test_batch.bin"
NAMES = "cifar-10-batches-bin/batches.meta.txt"


@pytest.mark.parametrize(
    "member",
    [
        ("../escaped", b"x"),
        ("/tmp/escaped", b"x"),
        ("cifar-10-batches-bin/../../escaped", b"x"),
        ("cifar-10-batches-bin/..", b"x"),
        ("cifar-10-batches-bin/deeper/test_batch.bin", b"x"),
        ("elsewhere/test_batch.bin", b"x"),
        ("test_batch.bin", b"x"),
        (folder_member("elsewhere"), b""),
        (folder_member("cifar-10-batches-bin/.."), b""),
        (link(TEST, "/etc/hostname", tarfile.SYMTYPE), b""),
        (link(NAMES, TEST, tarfile.SYMTYPE), b""),
        (link(NAMES, TEST, tarfile.LNKTYPE), b""),
        (special(NAMES, tarfile.FIFOTYPE), b""),
        (link("cifar-10-batches-bin", "/tmp", tarfile.SYMTYPE), b""),
        (link(TEST, "/etc/hostname", tarfile.LNKTYPE), b""),
        (special(TEST, tarfile.CHRTYPE), b""),
        (special(TEST, tarfile.BLKTYPE), b""),
        (special(TEST, tarfile.FIFOTYPE), b""),
        ("cifar-10-batches-bin/batches.meta.txt", bytes(1 << 17)),
        ("cifar-10-batches-bin/unknown.bin", bytes(1 << 17)),
        (TEST, bytes(307_299)),
        (TEST, bytes(307_301)),
    ],
    ids=lambda member: f"{getattr(member[0], 'name', member[0])}",
)
@pytest.mark.parametrize("first", [True, False])
def test_a_hostile_archive_changes_nothing(
    tmp_path: Path, mirror: Mirror, member: tuple[tarfile.TarInfo | str, bytes], first: bool
) -> None:
    spec, files = mirror
    name = getattr(member[0], "name", member[0])
    others = [item for item in files.items() if item[0] != name]  # nothing else is wrong with the archive
    members = [member, *others] if first else [*others, member]
    archive = pack(tmp_path / "hostile.tar.gz", members)
    data = tmp_path / "data"
    data.mkdir()
    before = contents(tmp_path)
    with pytest.raises(InvalidInput, match=r"is not the official archive: (unexpected member|.* bytes, .* expected)"):
        unpack(archive, spec, data)
    assert list(data.iterdir()) == []
    assert contents(tmp_path) == before


def test_a_member_that_comes_twice_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    spec, files = mirror
    archive = pack(tmp_path / "twice.tar.gz", [*files.items(), (TEST, bytes(307_300))])
    with pytest.raises(InvalidInput, match="comes twice"):
        unpack(archive, spec, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_an_endless_archive_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    spec, files = mirror
    many = [(f"cifar-10-batches-bin/{i}", b"") for i in range(100)]
    archive = pack(tmp_path / "many.tar.gz", [*many, *files.items()])
    with pytest.raises(InvalidInput, match="more than 64 members"):
        unpack(archive, spec, tmp_path / "data")


def test_a_small_unknown_file_is_passed_over(tmp_path: Path, mirror: Mirror) -> None:
    spec, files = mirror
    archive = pack(tmp_path / "more.tar.gz", [("cifar-10-batches-bin/notes", b"x"), *files.items()])
    unpack(archive, spec, tmp_path / "data")
    assert contents(tmp_path / "data") == files


@pytest.mark.parametrize("missing", [TEST, "cifar-10-batches-bin/data_batch_5.bin"])
def test_an_archive_that_lacks_a_file(tmp_path: Path, mirror: Mirror, missing: str) -> None:
    spec, files = mirror
    archive = pack(tmp_path / "less.tar.gz", [item for item in files.items() if item[0] != missing])
    with pytest.raises(InvalidInput, match=f"{Path(missing).name} missing"):
        unpack(archive, spec, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999])
def test_a_truncated_archive(tmp_path: Path, mirror: Mirror, http_server: Server, keep: float) -> None:
    spec, _ = mirror
    raw = (http_server.root / ARCHIVES["cifar10"].name).read_bytes()
    archive = tmp_path / "short.tar.gz"
    archive.write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(InvalidInput, match="is damaged"):
        unpack(archive, spec, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_something_else_than_an_archive(tmp_path: Path) -> None:
    (tmp_path / "page.tar.gz").write_bytes(b"<html>please log in</html>" * 100)
    with pytest.raises(InvalidInput, match="is damaged"):
        unpack(tmp_path / "page.tar.gz", CIFAR10, tmp_path / "data")


def test_a_full_disk_while_unpacking_leaves_the_old_files(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    spec, files = mirror
    folder = tmp_path / "data" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "test_batch.bin").write_bytes(b"short")

    def full(source: Any, target: Any) -> None:
        target.write(source.read(1000))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", full)
        with pytest.raises(Unavailable, match="No space left on device"):
            fetch(spec, tmp_path / "data")
    name = ARCHIVES["cifar10"].name
    kept = {name, f"{name}.part.json"}  # no second download, and a note that it is ours
    assert contents(tmp_path / "data").keys() == {"cifar-10-batches-bin/test_batch.bin", *kept}
    assert (folder / "test_batch.bin").read_bytes() == b"short"
    fetch(spec, tmp_path / "data", url="https://no.such.host.invalid/")
    assert contents(tmp_path / "data") == files


def test_a_data_folder_that_is_a_file(tmp_path: Path, mirror: Mirror) -> None:
    spec, _ = mirror
    (tmp_path / "taken").write_text("")
    with pytest.raises(InvalidInput, match="taken"):
        fetch(spec, tmp_path / "taken")
