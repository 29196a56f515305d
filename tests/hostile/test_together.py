"""What belongs together appears together: an export, its sidecar and its golden vectors."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from cifar_export.errors import Unavailable
from cifar_export.exporting.artifact import export, golden_paths
from cifar_export.exporting.golden import write_golden
from cifar_export.system.files import staged_together
from cifar_export.weights.core import Weights


def file_for_folder(folder: Path) -> None:
    folder.write_text("mine")


def folder_for_file(folder: Path) -> None:
    (folder / "test_data_set_0" / "output_0.pb").mkdir(parents=True)


def pipe_for_file(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / "data.json")


def file_for_data_set(folder: Path) -> None:
    folder.mkdir()
    (folder / "test_data_set_0").write_text("mine")


CASES: dict[str, Callable[[Path], None]] = {
    case.__name__: case for case in (file_for_folder, folder_for_file, pipe_for_file, file_for_data_set)
}


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("older", [False, True])
def test_golden_vectors_that_cannot_be_written_leave_no_export(
    run: Callable[..., Result], weights20_file: Path, tmp_path: Path, case: str, older: bool
) -> None:
    CASES[case](tmp_path / "golden")
    output = tmp_path / "a.onnx"
    if older:
        output.write_text("older")
    before = everything(tmp_path)
    done = run(
        "onnx",
        "resnet20",
        "--weights",
        weights20_file,
        "--no-check",
        "--output",
        output,
        "--golden",
        tmp_path / "golden",
    )
    assert done.exit_code == 2
    assert everything(tmp_path) == before
    assert not older or output.read_text() == "older"


def test_a_full_disk_under_the_golden_vectors_leaves_no_export(
    run: Callable[..., Result], weights20_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes

    def write(path: Path, data: bytes) -> int:
        if path.name.endswith("output_0.pb"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    arguments = [
        "--weights",
        weights20_file,
        "--no-check",
        "--output",
        tmp_path / "a.pt2",
        "--golden",
        tmp_path / "golden",
    ]
    done = run("torch-export", "resnet20", *arguments)
    assert done.exit_code == 3
    assert everything(tmp_path) == []


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_they_are_the_ones_that_are_written_alone(weights20: Weights, tmp_path: Path, suffix: str) -> None:
    format_name = {".onnx": "onnx", ".pt2": "torch-export"}[suffix]
    together, alone = tmp_path / "together", tmp_path / "alone"
    artifact = export(weights20, format_name, output=tmp_path / f"a{suffix}", golden=together, checked=False)
    paths = write_golden(artifact, alone)
    assert everything(together) == everything(alone)
    assert sorted(paths) == sorted(golden_paths(format_name, alone))
    for path in paths:
        assert (together / path.relative_to(alone)).read_bytes() == path.read_bytes()


def write_both(folder: Path, content: str) -> None:
    with staged_together(folder / "a.onnx", folder / "a.onnx.json") as temporaries:
        for temporary in temporaries:
            temporary.write_text(content)


def test_what_two_write_at_once_is_of_one_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one comes between the two renames of the first."""
    real = Path.replace
    second = threading.Thread(target=write_both, args=(tmp_path, "second"))

    def replace(path: Path, target: Path) -> Path:
        done = real(path, target)
        if second.ident is None:
            second.start()
            second.join(timeout=0.5)  # it has to wait: without a lock it is through at once
        return done

    monkeypatch.setattr(Path, "replace", replace)
    write_both(tmp_path, "first")
    second.join()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.onnx": "second",
        "a.onnx.json": "second",
    }


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_a_rename_that_fails_leaves_all_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, older: bool
) -> None:
    if older:
        write_both(tmp_path, "older")
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    real = Path.replace
    renames: list[Path] = []

    def replace(path: Path, target: Path) -> Path:
        renames.append(path)
        if len(renames) == number + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path), None, str(target))
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(Unavailable):
        write_both(tmp_path, "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_a_file_system_without_locks_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("filelock.lock_descriptor", refuse)
    write_both(tmp_path, "new")
    assert (tmp_path / "a.onnx.json").read_text() == "new"
