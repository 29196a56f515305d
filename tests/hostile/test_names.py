"""Files of the user's that are called as ours are: they are neither taken for ours nor removed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_export.errors import InvalidInput
from cifar_export.release.build.publish import workshop
from cifar_export.system.download import download
from cifar_export.training.run import _alone_in

from support.web_server import Server

DATA = bytes(range(256)) * 64
SHA256 = hashlib.sha256(DATA).hexdigest()


def build(folder: Path) -> None:
    with workshop(folder, "1.0.0", lambda line: None):
        assert any("cifar-export.lock" in path.name for path in folder.iterdir())


def run(folder: Path) -> None:
    with _alone_in(folder):
        assert any("cifar-export.lock" in path.name for path in folder.iterdir())


WORK: dict[str, Callable[[Path], None]] = {"a build": build, "a run": run}


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("content", ["", "mine"])
@pytest.mark.parametrize("name", [".lock", "lock", ".lock.lock", "cifar-export.lock"])
def test_a_lock_of_the_users_stays(tmp_path: Path, work: str, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    WORK[work](tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("content", ["", "mine"])
@pytest.mark.parametrize("name", ["a.part.lock", "a.lock", ".a.lock", ".a.part"])
def test_what_stands_beside_a_download_stays(http_server: Server, tmp_path: Path, name: str, content: str) -> None:
    (http_server.root / "a").write_bytes(DATA)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_text(content)
    download(f"{http_server.url}a", folder / "a", sha256=SHA256)
    assert sorted(path.name for path in folder.iterdir()) == sorted(["a", name])
    assert (folder / name).read_text() == content


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.part", b"mine"), ("a.part", DATA[:100]), ("a.part.json", b"{}"), ("a.part.json", b'{"url": 1}')],
)
def test_a_part_that_is_not_ours_is_named_and_stays(
    http_server: Server, tmp_path: Path, name: str, content: bytes
) -> None:
    (http_server.root / "a").write_bytes(DATA)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=r"not (a part of )?ours, .* Move it away"):
        download(f"{http_server.url}a", folder / "a", sha256=SHA256)
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_bytes() == content
