"""What git tells of files as they stood in a commit."""

import os
import subprocess

import pytest

from cifar_export.errors import Unavailable
from cifar_export.system.commit import file_at, source_commit


@pytest.fixture
def commit(tmp_path, monkeypatch):
    """A function that commits all of a checkout in `tmp_path`, where this code seems to run, and returns the hash."""
    names = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    monkeypatch.setattr("cifar_export.system.commit.CHECKOUT", tmp_path)

    def make() -> str:
        for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"]):
            subprocess.run(["git", "-C", tmp_path, *arguments], env=os.environ | names, check=True, capture_output=True)
        return source_commit(required=True)

    return make


def test_a_file_is_read_as_it_stood(commit, tmp_path, monkeypatch):
    path = tmp_path / "folder" / "a.json"
    path.parent.mkdir()
    path.write_bytes(b"first\r\n\x00")
    first = commit()
    path.write_bytes(b"second")
    second = commit()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as in a hook
    assert file_at(first, "folder/a.json") == b"first\r\n\x00"
    assert file_at(second, "folder/a.json") == b"second"
    assert file_at(first, "folder/b.json") is None
    assert file_at(first, "folder") is None  # no file


def test_an_unknown_commit_is_no_missing_file(commit, tmp_path):
    (tmp_path / "a").write_text("")
    commit()
    with pytest.raises(Unavailable, match="git does not know commit ffffffffffff here"):
        file_at("f" * 40, "a")
