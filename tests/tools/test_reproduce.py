"""The same bytes and modes from another checkout, folder, user, umask, time zone, hash seed and number of processes."""

import dataclasses
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from cifar_export.release.build.shelf import write_plain
from cifar_export.release.check.verify import verify
from tools import reproduce

from support.hostile.case import edit_json
from support.paths import ROOT
from support.releases import fake_network, fake_release

NAMES = ("cifar10_resnet20", "cifar100_resnet20")
SETTINGS: tuple[dict[str, Any], ...] = (
    {"TZ": "Asia/Tokyo", "USER": "ann", "LOGNAME": "ann", "PYTHONHASHSEED": "1", "LC_ALL": "C", "umask": 0o022},
    {"TZ": "America/Lima", "USER": "bob", "LOGNAME": "bob", "PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "umask": 0o077},
)


def run(command, folder, settings, home, **more):
    """Run in `folder` as somebody else would."""
    environment = os.environ | {name: value for name, value in settings.items() if name != "umask"} | more
    for name in ("CIFAR_EXPORT_CACHE", "XDG_CACHE_HOME", "XDG_STATE_HOME", "SOURCE_DATE_EPOCH"):
        environment.pop(name, None)
    home.mkdir(exist_ok=True)
    environment |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "tests")])}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=environment,
        umask=settings["umask"],
        capture_output=True,
        text=True,
        check=False,
    )


def git(folder, *arguments):
    fixed = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    fixed |= {"GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z"}
    subprocess.run(["git", "-C", str(folder), *arguments], env=os.environ | fixed, check=True, capture_output=True)


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory):
    """Two checkouts of the files as they are now, the same commit in both."""
    try:
        listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout")
    needed = ("cli.py", "setup.cfg", "exporter/", "artifacts/weights/", "tools/", "tests/support")
    names = [name for name in listed.stdout.split("\0") if name.startswith(needed) and (ROOT / name).is_file()]
    folders = [tmp_path_factory.mktemp("a") / "checkout", tmp_path_factory.mktemp("another-place") / "b"]
    for folder in folders:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
        git(folder, "init", "--quiet")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", "all")
    return folders


def test_two_builds_of_two_users_are_equal(checkouts, tmp_path):
    """With networks of a stand-in: what `build_network` makes is compared by the slow test."""
    code = "import sys, runpy; runpy.run_path('cli.py'); from support import release_driver\n"
    code += "release_driver.cli.main(sys.argv[1:])"
    for name in NAMES:
        fake_network(tmp_path / "templates" / name, name)
    stand_ins = {"RELEASE_STAND_INS": "1", "RELEASE_TEMPLATES": str(tmp_path / "templates")}
    made = []
    for number, (folder, settings, jobs) in enumerate(zip(checkouts, SETTINGS, (1, 2), strict=True)):
        output = tmp_path / f"releases-{number}"
        only = [word for name in NAMES[:: 1 - 2 * number] for word in ("--only", name)]  # in another order, too
        command = ["-c", code, "package", *only, "--version", "1.0.0", "--output", output, "--jobs", jobs]
        done = run(command, folder, settings, tmp_path / f"home-{number}", **stand_ins)
        assert done.returncode == 0, done.stderr
        made.append(output)
    assert reproduce.differences(*made) == []
    assert verify(made[0] / "1.0.0").problems == []


