"""Every hostile release is refused, for the reason that a user needs to read, and the terminal stays whole."""

import json
import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from cifar_export.release.check import verify as verifier
from cifar_export.release.check.verify import MAX_PROBLEMS, extract, main, verify

from support.hostile import CASES, archives
from support.hostile.case import ARCHIVE, NETWORK, Case
from support.releases import fake_release

COMPLAINT = re.compile(r"[ -~]{1,600}")


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_release(tmp_path_factory.mktemp("intact") / "1.0.0")


@pytest.fixture
def release(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "here" / "1.0.0"))


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_release_is_refused(case: Case, release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = case.make(release) or release
    assert main([str(path), "--json"]) == 1
    output = capsys.readouterr()
    document = json.loads(output.out)
    problems = document["problems"]
    assert any(case.says in problem for problem in problems), problems
    if case.alone:
        assert len(problems) == 1, problems
    assert len(problems) <= MAX_PROBLEMS + 1
    assert all(COMPLAINT.fullmatch(problem) for problem in problems)
    assert document["verdict"] == "not intact"
    assert output.out.isascii()
    assert not output.err


@pytest.mark.parametrize("case", archives.CASES, ids=lambda case: case.name)
def test_hostile_archive_leaves_nothing(case: Case, release: Path, tmp_path: Path) -> None:
    path = case.make(release)
    assert path is not None
    before = set(tmp_path.rglob("*"))
    problems = extract(path, tmp_path / "new")
    assert any(case.says in problem for problem in problems)
    assert set(tmp_path.rglob("*")) == before


def test_what_follows_an_archive_is_noticed_wherever_reading_paused(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = release / ARCHIVE
    monkeypatch.setattr(verifier, "_BLOCK", archive.stat().st_size)
    assert verify(archive).intact
    with archive.open("ab") as stream:
        stream.write(b"#!/bin/sh")
    assert verify(archive).problems == [f"{ARCHIVE}: something follows the end of the compressed data"]


@pytest.mark.parametrize("place", ["SHA256SUMS", f"{NETWORK}/model.onnx", "extra", f"{NETWORK}/extra"])
def test_what_is_no_regular_file_is_never_opened(place: str, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a device can rewind a tape; a test can't have one, so a pipe stands for it."""
    (release / place).unlink(missing_ok=True)
    os.mkfifo(release / place)
    opened = []
    real = os.open

    def noting(path: object, *arguments: int) -> int:
        opened.append(str(path))
        return real(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(verifier.os, "open", noting)
    assert not verify(release).intact
    assert str(release / place) not in opened


def test_file_swapped_for_a_link_after_the_look_is_not_followed(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = release / NETWORK / "model.pt2"
    real = os.lstat

    def swapping(path: object) -> os.stat_result:
        status = real(path)  # type: ignore[arg-type]
        if Path(str(path)) == model and stat.S_ISREG(status.st_mode):
            model.rename(tmp_path / "elsewhere")
            model.symlink_to(tmp_path / "elsewhere")
        return status

    monkeypatch.setattr(verifier.os, "lstat", swapping)
    assert verify(release, threads=1).problems == [f"{NETWORK}/model.pt2: a symbolic link"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("place", [f"{NETWORK}/model.pt2", f"{NETWORK}/uint8"])
def test_unreadable_is_a_problem(place: str, release: Path) -> None:
    (release / place).chmod(0)
    assert any("can't be read: Permission denied" in problem for problem in verify(release).problems)


def test_symbolic_link_to_a_release_is_refused(release: Path, tmp_path: Path) -> None:
    for link, target in ((tmp_path / "latest", release), (tmp_path / "latest.tar.gz", release / ARCHIVE)):
        link.symlink_to(target)
        with pytest.raises(ValueError, match="is a symbolic link"):
            verify(link)
    with pytest.raises(OSError, match="symbolic link"):
        extract(tmp_path / "latest.tar.gz", tmp_path / "new")
    assert not (tmp_path / "new").exists()
