"""Outputs that would take the place of something that is no file: refused before the work, and it stays what it is."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from cifar_export.errors import InvalidInput
from cifar_export.system.download import download
from cifar_export.system.files import require_target, write_atomically

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes and devices")


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))  # what /dev/null is; that one is not risked
    except PermissionError:
        pytest.skip("only root makes devices")


def bound(path: Path) -> None:
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{short}/s")  # a socket's whole path has at most some hundred characters
        Path(short, "s").rename(path)


IN_THE_WAY: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a socket": bound,
    "a device": device,
    "a folder": Path.mkdir,
}
EXPORT = ("--weights", "{weights}", "--no-check")
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {  # what is written, by which command
    "onnx --output": ("x.onnx", ("onnx", "resnet20", *EXPORT, "--output", "{folder}/x.onnx")),
    "its sidecar": ("x.onnx.json", ("onnx", "resnet20", *EXPORT, "--output", "{folder}/x.onnx")),
    "torchscript": ("x.torchscript.pt", ("torchscript", "resnet20", *EXPORT, "--output", "{folder}/x.torchscript.pt")),
    "torch-export": ("x.pt2", ("torch-export", "resnet20", *EXPORT, "--output", "{folder}/x.pt2")),
    "benchmark --output": ("benchmark.csv", ("benchmark", "resnet20", "--weights", "{weights}", "-o", "{folder}")),
    "parity --report": ("x.html", ("parity", "resnet20", "--weights", "{weights}", "--report", "{folder}/x.html")),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_file_is_refused_and_stays(
    run: Callable[..., Result], weights20_file: Path, tmp_path: Path, command: str, what: str
) -> None:
    name, arguments = COMMANDS[command]
    IN_THE_WAY[what](tmp_path / name)
    before = (tmp_path / name).lstat()
    result = run(*(argument.format(weights=weights20_file, folder=tmp_path) for argument in arguments))
    assert result.exit_code == 2
    by_click = command == "parity --report" and what == "a folder"
    assert ("is a directory" if by_click else f"it is {what}") in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).lstat() == before


@pytest.mark.parametrize("name", ["checkpoint.pt", "log.jsonl", "weights.safetensors", "curve.png"])
def test_a_run_is_refused_before_it_trains(tmp_path: Path, name: str) -> None:
    from cifar_export.training.run import _alone_in

    folder = tmp_path / "run"
    folder.mkdir()
    os.mkfifo(folder / name)
    with pytest.raises(InvalidInput, match=f"{name}: it is a pipe"), _alone_in(folder):
        pytest.fail("it would train")
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_download_replaces_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.tar.gz")
    with pytest.raises(InvalidInput, match="it is a pipe"):
        download("http://127.0.0.1:9/x.tar.gz", tmp_path / "x.tar.gz", md5="0" * 32)
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar.gz"]


def test_a_link_counts_as_what_it_leads_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with pytest.raises(InvalidInput, match="it is a pipe"):
        write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(not Path("/dev/stdout").is_symlink(), reason="needs /dev/stdout")
@pytest.mark.parametrize("link", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_link_of_the_system_is_not_replaced_whatever_it_leads_to(link: str) -> None:
    with pytest.raises(InvalidInput, match="link of the system"):
        require_target(Path(link))


def test_a_null_in_a_name_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no name holds a NUL"):
        write_atomically(tmp_path / "a\0b", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_dash_is_no_file(run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (("parity", "resnet20", "--report", "-"), ("onnx", "resnet20", "--output", "-")):
        assert run(*command).exit_code == 2
    with pytest.raises(InvalidInput, match="standard output"):
        write_atomically(Path("-"), b"new")
    assert list(tmp_path.iterdir()) == []
