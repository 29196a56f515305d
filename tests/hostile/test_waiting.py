"""What would be waited for for ever, or read without end: pipes, devices, sparse files, loops, slow servers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import TensorProto, helper

from cifar_export.errors import GateFailed, InvalidInput, Unavailable
from cifar_export.exporting.artifact import export
from cifar_export.gate.isolated import IsolatedFile
from cifar_export.runtimes import RUNTIMES
from cifar_export.system import download as downloads
from cifar_export.system import pace
from cifar_export.system.outside import open_regular, read_regular
from cifar_export.weights.core import Weights

from support.bad_runtimes import put_into_table
from support.web_server import Server

TERABYTE = 1 << 40


@pytest.fixture(autouse=True)
def _within_a_minute() -> Iterator[None]:
    """A test that waits fails, instead of stopping the whole run: a pipe gets a writer, which ends the wait."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 60


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(TERABYTE)


KINDS: dict[str, Callable[[Path], None]] = {
    kind.__name__: kind for kind in (pipe, link_to_a_pipe, link_to_a_device, sparse)
}
WEIGHTS = ("--weights", "{weights}")
COMMANDS: dict[str, tuple[str, tuple[str, ...], int]] = {  # what is not what it seems, the command, its exit code
    "predict a picture": ("x.png", ("predict", "resnet20", "{folder}/x.png"), 1),
    "predict with a file": ("x.onnx", ("predict", "{folder}/x.onnx", "{picture}"), 2),
    "predict with code": ("x.pt2", ("predict", "{folder}/x.pt2", "{picture}", "--trust-file"), 2),
    "parity": ("x.onnx", ("parity", "resnet20", *WEIGHTS, "--file", "{folder}/x.onnx"), 2),
    "weights": ("x.pt", ("onnx", "resnet20", "--weights", "{folder}/x.pt"), 2),
    "merge": ("index.json", ("merge", "{folder}", "--output", "{folder}"), 1),
    "verify": ("SHA256SUMS", ("verify", "{folder}"), 1),
    "a public key": ("key.pem", ("verify", "{folder}", "--public-key", "{folder}/key.pem"), 2),
}


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    path = tmp_path_factory.mktemp("picture") / "a.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_file_of_a_sane_size_is_refused_at_once(
    run: Callable[..., Result], weights20_file: Path, picture: Path, tmp_path: Path, command: str, kind: str
) -> None:
    name, arguments, code = COMMANDS[command]
    folder = tmp_path / "folder"
    folder.mkdir()
    KINDS[kind](folder / name)
    before = sorted(folder.iterdir())
    result = run(*(part.format(folder=folder, weights=weights20_file, picture=picture) for part in arguments))
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert sorted(folder.iterdir()) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("kind", KINDS)
def test_documents_and_checkpoints_too(tmp_path: Path, kind: str) -> None:
    """What no command gets to without minutes of work before."""
    from cifar_export.release.build.shelf import read_shelf
    from cifar_export.training import checkpoint, log

    readers: dict[str, Callable[[Path], object]] = {
        "index.json": lambda path: read_shelf(path.parent),
        "checkpoint.pt": checkpoint.load,
        "log.jsonl": log.read,
    }
    for name, read in readers.items():
        folder = tmp_path / name
        folder.mkdir()
        KINDS[kind](folder / name)
        with pytest.raises(InvalidInput, match=name):
            read(folder / name)


def test_a_file_has_at_most_so_many_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    assert read_regular(tmp_path / "a", 100) == bytes(100)
    with pytest.raises(InvalidInput, match="has 100 bytes, more than 99"):
        read_regular(tmp_path / "a", 99)
    with open_regular(tmp_path / "a", 100) as stream:
        assert len(stream.read()) == 100


