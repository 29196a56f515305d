"""SHA256SUMS: what it lists, how, and that its reader takes it back. None of this needs torch."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_export.release.check.verify import parse_sums
from cifar_export.release.layout import SUMS
from cifar_export.release.sums import digests_below, files_below, write_sums

from support.paths import ROOT

CONTENTS = {"b.txt": b"b", "a/z.txt": b"z", "a/model.sig": b"inner", "a/SHA256SUMS": b"inner sums", "Z.txt": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in (CONTENTS | {"model.sig": b"signature", SUMS: b"old"}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_all_is_listed_but_the_sums_and_the_signature_at_the_top(folder: Path) -> None:
    write_sums(folder)
    lines = (folder / SUMS).read_bytes().decode("ascii").split("\n")
    assert lines.pop() == ""
    names = sorted(CONTENTS)
    assert lines == [f"{hashlib.sha256(CONTENTS[name]).hexdigest()}  {name}" for name in names]
    assert names[0] == "Z.txt"  # by the bytes of the names, as `LC_ALL=C sort` does


def test_the_reader_takes_back_what_was_written(folder: Path) -> None:
    expected = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENTS.items() if "/" not in name}
    for name in files_below(folder):
        if "/" in name:
            (folder / name).unlink()
    write_sums(folder)
    assert digests_below(folder) == expected
    assert parse_sums((folder / SUMS).read_bytes()) == (expected, [])


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_agrees_and_notices_a_change(folder: Path) -> None:
    write_sums(folder)
    command = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
    (folder / "b.txt").write_bytes(b"B")
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 1


WITHOUT = """
import sys
import pytest
code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[1:]])
heavy = sorted({"torch", "onnx", "onnxruntime"} & set(sys.modules))
sys.exit(f"imported: {', '.join(heavy)}" if heavy else int(code))
"""


def test_checksums_are_tested_without_torch() -> None:
    """These tests and those of files import neither torch nor ONNX: they begin at once."""
    files = ["tests/system/test_files.py", "tests/release/test_archive.py", "tests/release/test_sums.py"]
    command = [sys.executable, "-c", WITHOUT, *files, "-k", "not without_torch"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