@pytest.mark.slow
@pytest.mark.data
def test_a_release_is_rebuilt_from_what_it_says(checkouts, tmp_path, cifar_data):
    """A real network: packaged in one checkout, rebuilt from a clone of the other, by another user."""
    command = [
        "cli.py",
        "package",
        "--only",
        NAMES[1],
        "--version",
        "1.0.0",
        "--output",
        tmp_path / "releases",
    ]
    done = run([*command, "--data-dir", cifar_data.absolute()], checkouts[0], SETTINGS[0], tmp_path / "ann")
    assert done.returncode == 0, done.stderr
    release = tmp_path / "releases" / "1.0.0"
    for path in (checkouts[0], tmp_path / "ann"):
        assert str(path).encode() not in b"".join(file.read_bytes() for file in release.rglob("*.*") if file.is_file())
    command = [checkouts[1] / "tools" / "reproduce.py", release, "--data-dir", cifar_data.absolute()]
    done = run(command, checkouts[1], SETTINGS[1], tmp_path / "bob", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reproduced, every byte and mode" in done.stdout


def change(release, damage):
    file = release / NAMES[0] / "labels.txt"
    if damage == "content":
        file.write_text("changed\n")
    elif damage == "mode":
        file.chmod(0o600)
    elif damage == "missing":
        file.unlink()
    elif damage == "link":
        file.rename(release.parent / "labels")
        file.symlink_to(release.parent / "labels")
    else:
        (release / "more").mkdir()


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        ("content", f"{NAMES[0]}/labels.txt: other content"),
        ("mode", f"{NAMES[0]}/labels.txt: mode 600 given, 644 rebuilt"),
        ("missing", f"{NAMES[0]}/labels.txt: only in the rebuilt release"),
        ("link", f"{NAMES[0]}/labels.txt: other content"),
        ("folder", "more: only in the given release"),
    ],
)
def test_each_difference_is_named(tmp_path, damage, line):
    releases = [fake_release(tmp_path / side / "1.0.0", NAMES[:1]) for side in ("a", "b")]
    for path in (path for release in releases for path in release.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (releases[0] / "model.sig").write_text("a signature is nobody else's to make")
    assert reproduce.differences(*releases) == []
    change(releases[0], damage)
    (found,) = reproduce.differences(*releases)
    assert found.startswith(line)


@pytest.mark.parametrize("commit", [None, "0" * 40 + "-dirty", "--upload-pack=x", 7])
def test_a_release_of_no_commit_cannot_be_rebuilt(tmp_path, commit):
    document = {"version": "1.0.0", "created": "1980-01-01T00:00:00Z", "source": {"commit": commit}, "networks": {}}
    write_plain(tmp_path / "index.json", document)
    with pytest.raises(reproduce.Problem, match="in no commit") as caught:
        reproduce.reproduce(tmp_path, [])
    assert caught.value.code == 2


def test_what_is_no_release_cannot_be_rebuilt(tmp_path):
    (tmp_path / "index.json").write_text("[1]")
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(reproduce.Problem, match="no release that can be rebuilt") as caught:
            reproduce.reproduce(folder, [])
        assert caught.value.code == 2


def test_a_rebuild_asks_for_the_same_formats_and_their_libraries(tmp_path):
    release = fake_release(tmp_path / "1.0.0", NAMES[:1])
    further = {"ort": {}, "c": {}}
    edit_json(release / NAMES[0] / "config.json", lambda config: config.update(further=further))
    stated = reproduce.read_stated(release)
    assert stated.more == ("--format", "c", "--format", "ort")
    lacking = dataclasses.replace(stated, built_with={**stated.built_with, "no-such-writer": "1.0"})
    with pytest.raises(reproduce.Problem, match=r"built with no-such-writer 1\.0 \(here none\)"):
        reproduce.require_versions(lacking)


def test_other_libraries_are_named(tmp_path):
    release = fake_release(tmp_path / "1.0.0", NAMES[:1])
    stated = reproduce.read_stated(release)
    other = reproduce.Stated(stated.version, stated.commit, 0, stated.networks, {"torch": "0.1", "cifar-export": "9"})
    with pytest.raises(reproduce.Problem, match=r"built with torch 0\.1 \(here ") as caught:
        reproduce.require_versions(other)
    assert caught.value.code == 3


def test_a_commit_that_is_not_here_is_named():
    with pytest.raises(reproduce.Problem, match="cannot be checked out") as caught, reproduce.checkout("f" * 40):
        pytest.fail("the body ran")
    assert caught.value.code == 3
