"""Archives whose bytes depend on their files' contents and one date only."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from cifar_export.release.archive import write_archive

EPOCH = 1_700_000_000


def folder_of(path: Path) -> Path:
    (path / "test_data_set_0").mkdir(parents=True)
    (path / "model.onnx").write_bytes(b"model")
    (path / "labels.txt").write_bytes(b"cat\n")
    (path / "test_data_set_0" / "input_0.pb").write_bytes(bytes(1000))
    return path


def test_members_say_nothing_of_the_files_but_their_contents(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "network")
    for name, mode in (("model.onnx", 0o600), ("labels.txt", 0o755)):
        (folder / name).chmod(mode)
        os.utime(folder / name, (1, 1))
    write_archive(folder, "cifar10_resnet20", tmp_path / "a.tar.gz", EPOCH)
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        members = archive.getmembers()
        assert archive.extractfile("cifar10_resnet20/model.onnx").read() == b"model"  # type: ignore[union-attr]
    names = ["labels.txt", "model.onnx", "test_data_set_0/input_0.pb"]
    assert [member.name for member in members] == [f"cifar10_resnet20/{name}" for name in names]
    for member in members:
        assert (member.isreg(), member.mode, member.mtime) == (True, 0o644, EPOCH)
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")


def test_the_compressed_header_has_that_date_and_no_name(tmp_path: Path) -> None:
    """RFC 1952, 2.3: magic, method, no flags (so no name), the time, little-endian."""
    write_archive(folder_of(tmp_path / "network"), "n", tmp_path / "a.tar.gz", EPOCH)
    header = (tmp_path / "a.tar.gz").read_bytes()[:8]
    assert (header[:4], int.from_bytes(header[4:], "little")) == (b"\x1f\x8b\x08\x00", EPOCH)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o4755])
def test_another_folder_with_the_same_contents_gives_the_same_bytes(tmp_path: Path, mode: int) -> None:
    for name in ("a", "b"):
        folder_of(tmp_path / name)
    (tmp_path / "b" / "model.onnx").chmod(mode)
    for name in ("a", "b"):
        write_archive(tmp_path / name, "n", tmp_path / f"{name}.tar.gz", EPOCH)
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    write_archive(tmp_path / "a", "n", tmp_path / "later.tar.gz", EPOCH + 1)
    assert (tmp_path / "a.tar.gz").read_bytes() != (tmp_path / "later.tar.gz").read_bytes()
