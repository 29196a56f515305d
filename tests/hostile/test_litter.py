"""What a killed process leaves, the next run into the same place removes: if it is ours, and nobody's any more."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from cifar_export.system import files, leftovers
from cifar_export.system.files import hidden_folder, staged, write_atomically

pytestmark = pytest.mark.skipif(leftovers.fcntl is None, reason="needs the locks of POSIX")

KILLED = """
import os, signal, sys
from pathlib import Path
from cifar_export.system.files import hidden_folder, staged
with {what}(Path(sys.argv[1])) as made:
    if {what!r} == "staged":
        made.write_text("half")
    else:
        made.mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""
OLD = 1_000_000_000  # long ago


def age(folder: Path) -> list[Path]:
    left = list(folder.iterdir())
    for path in left:
        os.utime(path, (OLD, OLD))
    return left


@pytest.mark.parametrize("what", ["staged", "hidden_folder"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, what: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED.format(what=what), str(tmp_path / "a")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(age(tmp_path)) == 1
    if what == "staged":
        write_atomically(tmp_path / "a", b"new")
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
    else:
        with hidden_folder(tmp_path / "a"):
            assert len(list(tmp_path.iterdir())) == 1
        assert list(tmp_path.iterdir()) == []


def test_of_a_process_that_lives_nothing_is_removed(tmp_path: Path) -> None:
    with staged(tmp_path / "a") as temporary, hidden_folder(tmp_path / "a") as made:
        temporary.write_text("half")
        age(tmp_path)
        write_atomically(tmp_path / "a", b"new")
        assert temporary.read_text() == "half"
        assert made.parent.is_dir()
    assert (tmp_path / "a").read_text() == "half"


@pytest.mark.parametrize(
    "name", [".0123abcd.tmp.b", ".0123abcd.tmp", ".0123ABCD.tmp.a", "0123abcd.tmp.a", ".a", ".0123abcd.a"]
)
def test_what_is_called_otherwise_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    age(tmp_path)
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / name).read_text() == "mine"


def test_what_is_young_or_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".00000000.tmp.a").symlink_to("mine")
    os.utime(tmp_path / ".00000000.tmp.a", (OLD, OLD), follow_symlinks=False)
    (tmp_path / ".00000001.tmp.a").write_text("just made")
    write_atomically(tmp_path / "a", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".00000000.tmp.a", ".00000001.tmp.a", "a", "mine"]


def test_a_umask_that_forbids_reading_changes_nothing(tmp_path: Path) -> None:
    before = os.umask(0o477)
    try:
        write_atomically(tmp_path / "a", b"new")
        with files.staged_folder(tmp_path / "b") as made:
            made.mkdir(0o700)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) & 0o600 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


HELD = """
import signal, sys
from cifar_export.system import files
number, seen = int(sys.argv[1]), []
signal.signal(number, lambda received, _: seen.append(received))
with files.interrupts_held():
    signal.raise_signal(number)
    print(seen)
print(seen)
"""


@pytest.mark.parametrize("number", files.ENDING)
def test_a_signal_waits_until_the_last_rename(number: int) -> None:
    """In a process of its own: a worker of pytest was ended by such a signal, now and then."""
    done = subprocess.run([sys.executable, "-c", HELD, str(int(number))], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"[]\n[{int(number)}]\n"), done.stderr


def test_an_export_that_another_has_replaced_says_so(
    run: Callable[..., Result], weights20_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "a.onnx"
    arguments = ["onnx", "resnet20", "--weights", weights20_file, "--no-check", "--output", output, "--json"]
    done = run(*arguments)
    assert (json.loads(done.stdout)["replaced"], done.stderr) == (False, "")
    from cifar_export.exporting.artifact import Artifact

    real = Artifact.stands

    def stands(artifact: Artifact) -> bool:
        output.write_text("another's")
        return real(artifact)

    monkeypatch.setattr(Artifact, "stands", stands)
    done = run(*arguments)
    assert (done.exit_code, json.loads(done.stdout)["replaced"]) == (0, True)
    assert "another process has replaced" in done.stderr
