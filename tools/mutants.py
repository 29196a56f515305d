"""Planted faults: each entry of mutants.toml breaks the code in one place, and its tests must notice.

    python tools/mutants.py [--only WORD] [--jobs N]      (or: make mutants)

Each fault is planted in a copy of the tree, and only the tests that its entry names are run there. Before that, the
same tests must pass without any fault, and a fault that breaks the import of the package must be noticed: else the copy
would not be what the tests import. Exit codes: 0 every fault is noticed, 1 some survive (each is named), 2 the table is
wrong (an old text that does not stand in its file just once, a test that fails or does not exist without a fault).
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("mutants.toml")
SECONDS = 300.0
"""After so long a run of tests is ended: what hangs has not been noticed."""
_PYTEST = ("-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:randomly")
_FAILED = 1  # pytest's exit code for tests that ran and failed; others mean that they did not run
Say = Callable[[str], None]


class Problem(Exception):
    """Why the faults cannot be tried: one line for each cause."""


@dataclass(frozen=True)
class Mutant:
    """A fault: in `file`, `old` becomes `new`; at least one of `tests` (pytest's names) must fail then."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def read_table(path: Path = TABLE) -> list[Mutant]:
    """Read the table. Raises `Problem` for an entry that lacks a part or has one too many."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    try:
        return [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]
    except (KeyError, TypeError) as error:
        raise Problem(f"{path.name}: an entry is incomplete, or has a part that is unknown: {error}") from error


def stale(mutants: Sequence[Mutant], root: Path = ROOT) -> list[str]:
    """One line for each entry that no longer fits the tree."""
    lines = []
    for mutant in mutants:
        text = (root / mutant.file).read_text(encoding="utf-8") if (root / mutant.file).is_file() else ""
        found = text.count(mutant.old)
        if found != 1:
            lines.append(f"{mutant.what}: its old text stands {found} times in {mutant.file}, not once")
        if mutant.old == mutant.new:
            lines.append(f"{mutant.what}: nothing changes")
        missing = [test for test in mutant.tests if not (root / test.partition("::")[0]).exists()]
        lines += [f"{mutant.what}: there is no {test}" for test in missing]
        if not mutant.tests:
            lines.append(f"{mutant.what}: it names no tests")
    lines += [f"{what}: two entries have this name" for what in sorted(_twice([mutant.what for mutant in mutants]))]
    return lines


def try_all(mutants: Sequence[Mutant], root: Path = ROOT, *, jobs: int = 2, say: Say = print) -> list[Mutant]:
    """Plant each of `mutants`, at most `jobs` at once; return those that survive. `say` hears a line for each.

    Raises `Problem` where the table does not fit the tree, or tests fail without a fault.
    """
    if lines := stale(mutants, root):
        raise Problem("\n".join(lines))
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(jobs):
            copies.put(copy_tree(root, Path(folder) / str(number)))

        def attempt(mutant: Mutant) -> bool:
            copy = copies.get()
            began = time.monotonic()
            try:
                with planted(copy, mutant):
                    code, said = run_tests(copy, ["-x", "--tb=no", *mutant.tests])
            finally:
                copies.put(copy)
            noticed = code == _FAILED
            verdict = "noticed" if noticed else "SURVIVES" if code == 0 else f"DID NOT RUN ({code})"
            say(f"{verdict:<9} {time.monotonic() - began:5.1f} s  {mutant.file}: {mutant.what}")
            if code not in (0, _FAILED):
                say(said)
            return noticed

        copy = copies.get()
        _require_baseline(copy, mutants, jobs)
        copies.put(copy)
        with ThreadPoolExecutor(jobs) as pool:
            verdicts = list(pool.map(attempt, mutants))
    return [mutant for mutant, noticed in zip(mutants, verdicts, strict=True) if not noticed]


def _require_baseline(copy: Path, mutants: Sequence[Mutant], jobs: int) -> None:
    """Raise `Problem` unless the tests pass without a fault, and are tests of the copy's package."""
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    code, said = run_tests(copy, ["-n", str(jobs), "--tb=short", *tests])
    if code != 0:
        raise Problem(f"the tests do not pass without a fault (pytest ends with {code}):\n{said}")
    broken = Mutant("import", "exporter/__init__.py", "from __future__", "raise ImportError\nfrom __future__", ())
    with planted(copy, broken):
        code, said = run_tests(copy, ["-x", "--tb=no", tests[0]])
    if code == 0:
        raise Problem("a package that cannot be imported was not noticed: the tests import another one than the copy.")


def copy_tree(root: Path, target: Path) -> Path:
    """Copy the files of the checkout `root` that git tracks or would track, with its package under its own name."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in dict.fromkeys(filter(None, listed)):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)
    (target / "build" / "types").mkdir(parents=True)
    (target / "build" / "types" / "cifar_export").symlink_to(target / "exporter")
    # found by their source's hash: a fault may come and go within the same second
    compiled = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "exporter", "tests"]
    subprocess.run(compiled, cwd=target, check=True, stdout=subprocess.DEVNULL)
    return target


@contextmanager
def planted(copy: Path, mutant: Mutant) -> Iterator[None]:
    """Have the fault in `copy` inside the block."""
    path = copy / mutant.file
    before = path.read_bytes()
    path.write_bytes(before.replace(mutant.old.encode(), mutant.new.encode(), 1))
    try:
        yield
    finally:
        path.write_bytes(before)


def run_tests(copy: Path, arguments: Sequence[str]) -> tuple[int, str]:
    """Run pytest in `copy`, on its package: the exit code (-1 after `SECONDS`), and the end of what it said."""
    environment = os.environ | {
        "PYTHONPATH": str(copy / "build" / "types"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    for name in ("PYTEST_ADDOPTS", "CIFAR_DATA"):
        environment.pop(name, None)
    command = [sys.executable, *_PYTEST, *arguments]
    # the tests without a fault are many: they get as much time as all faults together may take
    limit = SECONDS if "-x" in arguments else 10 * SECONDS
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end within {limit:.0f} s"
    return done.returncode, "\n".join((done.stdout + done.stderr).splitlines()[-40:])


def _twice(names: Sequence[str]) -> set[str]:
    return {name for name in names if names.count(name) > 1}


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the table's faults and report; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="WORD", default="", help="only entries with WORD in their file or name")
    parser.add_argument("--jobs", type=int, default=2, help="faults tried at once (default: 2)")
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        mutants = [mutant for mutant in read_table() if asked.only in f"{mutant.file} {mutant.what}"]
        if not mutants:
            raise Problem(f"no entry has {asked.only!r} in its file or name.")
        survivors = try_all(mutants, jobs=asked.jobs, say=lambda line: print(line, flush=True))  # noqa: T201
    except Problem as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 2
    lines = [f"survives: {mutant.file}: {mutant.what}" for mutant in survivors]
    count = f"{len(mutants) - len(survivors)} of {len(mutants)} faults are noticed"
    sys.stdout.write("\n".join([*lines, f"{count} ({time.monotonic() - began:.0f} s)"]) + "\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
