"""Fixtures that several rooms share: the real data sets, tiny seeded ones, and a web server that can misbehave."""

from __future__ import annotations

import http.server
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from data_files import Mirror, contents, declare_official, folder_member, pack

import cli
from exporter.data.fetch import ARCHIVES
from exporter.export import Artifact, export
from exporter.formats import FORMATS
from exporter.weights import Weights, random_weights, save_weights
from exporter.zoo import CIFAR10, NETWORKS, DatasetSpec

RECORDS = {  # folder, training files, test files, label bytes
    "cifar10": ("cifar-10-batches-bin", [f"data_batch_{i}.bin" for i in range(1, 6)], ["test_batch.bin"], 1),
    "cifar100": ("cifar-100-binary", ["train.bin"], ["test.bin"], 2),
}


@pytest.fixture(scope="session")
def cifar_data() -> Path:
    """The folder of the real data sets."""
    folder = os.environ.get("CIFAR_DATA")
    if not folder:
        pytest.skip("needs the real data sets: set CIFAR_DATA to their folder")
    if not Path(folder).is_dir():
        pytest.skip(f"needs the real data sets: CIFAR_DATA={folder} is no folder")
    return Path(folder)


@pytest.fixture
def write_cifar() -> Callable[..., DatasetSpec]:
    """Write a seeded data set in the binary layout; the spec that comes back tells its size."""

    def write(folder: Path, dataset: DatasetSpec, *, train: int = 200, test: int = 100, seed: int = 0) -> DatasetSpec:
        rng = np.random.default_rng(seed)
        name, train_files, test_files, width = RECORDS[dataset.name]
        (folder / name).mkdir(parents=True, exist_ok=True)
        for files, count in ((train_files, train), (test_files, test)):
            fine = rng.permutation(np.arange(count) % dataset.classes).astype(np.uint8)
            pixels = rng.integers(0, 256, (count, 3072), np.uint8)
            records = np.concatenate([fine[:, None] % 20, fine[:, None], pixels], 1)[:, 2 - width :]
            for file, part in zip(files, np.array_split(records, len(files)), strict=True):
                (folder / name / file).write_bytes(part.tobytes())
        return replace(dataset, train_images=train, test_images=test)

    return write


@dataclass
class Server:
    """Serves the files of `root` on 127.0.0.1 and does what its fields say; `requests` holds path and headers."""

    root: Path
    port: int = 0
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    ranges: bool = True
    """Honour Range and If-Range."""
    etag: str = '"1"'
    cut_after: int | None = None
    """Hang up after so many bytes of a body, the announced length notwithstanding."""
    cuts: int | None = None
    """How many times it hangs up; None: each time."""
    range_error: int = 0
    """Added to the first byte of each range that is sent."""
    length_error: int = 0
    """Added to the Content-Length that is announced."""
    length: str = ""
    """Announced in its place."""
    chunked: bool = False
    """Send bodies in chunks, without their length."""
    statuses: list[int] = field(default_factory=list)
    """Answer the next requests with these, without a body."""
    redirects: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Address of the root, with a slash at its end."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def ranges_asked(self) -> list[str | None]:
        """The Range header of each request so far."""
        return [headers.get("range") for _, headers in self.requests]


