"""Files and folders that appear whole or not at all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_export.errors import InvalidInput
from cifar_export.system.files import (
    leftover_of,
    remove_at_once,
    sha256_bytes,
    sha256_file,
    staged,
    staged_folder,
    staged_together,
    write_atomically,
)


def test_a_failure_leaves_the_old_files_and_nothing_else(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("old")

    def fail_after_writing():
        with staged_together(first, second) as temporaries:
            for temporary in temporaries:
                temporary.write_text("new")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail_after_writing()
    assert first.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_success_replaces_all(tmp_path):
    first, second = tmp_path / "a", tmp_path / "deep" / "b"
    first.write_text("old")
    with staged_together(first, second) as temporaries:
        for temporary in temporaries:
            temporary.write_text("new")
    assert (first.read_text(), second.read_text()) == ("new", "new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "deep"]


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    with staged(tmp_path / "a.torchscript.pt") as temporary:
        temporary.write_text("x")
        assert temporary.name.endswith(".a.torchscript.pt")
        assert temporary.parent == tmp_path


def test_a_folder_in_the_way_is_named_before_anything_is_done(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(InvalidInput, match="it is a folder"), staged_together(tmp_path / "a", tmp_path / "b"):
        pytest.fail("the body ran")


def test_a_link_to_the_output_is_replaced_not_followed(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert (target.read_text(), link.read_text(), link.is_symlink()) == ("old", "new", False)


def test_both_sums_agree(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == sha256_bytes(data)


def test_folders_made_for_a_file_that_did_not_come_are_gone_again(tmp_path):
    def fail_in_a_new_folder():
        with staged(tmp_path / "new" / "deep" / "a") as temporary:
            temporary.write_text("x")
            raise ValueError("stop")

    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match="stop"):
        fail_in_a_new_folder()
    with pytest.raises(InvalidInput, match="too long"):
        write_atomically(tmp_path / "new" / ("a" * 250), b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_process_that_failed_does_not_take_the_folder_of_another(tmp_path):
    with staged(tmp_path / "new" / "b") as temporary:
        with pytest.raises(ValueError, match="stop"), staged(tmp_path / "new" / "a"):
            raise ValueError("stop")
        with pytest.raises(OSError, match="not empty"):  # what a process that made the folder does when it fails
            (tmp_path / "new").rmdir()
        temporary.write_text("b")
    assert (tmp_path / "new" / "b").read_text() == "b"


def test_a_folder_taken_away_before_anything_is_in_it_is_made_again(tmp_path, monkeypatch):
    touch, taken = Path.touch, []

    def take_away_once(path):
        if not taken:
            taken.append(path)
            path.parent.rmdir()
        touch(path)

    monkeypatch.setattr(Path, "touch", take_away_once)
    write_atomically(tmp_path / "new" / "a", b"x")
    assert (tmp_path / "new" / "a").read_bytes() == b"x"
    assert len(taken) == 1


def fill(folder):
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_text("new")
    (folder / "deep" / "b").write_text("new")


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_folder_appears_complete_and_alone(tmp_path):
    with staged_folder(tmp_path / "new" / "folder") as made:
        fill(made)
        assert made.name == "folder"
        assert not (tmp_path / "new" / "folder").exists()
    assert tree(tmp_path) == ["new", "new/folder", "new/folder/a", "new/folder/deep", "new/folder/deep/b"]


@pytest.mark.parametrize("when", ["in the body", "before anything is made", "while it is put on the disk"])
def test_of_a_folder_that_fails_nothing_stays(tmp_path, monkeypatch, when):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    def fail():
        with staged_folder(tmp_path / "new" / "folder") as made:
            if when != "before anything is made":
                fill(made)
            if when != "while it is put on the disk":
                raise OSError(28, "No space left on device")

    if when == "while it is put on the disk":
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        fail()
    assert tree(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_has_the_folders_name_is_not_replaced(tmp_path, kind):
    taken = tmp_path / "folder"
    mine = taken / "mine" if kind == "folder" else taken
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(OSError, match=r"not empty|exists|directory"), staged_folder(taken) as made:
        fill(made)
    assert mine.read_text() == "mine"
    assert tree(tmp_path) == (["folder", "folder/mine"] if kind == "folder" else ["folder"])


def test_a_folder_that_is_merged_keeps_what_else_it_holds(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("old")
    (folder / "mine").write_text("mine")
    with staged_folder(folder, merge=True) as made:
        made.mkdir()
        for name in ("a", "b"):
            (made / name).write_text("new")
    assert {name: (folder / name).read_text() for name in tree(folder)} == {"a": "new", "b": "new", "mine": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with staged_folder(tmp_path / "other", merge=True) as made:  # where there is none, it appears like any other
        fill(made)
    assert tree(tmp_path / "other") == ["a", "deep", "deep/b"]


def test_what_a_killed_process_leaves_is_known_by_its_name(tmp_path):
    code = "import os, sys; from pathlib import Path; from cifar_export.system.files import staged, staged_folder\n"
    code += "with staged(Path('a')), staged_folder(Path('b')) as made: made.mkdir(); os._exit(7)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert done.returncode == 7
    assert sorted(map(leftover_of, tmp_path.iterdir())) == ["a", "b"]
    names = ("a", ".a", ".tmp.a", ".0123abcd.tmp.", ".0123ABCD.tmp.a", ".0123abcd.part.a", ".0123abc.tmp.a")
    assert [leftover_of(tmp_path / name) for name in names] == [""] * len(names)
    assert leftover_of(tmp_path / ".4567cdef.tmp..0123abcd.tmp.a") == "a"


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_removed_goes_by_a_rename(tmp_path, monkeypatch, kind):
    kept, gone, seen = tmp_path / "kept", tmp_path / "gone", []
    fill(kept)
    if kind == "folder":
        fill(gone)
    elif kind == "file":
        gone.write_text("x")
    else:
        gone.symlink_to(kept)
    real = shutil.rmtree
    monkeypatch.setattr(
        shutil, "rmtree", lambda *given, **how: (seen.append(os.path.lexists(gone)), real(*given, **how))
    )
    remove_at_once(gone)
    assert seen == [False]
    assert tree(tmp_path) == ["kept", "kept/a", "kept/deep", "kept/deep/b"]


CTRL_C_BETWEEN_RENAMES = """
import os, signal, sys, threading
from pathlib import Path
from cifar_export.system.files import staged_folder, staged_together

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
# another thread is alive, which would take a signal that the main thread only masks
threading.Thread(target=threading.Event().wait, daemon=True).start()
first, second = Path("folder/a"), Path("folder/b")
first.parent.mkdir()
real = type(first).replace

def interrupted(self, target):
    real(self, target)
    os.kill(os.getpid(), signal.SIGINT)

try:
    with staged_together(first, second) if sys.argv[1] == "files" else staged_folder(first.parent, merge=True) as made:
        if sys.argv[1] == "files":
            temporaries = made
        else:
            made.mkdir()
            temporaries = (made / "a", made / "b")
        for temporary in temporaries:
            temporary.write_text("new")
        type(first).replace = interrupted
except KeyboardInterrupt:
    restored = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("interrupted", first.read_text(), second.read_text(), restored, len(os.listdir(".")))
"""


@pytest.mark.parametrize("kind", ["files", "folder"])
def test_ctrl_c_between_two_renames_waits_for_the_second(tmp_path, kind):
    """In a process of its own: a signal that went astray would end the tests."""
    done = subprocess.run(
        [sys.executable, "-c", CTRL_C_BETWEEN_RENAMES, kind],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted new new True 1\n", "")