def endless(path: Path, weights: Weights) -> Path:
    """A file of ours with a loop of 2^62 rounds before the network."""
    export(weights, "onnx", output=path, checked=False)
    model = onnx.load_model_from_string(path.read_bytes())
    image = model.graph.input[0]
    name = "image_of_the_loop"
    for node in model.graph.node:
        node.input[:] = [name if each == image.name else each for each in node.input]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["c_out"]),
            helper.make_node("Neg", ["v"], ["v_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("c_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(helper.make_tensor("rounds", TensorProto.INT64, [], [1 << 62]))
    model.graph.initializer.append(helper.make_tensor("always", TensorProto.BOOL, [], [True]))
    loop = helper.make_node("Loop", ["rounds", "always", image.name], [name], body=body)
    model.graph.node.insert(0, loop)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_loop_without_an_end_is_a_failure_within_the_runtimes_patience(
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    weights20: Weights,
    weights20_file: Path,
    picture: Path,
    tmp_path: Path,
    command: str,
    write_cifar: Callable[..., object],
) -> None:
    monkeypatch.setitem(RUNTIMES, "onnxruntime-cpu", replace(RUNTIMES["onnxruntime-cpu"], patience_s=5.0))
    file = endless(tmp_path / "a.onnx", weights20)
    arguments: list[object] = ["predict", file, picture]
    if command == "evaluate":
        arguments = ["evaluate", "resnet20", "--weights", weights20_file, "--file", file, "--data-dir", tmp_path]
        from cifar_export.networks.zoo import CIFAR10

        write_cifar(tmp_path, CIFAR10, train=50, test=10_000)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no answer within 5 s" in result.stderr


def test_a_file_that_kills_its_process_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"x")
    put_into_table(monkeypatch, "kills", "Segfault")
    with pytest.raises(GateFailed, match="crashed: signal 11"), IsolatedFile("kills", tmp_path / "a.onnx") as runtime:
        runtime.logits(np.zeros((1, 3, 32, 32), np.float32))


def test_errors_keep_their_kind_and_words_from_process_to_process(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(InvalidInput, match="onnxruntime-cpu cannot load"):
        IsolatedFile("onnxruntime-cpu", tmp_path / "a.onnx")


def test_the_logits_are_those_of_the_runtime_in_this_process(weights20: Weights, tmp_path: Path) -> None:
    from cifar_export.runtimes import open_runtime

    path = export(weights20, "onnx", output=tmp_path / "a.onnx", checked=False).path
    images = np.random.default_rng(0).random((3, 3, 32, 32), np.float32)
    with IsolatedFile("onnxruntime-cpu", path) as there, open_runtime("onnxruntime-cpu", path) as here:
        assert there.provider == here.provider
        for count in (3, 1):
            assert (there.logits(images[:count]) == here.logits(images[:count])).all()


WAYS: dict[str, Callable[[str, Path], object]] = {
    "to a file": lambda url, path: downloads.download(url, path, md5="0" * 32, timeout=5),
    "into memory": lambda url, path: downloads.read_url(url, max_bytes=1 << 20, timeout=5),
}
SERVERS = {  # what the server sends without end: what is said of it
    "head": "does not answer in time",
    "continue": "does not answer in time",
    "body": "sends fewer than 1,024 bytes a second",
}


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(pace, "WINDOW_SECONDS", 0.2)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("what", SERVERS)
@pytest.mark.parametrize("how", WAYS)
def test_a_server_that_sends_next_to_nothing_is_given_up(
    http_server: Server, tmp_path: Path, what: str, how: str
) -> None:
    http_server.drip = what
    with pytest.raises(Unavailable, match=SERVERS[what]):
        WAYS[how](f"{http_server.url}a", tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("how", WAYS)
def test_a_whole_download_has_a_deadline(
    http_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    http_server.drip = "body"
    monkeypatch.setattr(downloads, "DEADLINE_SECONDS", 0.3)
    monkeypatch.setattr(downloads, "SMALL_SECONDS", 0.3)
    monkeypatch.setattr(pace, "LOWEST_RATE", 0)
    with pytest.raises(Unavailable, match="takes more than 0 seconds"):
        WAYS[how](f"{http_server.url}a", tmp_path / "a")


def test_no_thread_outlives_a_download(http_server: Server, tmp_path: Path) -> None:
    (http_server.root / "a").write_bytes(b"abc")
    before = set(threading.enumerate())
    downloads.download(f"{http_server.url}a", tmp_path / "a", md5="900150983cd24fb0d6963f7d28e17f72")
    left = {thread for thread in set(threading.enumerate()) - before if "process_request" not in thread.name}
    assert left == set()


def test_a_huge_file_where_a_download_would_go_is_not_read(http_server: Server, tmp_path: Path) -> None:
    (http_server.root / "a").write_bytes(b"abc")
    sparse(tmp_path / "a")
    downloads.download(f"{http_server.url}a", tmp_path / "a", md5="900150983cd24fb0d6963f7d28e17f72")
    assert (tmp_path / "a").read_bytes() == b"abc"
