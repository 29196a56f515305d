"""Streams that take nothing, machines that lack something, signals: the exit code is the verdict's."""

from __future__ import annotations

import io
import json
import lzma
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import cifar_export
from cifar_export.commands.console import Command, Terminated
from cifar_export.errors import InvalidInput, Unavailable, from_os_error, short_of_memory
from cifar_export.formats.metadata import MAX_METADATA_BYTES, read_archive_metadata
from cifar_export.system.files import ENDING

from support.paths import ROOT

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full and a POSIX shell")

PICTURE = ROOT / "exporter" / "gate" / "cifar10-test-128.png"
COMMANDS: dict[str, tuple[str, ...]] = {
    "nothing to judge": ("models",),
    "help": ("--help",),
    "help of a command": ("onnx", "--help"),
    "version": ("--version",),
    "no": ("data", "check", "--data-dir", "{empty}"),
    "wrong usage": ("data", "check", "--dataset", "mnist"),
    "wrong input": ("verify", "{empty}/nothing"),
}
CASES: list[tuple[str, str, int]] = [  # what is run, with which streams, exit code
    *((what, "{command} 2>/dev/full", 0) for what in ("nothing to judge", "help", "help of a command", "version")),
    *((what, "{command} | true", 0) for what in ("nothing to judge", "help", "help of a command", "version")),
    *((what, "{command} >&-", 0) for what in ("nothing to judge", "help", "version")),
    *((what, "{command} >/dev/full", 3) for what in ("nothing to judge", "help", "help of a command", "version")),
    *(
        ("no", f"{{command}} {streams}", 1)
        for streams in ("2>/dev/full", ">/dev/full", ">/dev/full 2>&1", ">&-", "2>&-", "| true", "--json | true")
    ),
    *(("wrong usage", f"{{command}} {streams}", 2) for streams in ("2>/dev/full", ">/dev/full --json")),
    *(("wrong input", f"{{command}} {streams}", 2) for streams in ("2>/dev/full", ">/dev/full --json", "2>&-")),
]


def shell(line: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """The exit code is that of the first command of a pipe."""
    line = f"{line}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", line], text=True, capture_output=True, check=False, **more)


def command_line(arguments: tuple[str, ...], empty: Path) -> str:
    return f"{sys.executable} -m cifar_export " + " ".join(arguments).format(picture=PICTURE, empty=empty)


@pytest.mark.parametrize(("what", "line", "code"), CASES)
def test_the_exit_code_is_the_same_whatever_happens_to_the_streams(
    tmp_path: Path, what: str, line: str, code: int
) -> None:
    done = shell(line.format(command=command_line(COMMANDS[what], tmp_path)))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("streams", "code"), [("2>/dev/full --json | true", 0), (">/dev/full 2>&-", 3)])
def test_a_verdict_that_is_yes(streams: str, code: int, tmp_path: Path) -> None:
    arguments = f"parity resnet8 --weights random --runtime onnxruntime-cpu --report {tmp_path}/a.html"
    done = shell(f"{sys.executable} -m cifar_export {arguments} {streams}")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


@pytest.mark.parametrize("arguments", [["TYPO"], ["data", "TYPO"], ["--typo", "models"], ["data", "check", "--typo"]])
def test_every_wrong_usage_is_a_document(run: Callable[..., Result], arguments: list[str]) -> None:
    done = run(*arguments, "--json")
    assert (done.exit_code, json.loads(done.stdout)["exit_code"]) == (2, 2)


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True)
@click.option("--signal", "number", type=int)
def ended(as_json: bool, number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Terminated(number)


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_what_ends_a_command_is_a_document_too(number: signal.Signals) -> None:
    done = CliRunner().invoke(ended, ["--json", "--signal", str(int(number))])
    assert done.exit_code == 128 + number
    document = json.loads(done.stdout)
    assert (document["exit_code"], document["error"]) == (128 + number, done.stderr.strip())
    assert ("interrupted" if number == signal.SIGINT else number.name) in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_ended_says_so_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
import click
from cifar_export.commands.console import Command, Group, end_on_termination
from cifar_export.commands.options import json_option
from cifar_export.system.files import staged

@click.group(cls=Group)
def main():
    signal.signal({int(number)}, signal.SIG_DFL if {int(number)} != signal.SIGINT else signal.default_int_handler)
    end_on_termination()  # (under nohup the signal is ignored, and stays so)

@main.command(cls=Command)
@json_option
def work(as_json):
    with staged(Path({str(tmp_path / "a")!r})) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), {int(number)})
        for _ in range(1_000_000):  # the handler runs between two instructions
            pass

