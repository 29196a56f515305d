"""A lock is held by one process at a time, whatever the others do meanwhile, and leaves no file behind."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cifar_export.errors import Unavailable
from cifar_export.system.locks import only_one

BUSY = Unavailable("another is at work")
PROCESS = """
import fcntl, os, sys
from pathlib import Path
from cifar_export.errors import Unavailable
from cifar_export.system.locks import only_one

lock, busy = Path(sys.argv[1]), Unavailable("busy")
"""
# Stops in the moment between opening the lock's file and locking it, where any process may be stopped.
LATE = """
lock_it, stopped = fcntl.flock, []

def flock(descriptor, operation):
    if not stopped:
        stopped.append(descriptor)
        print("opened", flush=True)
        sys.stdin.readline()
    lock_it(descriptor, operation)

fcntl.flock = flock
try:
    with only_one(lock, busy):
        print("held", flush=True)
except Unavailable as error:
    print(error, flush=True)
"""
DYING = """
with only_one(lock, busy):
    os._exit(7)
"""
# Many short holds: whoever holds the lock makes a file that nobody else may make in the meantime.
CONTENDING = """
for _ in range(40):
    with only_one(lock, busy, seconds=60):
        mark = lock.with_name("mark")
        mark.touch(exist_ok=False)
        mark.unlink()
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="stops a process inside flock")


def start(body: str, lock: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS + body, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen) -> int:
    process.communicate()
    return process.returncode


def test_one_process_holds_a_lock_until_it_ends(tmp_path):
    lock = tmp_path / "a.lock"
    with only_one(lock, BUSY), pytest.raises(Unavailable, match="another is at work"), only_one(lock, BUSY):
        pass
    assert ended(start(DYING, lock)) == 7
    assert lock.exists()  # as a killed process leaves it
    with only_one(lock, BUSY):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("held_again", [True, False])
def test_a_process_that_opened_the_file_before_it_was_removed_does_not_hold_a_dead_one(tmp_path, held_again):
    lock = tmp_path / "a.lock"
    with only_one(lock, BUSY):
        late = start(LATE, lock)
        assert late.stdout.readline() == "opened\n"
    if held_again:
        with only_one(lock, BUSY):
            assert late.communicate("go on\n")[0] == "busy\n"
    else:
        assert late.communicate("go on\n")[0] == "held\n"
    assert list(tmp_path.iterdir()) == []


def test_processes_that_contend_hold_it_one_at_a_time(tmp_path):
    contenders = [start(CONTENDING, tmp_path / "made" / "a.lock") for _ in range(4)]
    assert [ended(process) for process in contenders] == [0] * 4
    assert list((tmp_path / "made").iterdir()) == []


def test_it_is_waited_for(tmp_path):
    lock, order = tmp_path / "a.lock", []

    def second():
        with only_one(lock, BUSY, seconds=60):
            order.append("second")

    with only_one(lock, BUSY):
        thread = threading.Thread(target=second)
        thread.start()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_file_with_something_in_it_is_not_ours_to_remove(tmp_path):
    lock = tmp_path / "a.lock"
    lock.write_text("mine")
    with only_one(lock, BUSY), pytest.raises(Unavailable, match="another is at work"), only_one(lock, BUSY):
        pass
    assert lock.read_text() == "mine"


def test_a_link_is_neither_followed_nor_removed(tmp_path):
    lock = tmp_path / "a.lock"
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), only_one(lock, BUSY):
        pytest.fail("the body ran")
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


def test_a_filelock_that_is_too_old_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "filelock", type(sys)("filelock"))
    with pytest.raises(Unavailable, match=r"filelock 3\.30 or newer"), only_one(tmp_path / "a.lock", BUSY):
        pytest.fail("the body ran")
