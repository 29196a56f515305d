"""Rebuild a release from the commit, version and date that it states, and compare the two file by file.

    python tools/reproduce.py RELEASE [--data-dir DIR] [--jobs N] [--keep DIR]      (or: make reproduce RELEASE=DIR)

RELEASE is a folder that `cifar-export package` or `merge` made. The commit is checked out of this repository into a
temporary folder and built there with the libraries of the Python that runs this. Exit codes: 0 every byte and mode is
equal (a signature excepted), 1 files differ (each is named), 2 the release cannot be rebuilt, 3 this machine lacks
something: the commit, the test set, the versions of libraries that the release was built with.
"""

from __future__ import annotations

import argparse
import calendar
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIGNATURE = "model.sig"


class Problem(Exception):
    """Why a release cannot be rebuilt here; `code` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Stated:
    """What a release says of its making. `built_with`: versions by package, of all its networks.

    `more`: the options that its files in reduced precision and further formats were asked for with.
    """

    version: str
    commit: str
    epoch: int
    networks: tuple[str, ...]
    built_with: dict[str, str]
    more: tuple[str, ...] = ()


def read_stated(release: Path) -> Stated:
    """Read a release's index. Raises `Problem`."""
    try:
        index = json.loads((release / "index.json").read_bytes())
        commit, networks = index["source"]["commit"], index["networks"]
        epoch = calendar.timegm(time.strptime(index["created"], "%Y-%m-%dT%H:%M:%SZ"))
        built_with = {name: text for network in networks.values() for name, text in network["built_with"].items()}
        configs = [json.loads((release / name / "config.json").read_bytes()) for name in networks]
        asked = {_options(config.get("reduced", {}), config.get("further", {})) for config in configs}
        stated = Stated(index["version"], str(commit), epoch, tuple(networks), built_with, next(iter(asked), ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(f"{release} is no release that can be rebuilt: index.json can't be used ({error}).", 2) from error
    if len(asked) > 1:
        raise Problem(
            f"the networks of {release} are in different precisions or formats. Rebuild the parts it was merged from.",
            2,
        )
    if commit is None or len(stated.commit) != 40 or set(stated.commit) - set("0123456789abcdef"):
        raise Problem(
            f"{release} names commit {commit}: it was made from files that are in no commit, and can't be rebuilt.", 2
        )
    return stated


def _options(reduced: dict[str, Any], further: dict[str, Any]) -> tuple[str, ...]:
    """What `package` was asked for, by what config.json says of files in reduced precision and further formats."""
    budgets = {str(found["accuracy"]["budget"]) for found in reduced.values()}
    budget = [word for text in sorted(budgets) for word in ("--accuracy-budget", text)]
    formats = [word for name in sorted(further) for word in ("--format", name)]
    return (*(word for precision in sorted(reduced) for word in ("--precision", precision)), *budget, *formats)


def require_versions(stated: Stated) -> None:
    """Raise `Problem` where this Python has other libraries than the release was built with."""
    sys.path.insert(0, str(ROOT))
    from cifar_export.release.documents.config import built_with

    here = {name: _installed(name) for name in stated.built_with} | built_with()
    here |= {"cifar-export": stated.built_with.get("cifar-export", "")}  # the commit brings its own
    other = [
        f"{name} {text} (here {here[name]})" for name, text in sorted(stated.built_with.items()) if here[name] != text
    ]
    if other:
        raise Problem(f"the release was built with {', '.join(other)}. Install these, then run this again.", 3)


def _installed(library: str) -> str:
    """The public version of a library of a further format, or "none"."""
    try:
        return importlib.metadata.version(library).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "none"


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A clone of this repository at `commit`, gone afterwards. Raises `Problem` where it lacks the commit."""
    with tempfile.TemporaryDirectory(prefix="cifar-export-reproduce-") as folder:
        clone = Path(folder) / "source"
        for command in (
            ["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(clone)],
            ["git", "-C", str(clone), "checkout", "--quiet", "--detach", commit],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                said = done.stderr.strip().splitlines() or ["git failed"]
                raise Problem(f"commit {commit} cannot be checked out: {said[-1]}. Fetch it first.", 3)
        yield clone


def rebuild(stated: Stated, source: Path, output: Path, options: list[str]) -> Path:
    """Build what `stated` says from the checkout `source` into `output`. Raises `Problem` where it fails."""
    only = [word for name in stated.networks for word in ("--only", name)]
    command = [
        sys.executable,
        "cli.py",
        "package",
        *only,
        "--version",
        stated.version,
        *stated.more,
        "--output",
        str(output),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment |= {"SOURCE_DATE_EPOCH": str(stated.epoch), "PYTHONPATH": str(source)}
    done = subprocess.run(
        [*command, "--no-cache", *options], cwd=source, env=environment, stdout=sys.stderr, check=False
    )
    if done.returncode:
        raise Problem("the rebuild failed; what it said is above.", done.returncode if done.returncode > 0 else 1)
    return output / stated.version


def differences(given: Path, made: Path) -> list[str]:
    """One line for each file or folder that is not the same in both, by name."""
    sides = [_described(given), _described(made)]
    lines = []
    for name in sorted({*sides[0], *sides[1]} - {SIGNATURE}):
        old, new = (side.get(name) for side in sides)
        if old == new:
            continue
        if old is None or new is None:
            lines.append(f"{name}: only in the {'rebuilt' if old is None else 'given'} release")
        elif old["content"] != new["content"]:
            lines.append(f"{name}: other content (sha256 {old['content'][:16]} given, {new['content'][:16]} rebuilt)")
        else:
            lines.append(f"{name}: mode {old['mode']:o} given, {new['mode']:o} rebuilt")
    return lines


def _described(release: Path) -> dict[str, dict[str, Any]]:
    described = {}
    for path in release.rglob("*"):
        name = path.relative_to(release).as_posix()
        content = "link" if path.is_symlink() else "folder"
        if path.is_file() and not path.is_symlink():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        described[name] = {"content": content, "mode": path.lstat().st_mode & 0o777}
    return described


def reproduce(release: Path, options: list[str], keep: Path | None = None) -> list[str]:
    """Rebuild `release` and say what differs; `keep`: a new folder that gets the rebuilt one. Raises `Problem`."""
    if keep is not None and os.path.lexists(keep):
        raise Problem(f"{keep} is there already. Name a new folder for --keep.", 2)
    stated = read_stated(release)
    require_versions(stated)
    with checkout(stated.commit) as source:
        made = rebuild(stated, source, source.parent / "releases", options)
        lines = differences(release, made)
        if keep is not None:
            shutil.copytree(made, keep)
    return lines


def main() -> None:
    """Parse, rebuild, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("CIFAR_DATA") or "data"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="leave the rebuilt release there")
    asked = parser.parse_args()
    options = ["--data-dir", str(asked.data_dir.absolute()), "--jobs", str(asked.jobs)]
    try:
        lines = reproduce(asked.release, options, asked.keep)
    except Problem as problem:
        sys.stderr.write(f"error: {problem}\n")
        sys.exit(problem.code)
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(
        f"{asked.release}: {f'{len(lines)} files differ' if lines else 'reproduced, every byte and mode'}\n"
    )
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