main(["work", "--json"])
"""
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
    assert done.returncode == 128 + number, done.stderr
    assert json.loads(done.stdout)["exit_code"] == 128 + number
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "short"),
    [
        (MemoryError(), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("No module named torch"), False),
    ],
)
def test_a_lack_of_memory_has_many_words(said: Exception, short: bool) -> None:
    assert short_of_memory(said) is short

    @click.command(cls=Command)
    def fails() -> None:
        raise said

    done = CliRunner().invoke(fails)
    assert done.exit_code == (3 if short else 1)
    assert ("not enough memory" in done.stderr) is short


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_small_address_space_is_a_message(tmp_path: Path) -> None:
    output = tmp_path / "a.onnx"
    done = shell(f"ulimit -v 1000000; {sys.executable} -m cifar_export onnx resnet20 --output {output}")
    assert (done.returncode, done.stderr.count("\n")) == (3, 2), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_too_large_for_the_disk_is_the_machines_fault() -> None:
    import errno

    assert isinstance(from_os_error(OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "write"), Unavailable)


@pytest.mark.parametrize("without", ["an error", "the name itself"])
def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch, without: str) -> None:
    from cifar_export.system import folders

    def find(name: str) -> str:
        if without == "an error":
            raise RuntimeError("could not determine the home directory")
        return f"~/.cache/{name}"

    monkeypatch.delenv(folders.CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(folders.platformdirs, "user_cache_dir", find)
    monkeypatch.setattr(folders.platformdirs, "user_state_dir", find)
    with pytest.raises(Unavailable, match="Set HOME, or CIFAR_EXPORT_CACHE"):
        folders.cache_folder()
    with pytest.raises(Unavailable, match="Set HOME, or XDG_STATE_HOME"):
        folders.state_folder()


def with_metadata(path: Path, data: bytes, method: int, damage: bool = False) -> Path:
    """An archive with `data` in the place of our document, its bytes damaged or not."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("model/extra/metadata.json", data)
    content = bytearray(buffer.getvalue())
    if damage:
        start = content.index(b"metadata.json") + len("metadata.json") + 9
        content[start : start + 8] = bytes(8)
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("suffix", [".torchscript.pt", ".pt2"])
def test_damaged_or_endless_metadata_is_wrong_input(tmp_path: Path, method: int, suffix: str) -> None:
    damaged = with_metadata(tmp_path / f"a{suffix}", b'{"schema": 1}' * 100, method, damage=True)
    with pytest.raises(InvalidInput, match="not a readable archive"):
        read_archive_metadata(damaged)
    large = with_metadata(tmp_path / f"b{suffix}", bytes(MAX_METADATA_BYTES + 1), method)
    with pytest.raises(InvalidInput, match="more than 1,048,576 bytes"):
        read_archive_metadata(large)


def test_the_damage_is_of_a_kind_that_python_has_an_error_of_its_own_for(tmp_path: Path) -> None:
    damaged = with_metadata(tmp_path / "a.pt2", b'{"schema": 1}' * 100, zipfile.ZIP_LZMA, damage=True)
    with zipfile.ZipFile(damaged) as archive, pytest.raises(lzma.LZMAError):
        archive.read("model/extra/metadata.json")


NULL: dict[str, Callable[[], object]] = {
    "export": lambda: cifar_export.export("cifar10_resnet20", output="a\0.onnx"),
    "export of weights": lambda: cifar_export.export("cifar10_resnet20", weights="a\0.pt"),
    "parity": lambda: cifar_export.parity("cifar10_resnet20", file="a\0.onnx"),
    "evaluate": lambda: cifar_export.evaluate("cifar10_resnet20", data_dir="a\0"),
    "predict": lambda: cifar_export.predict("a\0.onnx", ["a.png"]),
    "predict pictures": lambda: cifar_export.predict("cifar10_resnet20", ["a\0.png"]),
    "verify": lambda: cifar_export.verify("a\0"),
    "load": lambda: cifar_export.load("cifar10_resnet20", release="a\0"),
    "load with a key": lambda: cifar_export.load("cifar10_resnet20", release="a", public_key="a\0"),
}


@pytest.mark.parametrize("name", NULL)
def test_a_null_in_a_name_is_wrong_input(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        NULL[name]()
    assert "\0" not in str(refused.value)


def test_a_line_break_in_a_path_option_fakes_no_lines(run: Callable[..., Result], tmp_path: Path) -> None:
    done = run("data", "check", "--data-dir", f"{tmp_path}/a\nerror: b")
    assert done.exit_code == 2
    assert "a\\nerror: b' holds a control character" in done.stderr
