"""Builds that are killed, interrupted, short of disk or not alone: whole releases or none, and old ones untouched."""

import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cifar_export.release.build import shelf
from cifar_export.release.build.shelf import read_shelf
from cifar_export.release.check.verify import verify

from support.paths import ROOT
from support.releases import fake_network, fake_release

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and sends signals")
PATIENCE_S = 120
NAMES = ["cifar10_resnet20", "cifar100_resnet20"]
BEFORE_THE_RENAME = [
    "before cifar10_resnet20",
    "after cifar10_resnet20",
    "after cifar100_resnet20",
    "after archive",
    "before verify",
    "after settle",
    "before measurements",
    "after measurements",
]
AFTER_THE_RENAME = ["before index", "before index rename", "after index"]


class Driver:
    """Speaks with `release_driver.py`."""

    def __init__(self, templates: Path) -> None:
        tests = ROOT / "tests"
        self.process = subprocess.Popen(
            [sys.executable, str(tests / "support" / "release_driver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(tests), "RELEASE_TEMPLATES": str(templates)},
        )

    def order(self, **order: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self) -> tuple[int, str]:
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], PATIENCE_S)[0], "no answer"
        answer = json.loads(self.process.stdout.readline())
        return answer["code"], answer["said"]

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate()


@pytest.fixture(scope="module")
def drivers(tmp_path_factory):
    templates = tmp_path_factory.mktemp("templates")
    for name in NAMES:
        fake_network(templates / name, name)
    two = [Driver(templates), Driver(templates)]
    yield two
    for driver in two:
        driver.close()


@pytest.fixture
def build(drivers, tmp_path):
    """Run `package` in a process of its own: `build(actions={"after verify": "kill"})` gives exit status and text."""

    def run(*, version="1.0.0", output=tmp_path / "releases", wait=True, driver=0, options=(), **order):
        only = [word for name in NAMES for word in ("--only", name)]
        order["arguments"] = ["package", *only, "--version", version, "--output", str(output), *options]
        order["environment"] = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_STATE_HOME": str(tmp_path / "state")}
        drivers[driver].order(**order)
        return drivers[driver].answer() if wait else drivers[driver]

    return run


@pytest.fixture
def output(tmp_path):
    """A folder of releases with an old one in it."""
    folder = tmp_path / "releases"
    shelf.add(folder, shelf.describe(fake_release(folder / "0.9.0", version="0.9.0")))
    return folder


class Pause:
    """Two pipes: a build says that it is at some stage, and waits there until it is told to go on."""

    def __init__(self, folder):
        self.paths = [folder / "reached", folder / "go-on"]
        for path in self.paths:
            os.mkfifo(path)
        self.reached, self.go_on = (os.open(path, os.O_RDWR) for path in self.paths)  # waits for nobody
        self.action = ":".join(map(str, self.paths))

    def wait(self):
        """The process's id and its parent's."""
        assert select.select([self.reached], [], [], PATIENCE_S)[0], "the stage was not reached"
        return map(int, os.read(self.reached, 100).split())

    def end(self):
        os.write(self.go_on, b"\n")


@pytest.fixture
def pause(tmp_path):
    pause = Pause(tmp_path)
    yield pause
    os.close(pause.reached)
    os.close(pause.go_on)


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