def _answer(server: Server, handler: http.server.BaseHTTPRequestHandler) -> None:
    headers = {key.lower(): value for key, value in handler.headers.items()}
    server.requests.append((handler.path, headers))
    handler.close_connection = True

    def head(status: int, fields: dict[str, str]) -> None:
        handler.send_response(status)
        for key, value in {**fields, "Connection": "close"}.items():
            handler.send_header(key, value)
        handler.end_headers()

    if server.statuses:
        return head(server.statuses.pop(0), {"Content-Length": "0", "Content-Range": "bytes */0"})
    if handler.path in server.redirects:
        return head(302, {"Location": server.redirects[handler.path], "Content-Length": "0"})
    file = server.root / handler.path.partition("?")[0].lstrip("/")
    if not file.is_file():
        return head(404, {"Content-Length": "0"})
    body, status, fields = file.read_bytes(), 200, {"ETag": server.etag}
    asked = headers.get("range", "")
    if asked and server.ranges and headers.get("if-range", server.etag) == server.etag:
        first = int(asked.removeprefix("bytes=").rstrip("-")) + server.range_error
        if first >= len(body):
            return head(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
        status, fields["Content-Range"] = 206, f"bytes {first}-{len(body) - 1}/{len(body)}"
        body = body[first:]
    if server.chunked:
        fields["Transfer-Encoding"] = "chunked"
    else:
        fields["Content-Length"] = server.length or str(len(body) + server.length_error)
    head(status, fields)
    cut = server.cut_after is not None and server.cuts != 0
    if cut and server.cuts is not None:
        server.cuts -= 1
    sent = body[: server.cut_after] if cut else body
    if server.chunked:
        sent = b"%x\r\n%b\r\n" % (len(sent), sent) + (b"" if cut else b"0\r\n\r\n")
    handler.wfile.write(sent)
    return None


@pytest.fixture
def http_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A web server over an empty folder; downloads don't wait between tries and take no proxy to it."""
    monkeypatch.setattr("exporter.http.BACKOFF_SECONDS", 0.0)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    root = tmp_path / "www"
    root.mkdir()
    server = Server(root)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(server, self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Listener(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that hangs up is part of the tests

    with Listener(("127.0.0.1", 0), Handler) as listener:
        server.port = listener.server_port
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        listener.shutdown()
        thread.join()


@pytest.fixture
def mirror(
    tmp_path: Path, write_cifar: Callable[..., DatasetSpec], http_server: Server, monkeypatch: pytest.MonkeyPatch
) -> Mirror:
    """A mirror of a tiny CIFAR-10 that has the official layout; its spec, and its files by path."""
    source = tmp_path / "source"
    spec = write_cifar(source, CIFAR10)
    files = contents(source)
    files["cifar-10-batches-bin/batches.meta.txt"] = "\n".join(CIFAR10.labels).encode()
    archive = pack(
        http_server.root / ARCHIVES["cifar10"].name, [(folder_member("cifar-10-batches-bin"), b""), *files.items()]
    )
    declare_official(archive, monkeypatch)
    monkeypatch.setenv("CIFAR_EXPORT_DATA_URL", http_server.url)
    return spec, files


@pytest.fixture(scope="session")
def weights20() -> Weights:
    """Seeded weights of the CIFAR-10 ResNet-20."""
    return random_weights(NETWORKS["cifar10_resnet20"], seed=0)


@pytest.fixture(scope="session")
def weights20_file(weights20: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a safetensors file."""
    path = tmp_path_factory.mktemp("weights") / "cifar10_resnet20.safetensors"
    save_weights(path, weights20)
    return path


@pytest.fixture(scope="session")
def exported(weights20: Weights, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Artifact]:
    """Export `weights20` once for each (format, variant, opset) and give the same artifact to every test."""
    folder = tmp_path_factory.mktemp("exported")
    made: dict[tuple[str, str, int | None], Artifact] = {}

    def make(format_name: str, variant: str = "float32", opset: int | None = None) -> Artifact:
        key = (format_name, variant, opset)
        if key not in made:
            output = folder / f"{variant}-{opset}{FORMATS[format_name].suffix}"
            made[key] = export(weights20, format_name, variant=variant, opset=opset, output=output)
        return made[key]

    return make


@dataclass(frozen=True)
class BuiltNetwork:
    """A network's folder of a release, the index of weights it was built from, what was measured and what was said."""

    folder: Path
    index: Path
    measurements: dict[str, Any]
    progress: tuple[str, ...]


@pytest.fixture(scope="session")
def built_network(tmp_path_factory: pytest.TempPathFactory) -> BuiltNetwork:
    """A seeded network as `package` would build it; nobody writes into it."""
    from seeded_network import build, bundle

    index, folder = tmp_path_factory.mktemp("bundled"), tmp_path_factory.mktemp("built") / "cifar100_resnet20"
    bundle(index)
    said: list[str] = []
    measurements = build(index, folder, progress=said.append)
    return BuiltNetwork(folder, index, measurements, tuple(said))


@pytest.fixture(autouse=True)
def _keep_termination() -> Iterator[None]:
    """A command that ran in this process leaves the process as killable as it was."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run the command line in this process: `run("models", "--json")`. What it needs of data is given by --data-dir."""

    def invoke(*arguments: object) -> Result:
        without_data = {"CIFAR_DATA": None}  # else parity takes the whole test set each time
        return CliRunner().invoke(cli.main, [str(argument) for argument in arguments], env=without_data)

    return invoke