def hidden(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("stage", BEFORE_THE_RENAME)
def test_killed_before_the_rename_there_is_no_release(build, output, stage):
    old = contents(output / "0.9.0")
    code, _ = build(actions={stage: "kill"})
    assert code == -9
    assert not (output / "1.0.0").exists()
    assert contents(output / "0.9.0") == old
    code, said = build()
    assert code == 0, said
    assert verify(output / "1.0.0").problems == []
    assert contents(output / "0.9.0") == old
    assert [entry.version for entry in read_shelf(output)] == ["0.9.0", "1.0.0"]
    assert hidden(output) == []


@pytest.mark.parametrize("stage", AFTER_THE_RENAME)
def test_killed_after_the_rename_the_release_is_whole_and_the_next_run_lists_it(build, output, stage):
    code, _ = build(actions={stage: "kill"})
    assert code == -9
    assert verify(output / "1.0.0").problems == []
    made = contents(output / "1.0.0")
    code, said = build()
    assert (code, "exists, and a release is never overwritten" in said) == (2, True)
    assert build(version="1.1.0")[0] == 0
    assert contents(output / "1.0.0") == made
    assert [entry.version for entry in read_shelf(output)] == ["0.9.0", "1.0.0", "1.1.0"]
    assert hidden(output) == []


def test_what_a_killed_build_had_finished_is_not_built_again(build, output):
    code, _ = build(actions={"before cifar100_resnet20": "kill"})
    assert code == -9
    code, said = build(actions={"before cifar10_resnet20": "kill"})
    assert (code, "cifar10_resnet20: finished before, taken from the cache" in said) == (0, True)
    measured = json.loads((output / "1.0.0.measurements.json").read_bytes())["networks"]
    assert measured == {name: {"seconds": 1.5} for name in NAMES}


def test_a_resumed_build_has_the_bytes_of_one_that_was_not_killed(build, tmp_path):
    build(actions={"before cifar100_resnet20": "kill"})
    assert build()[0] == build(output=tmp_path / "other", options=["--no-cache"])[0] == 0
    assert contents(tmp_path / "releases") == contents(tmp_path / "other")


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_build_leaves_nothing(build, tmp_path, name, code):
    found, said = build(actions={"after archive": name})
    assert found == code, said
    assert not (tmp_path / "releases").exists()
    assert "Traceback" not in said


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interruption_waits_until_the_release_is_listed(build, output, name, code):
    found, said = build(actions={"after measurements": name})
    assert found == code, said
    assert [entry.version for entry in read_shelf(output)][-1] == "1.0.0"
    assert verify(output / "1.0.0").problems == []
    assert hidden(output) == []


@pytest.mark.parametrize("stage", ["after cifar10_resnet20", "before archive", "before settle", "before measurements"])
def test_a_full_disk_is_named_and_leaves_nothing(build, output, stage):
    before = contents(output / "0.9.0")
    code, said = build(actions={stage: "full"})
    assert code == 3, said
    assert "No space left on device" in said
    assert "Traceback" not in said
    assert sorted(path.name for path in output.iterdir()) == ["0.9.0", "index.json"]
    assert contents(output / "0.9.0") == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a given number of kilobytes; needs the right to mount one."""
    folder = tmp_path / "small"
    folder.mkdir()

    def mount(kilobytes):
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a file system")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


@pytest.mark.parametrize("kilobytes", [4, 80, 160, 240])
def test_a_disk_that_is_really_full_is_named_and_leaves_nothing(build, small_disk, kilobytes):
    disk = small_disk(kilobytes)
    code, said = build(output=disk / "releases")
    assert (code, "No space left on device. Free some space" in said) == (3, True), said
    assert list(disk.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_built(build, output, tmp_path):
    for folder in (output, *tmp_path.parents):
        if folder.owner() == output.owner() and folder.is_relative_to(tmp_path.parents[2]):
            folder.chmod(0o755)
    tmp_path.chmod(0o755)
    output.chmod(0o555)
    code, said = build(nobody=True, actions={"before cifar10_resnet20": "kill"})
    output.chmod(0o755)
    assert (code, "cannot write" in said, "permissions" in said) == (2, True, True), said
    assert sorted(path.name for path in output.iterdir()) == ["0.9.0", "index.json"]


def test_of_two_builds_at_once_the_second_is_told(build, output, pause):
    first = build(actions={"after cifar10_resnet20": pause.action}, wait=False)
    pause.wait()
    code, said = build(driver=1, version="1.1.0")
    assert (code, "another build is at work" in said) == (3, True), said
    pause.end()
    assert first.answer()[0] == 0
    assert [entry.version for entry in read_shelf(output)] == ["0.9.0", "1.0.0"]


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_workers_end_with_a_build_that_is_killed(build, tmp_path, pause):
    """Nobody writes where the next build clears."""
    driver = build(actions={"before cifar100_resnet20": pause.action}, options=["--jobs", "2"], wait=False)
    worker, parent = pause.wait()
    watched = os.pidfd_open(worker)
    os.kill(parent, signal.SIGKILL)
    assert driver.answer()[0] == -9
    assert select.select([watched], [], [], 60)[0] == [watched]
    os.close(watched)
    assert not (tmp_path / "releases" / "1.0.0").exists()


def test_a_build_that_is_ended_ends_its_workers(build, tmp_path):
    code, said = build(actions={"before cifar100_resnet20": "end the parent"}, options=["--jobs", "2"])
    assert code == 143, said
    assert "Traceback" not in said
    assert not (tmp_path / "releases").exists()


@pytest.mark.parametrize("action", ["SIGINT", "kill"])
def test_a_build_whose_worker_dies_or_that_is_interrupted_leaves_nothing(build, tmp_path, action):
    code, said = build(actions={"before cifar100_resnet20": action}, options=["--jobs", "2"])
    expected = {"kill": (3, "a process that built a network died"), "SIGINT": (0, "signed")}[action]
    assert (code, expected[1] in said) == (expected[0], True), said
    assert (tmp_path / "releases").exists() == (action == "SIGINT")  # workers leave Ctrl-C to their parent
