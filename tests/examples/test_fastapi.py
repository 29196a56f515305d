"""The HTTP service for an ONNX file: its answers, its batches, what it refuses, and the process itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

from cifar_export.data.pictures import read_picture
from cifar_export.exporting.artifact import export
from cifar_export.exporting.precision import prepared
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.networks.zoo import network as zoo
from cifar_export.prediction.classifier import softmax
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.consumers import EXAMPLES, Subject, for_three, homeless, run, subject
from support.paths import ROOT

for package in ("fastapi", "python_multipart", "uvicorn"):
    pytest.importorskip(package, reason=f"{package} is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(EXAMPLES / "fastapi")
    loaded = importlib.import_module("network")
    service = importlib.import_module("service")

PATIENCE_SECONDS = 60  # of what is done sooner
AGES = 3_600_000  # milliseconds that no test waits for: only company ends the wait
# Runs the service as __main__ with some modules out of reach.
LAUNCHER = """
import runpy, sys
folder, blocked, *sys.argv[1:] = sys.argv[1:]
sys.path[0], sys.argv[0] = folder, "service.py"
for name in blocked.split(","):
    sys.modules[name] = None
runpy.run_path(folder + "/service.py", run_name="__main__")
"""
Answers = dict[str, Any]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject(random_weights(zoo("resnet20", "cifar100"), 3), tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def pictures(exported: Subject) -> list[bytes]:
    return [path.read_bytes() for path in exported.pictures.values()]


@pytest.fixture(scope="module")
def pixels(exported: Subject) -> np.ndarray:
    return np.stack([read_picture(path) for path in exported.pictures.values()])


@pytest.fixture
def network(exported: Subject) -> loaded.Network:
    return loaded.Network(exported.file("-uint8.onnx"))


class Spy:
    """A session that says how many images each run had; with `gate` it waits for that first, `faults` are raised."""

    def __init__(self, network: loaded.Network, gate: threading.Event | None = None, *faults: Exception) -> None:
        self.session, self.gate, self.faults = network.session, gate, list(faults)
        self.sizes: list[int] = []
        network.session = self

    def run(self, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.sizes.append(len(next(iter(feeds.values()))))
        if self.gate is not None:
            assert self.gate.wait(PATIENCE_SECONDS)
        if self.faults:
            raise self.faults.pop(0)
        return self.session.run(outputs, feeds)


@contextlib.asynccontextmanager
async def serving(network: loaded.Network, **limits: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = service.application(network, service.Limits(**{"wait_ms": 0, **limits}))
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://it") as client:
        yield client


def ask(network: loaded.Network, *requests: dict[str, Any], **limits: Any) -> list[httpx.Response]:
    """Send requests at once, by default to /classify; the answers in their order."""

    async def all_of_them() -> list[httpx.Response]:
        async with serving(network, **limits) as client:
            return await asyncio.gather(*(client.post(**{"url": "/classify", **request}) for request in requests))

    return asyncio.run(asyncio.wait_for(all_of_them(), PATIENCE_SECONDS))


async def until(client: httpx.AsyncClient, **said: Any) -> None:
    """Wait until /readyz says that."""
    while not said.items() <= (await client.get("/readyz")).json().items():
        await asyncio.sleep(0)  # lets the others go on


def form(*pictures: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (f"{number}.png", data)) for number, data in enumerate(pictures)]


def plain(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Probabilities (N, classes) of the plain session, all images in one run."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return softmax(session.run(["logits"], {"image": pixels})[0])


def shares(top: list[Answers], classes: int = 100) -> np.ndarray:
    """Probabilities (classes) out of an answer that has all of them, best first."""
    assert [guess["probability"] for guess in top] == sorted((guess["probability"] for guess in top), reverse=True)
    row = np.zeros(classes)
    row[[guess["index"] for guess in top]] = [guess["probability"] for guess in top]
    return row


def test_one_picture_gets_the_plain_sessions_answer_to_the_bit_however_it_is_sent(
    network: loaded.Network, exported: Subject, pictures: list[bytes], pixels: np.ndarray
) -> None:
    file = exported.file("-uint8.onnx")
    for picture, image, expected in zip(pictures, pixels, exported.expected.values(), strict=True):
        kinds = [{"Content-Type": kind} for kind in ("image/png", "application/x-www-form-urlencoded")]
        requests = [{"content": picture, "headers": headers} for headers in ({}, *kinds)]
        answers = ask(network, *requests, {"files": form(picture)}, max_batch=1)
        for answer in answers:
            assert answer.status_code == 200
            said = answer.json()
            assert said["network"] == "cifar100_resnet20"
            assert said["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
            assert [guess["label"] for guess in said["top"]] == [label for label, _ in expected]
            truth = plain(file, image[None])[0]
            assert [guess["probability"] for guess in said["top"]] == np.sort(truth)[::-1][:5].tolist()


def test_a_form_with_several_is_one_run_with_the_plain_sessions_bits(
    network: loaded.Network, exported: Subject, pictures: list[bytes], pixels: np.ndarray
) -> None:
    spy = Spy(network)
    request = {"url": "/classify/batch", "files": form(*pictures), "params": {"top": 100}}
    (answer,) = ask(network, request, max_batch=len(pictures), wait_ms=AGES)
    assert spy.sizes == [len(pictures)]
    said = answer.json()["pictures"]
    assert [one["file"] for one in said] == [f"{number}.png" for number in range(len(pictures))]
    truth = plain(exported.file("-uint8.onnx"), pixels)
    assert np.array_equal(np.stack([shares(one["top"]) for one in said]), truth)


def test_requests_that_come_together_run_together(
    network: loaded.Network, exported: Subject, pictures: list[bytes], pixels: np.ndarray
) -> None:
    spy = Spy(network)
    requests = [{"content": picture, "params": {"top": 100}} for picture in pictures]
    answers = ask(network, *requests, max_batch=len(pictures), wait_ms=AGES)
    assert spy.sizes == [len(pictures)]
    truth = np.concatenate([plain(exported.file("-uint8.onnx"), image[None]) for image in pixels])
    found = np.stack([shares(answer.json()["top"]) for answer in answers])
    assert np.abs(found - truth).max() < 1e-5


def test_what_comes_during_a_run_is_the_next_one_up_to_the_largest_batch(
    network: loaded.Network, pictures: list[bytes]
) -> None:
    def sizes(largest: int) -> list[int]:
        spy = Spy(network, threading.Event())

        async def ten() -> None:
            async with serving(network, max_batch=largest) as client:
                first = asyncio.create_task(client.post("/classify", content=pictures[0]))
                while not spy.sizes:
                    await asyncio.sleep(0)  # lets the first one go on
                rest = [asyncio.create_task(client.post("/classify", content=pictures[1])) for _ in range(9)]
                await until(client, accepted=10, queued=9)
                spy.gate.set()
                assert {answer.status_code for answer in await asyncio.gather(first, *rest)} == {200}

        asyncio.run(asyncio.wait_for(ten(), PATIENCE_SECONDS))
        network.session = spy.session
        return spy.sizes

    assert sizes(4) == [1, 4, 4, 1]
    assert sizes(1) == [1] * 10


def test_a_lone_picture_waits_no_longer_than_it_should(network: loaded.Network, pictures: list[bytes]) -> None:
    spy = Spy(network)
    (answer,) = ask(network, {"content": pictures[0]}, wait_ms=1, max_batch=32)
    assert (answer.status_code, spy.sizes) == (200, [1])


def test_a_full_queue_is_503_at_once_and_serves_again(network: loaded.Network, pictures: list[bytes]) -> None:
    spy = Spy(network, threading.Event())

    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async def refusals(client: httpx.AsyncClient) -> None:
        two = await client.post("/classify/batch", files=form(*pictures[:2]))
        assert (two.status_code, two.headers["Retry-After"]) == (503, "1")
        last = asyncio.create_task(client.post("/classify", content=pictures[0]))
        await until(client, detail="4 of 4 places are taken; ask again in a second")
        refused = await client.post("/classify", content=never())
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json() == {"detail": "4 of 4 places are taken; ask again in a second"}
        assert (await client.get("/healthz")).status_code == 200
        spy.gate.set()
        assert (await last).status_code == 200

    async def four() -> None:
        async with serving(network, max_waiting=4) as client:
            three = [asyncio.create_task(client.post("/classify", content=pictures[0])) for _ in range(3)]
            await until(client, accepted=3)
            try:
                await refusals(client)
            finally:
                spy.gate.set()
            assert {answer.status_code for answer in await asyncio.gather(*three)} == {200}
            again = await client.post("/classify/batch", files=form(*pictures[:4]))
            assert again.status_code == 200
            too_many = await client.post("/classify/batch", files=form(*pictures[:5]))
            assert too_many.status_code == 400
            assert (await client.get("/readyz")).json() == {"accepted": 0, "queued": 0}

    asyncio.run(asyncio.wait_for(four(), PATIENCE_SECONDS))


@pytest.mark.parametrize("said", [True, False], ids=["length said", "length unsaid"])
def test_a_body_over_the_limit_is_not_read_to_its_end(network: loaded.Network, said: bool) -> None:
    read = 0

    async def long() -> AsyncIterator[bytes]:
        nonlocal read
        start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        for _ in range(50):
            read += 400
            yield start.ljust(400, b"a")
            start = b""

    headers = {"Content-Length": "1000000000000"} if said else {}
    for kind in ("image/png", "multipart/form-data; boundary=x"):
        read = 0
        request = {"content": long(), "headers": {"Content-Type": kind, **headers}}
        (answer,) = ask(network, request, max_bytes=1000)
        assert (answer.status_code, answer.headers["Connection"]) == (413, "close")
        assert "more than 1,000 bytes" in answer.json()["detail"]
        assert read == (0 if said else 1200)


def test_a_body_of_just_the_limit_is_taken(network: loaded.Network, pictures: list[bytes]) -> None:
    (answer,) = ask(network, {"content": pictures[0]}, max_bytes=len(pictures[0]))
    assert answer.status_code == 200


def test_a_body_that_does_not_come_or_ends_early_is_said(network: loaded.Network) -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"P6"
        await asyncio.Event().wait()

    (answer,) = ask(network, {"content": stuck()}, patience=0.01)
    assert (answer.status_code, answer.json()["detail"]) == (408, "the body did not come within 0.01 seconds")

    async def gone() -> list[dict[str, Any]]:
        app = service.application(network, service.Limits())
        scope = {"type": "http", "method": "POST", "path": "/classify", "query_string": b"", "headers": []}
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async with app.router.lifespan_context(app):
            await app(scope, receive, send)
        return sent

    assert asyncio.run(gone())[0]["status"] == 400


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_what_is_no_picture_is_refused_in_a_sentence(network: loaded.Network, pictures: list[bytes]) -> None:
    spy = Spy(network)
    picture, noise = pictures[0], encoded(Image.effect_noise((101, 100), 50))
    for request, status, words in (
        ({"content": b"GIF89a" + bytes(50)}, 415, "not a PNG, JPEG, WebP or PPM"),
        ({"content": encoded(Image.new("RGB", (32, 32)), "GIF")}, 415, "not a PNG, JPEG, WebP or PPM"),
        ({"json": {"image": "cat"}}, 415, "not a PNG, JPEG, WebP or PPM"),
        ({"content": picture[: len(picture) // 2]}, 422, "cannot be decoded"),
        ({"content": encoded(Image.new("F", (32, 32)), "TIFF")}, 415, "not a PNG"),
        ({"content": noise}, 413, "101 x 100 pixels, more than 10,000"),
        ({"content": b""}, 422, "missing"),
        ({"files": form(b"")}, 422, "missing"),
        ({"data": {"file": "cat.png"}, "files": form(picture)}, 400, "Too many fields"),
        ({"files": form(picture, picture)}, 400, "Too many files"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        ({"content": b"--x\r\n", "headers": {"Content-Type": "Multipart/Form-Data; boundary=x"}}, 422, "missing"),
        ({"url": "/classify/batch", "files": form(picture, noise)}, 413, "picture 2 of 2: the picture has 101 x 100"),
        ({"url": "/classify/batch", "files": form(b"cat", picture)}, 415, "picture 1 of 2: this is not a PNG"),
        ({"url": "/classify/batch", "files": form(*[picture] * 4)}, 400, "Maximum number of files is 3"),
        ({"content": picture, "params": {"top": 0}}, 422, "top: "),
        ({"content": picture, "params": {"top": "all"}}, 422, "top: "),
    ):
        (answer,) = ask(network, request, max_pixels=10_000, max_pictures=3)
        assert (answer.status_code, list(answer.json())) == (status, ["detail"]), answer.text
        assert words in answer.json()["detail"]
    assert spy.sizes == []


def test_a_bomb_is_refused_by_its_header(network: loaded.Network) -> None:
    bomb = encoded(Image.new("1", (9_000, 9_000)))
    assert len(bomb) < 100_000
    (answer,) = ask(network, {"content": bomb})
    assert (answer.status_code, "81,000,000" not in answer.text) == (413, True)
    assert "9,000 x 9,000 pixels, more than 25,000,000" in answer.json()["detail"]


def odd_pictures() -> Iterator[tuple[str, bytes]]:
    seeded = np.random.default_rng(0)
    rgb = Image.fromarray(seeded.integers(0, 256, (100, 61, 3), np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    yield "larger", encoded(rgb)
    yield "smaller", encoded(rgb.resize((20, 9)))
    yield "turned", encoded(rgb, "JPEG", exif=turned)
    yield "ink", encoded(rgb.convert("CMYK"), "JPEG")
    yield "transparent", encoded(Image.fromarray(seeded.integers(0, 256, (40, 40, 4), np.uint8)), "WEBP", lossless=True)
    yield "palette", encoded(rgb.quantize(16), transparency=3)
    yield "16 bits", encoded(Image.fromarray(seeded.integers(0, 65536, (50, 40)).astype(np.uint16)))
    yield "16 bits, transparent", encoded(Image.fromarray(np.full((32, 32), 500, np.uint16)), transparency=500)
    yield "portable", encoded(rgb, "PPM")


def test_a_picture_of_any_kind_is_seen_as_predict_sees_it(tmp_path: Path) -> None:
    for name, data in odd_pictures():
        path = tmp_path / "picture"
        path.write_bytes(data)
        assert np.array_equal(loaded.read_picture(data, 1_000_000), read_picture(path)), name


@pytest.mark.parametrize(
    ("variant", "choices"), [("float32", {}), ("float32", {"layout": "nhwc"}), ("unit", {"opset": 9})], ids=str
)
def test_every_input_variant_gets_what_it_takes(
    exported: Subject, pictures: list[bytes], pixels: np.ndarray, tmp_path: Path, variant: Any, choices: dict[str, Any]
) -> None:
    path = tmp_path / "model.onnx"
    export(exported.weights, "onnx", variant=variant, choices=OnnxChoices(**choices), output=path, checked=False)
    request = {"url": "/classify/batch", "files": form(*pictures), "params": {"top": 100}}
    (answer,) = ask(loaded.Network(path), request)
    found = np.stack([shares(one["top"]) for one in answer.json()["pictures"]])
    assert np.abs(found - plain(exported.file("-uint8.onnx"), pixels)).max() < 1e-5


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_reduced_precision_gets_the_plain_sessions_bits(
    pictures: list[bytes], pixels: np.ndarray, tmp_path: Path, precision: Any
) -> None:
    path = tmp_path / "model.onnx"
    weights = prepared(load_weights(zoo("resnet20", "cifar10")), precision)
    choices = OnnxChoices(precision=precision)
    export(weights, "onnx", variant="uint8", choices=choices, output=path, checked=False)
    (answer,) = ask(loaded.Network(path), {"content": pictures[0], "params": {"top": 10}})
    assert np.array_equal(shares(answer.json()["top"], 10), plain(path, pixels[:1])[0])


def test_a_file_for_three_images_always_gets_three(
    exported: Subject, pictures: list[bytes], pixels: np.ndarray
) -> None:
    network = loaded.Network(for_three(exported))
    spy = Spy(network)
    four = {"url": "/classify/batch", "files": form(*pictures[:4]), "params": {"top": 100}}
    (answer,) = ask(network, four)
    assert spy.sizes == [3, 3]
    found = np.stack([shares(one["top"]) for one in answer.json()["pictures"]])
    assert np.abs(found - plain(exported.file("-uint8.onnx"), pixels[:4])).max() < 1e-5


def test_a_run_that_fails_is_500_and_the_next_one_runs(network: loaded.Network, pictures: list[bytes]) -> None:
    Spy(network, None, RuntimeError("out of memory\nin node 7"))

    async def two() -> list[httpx.Response]:
        async with serving(network) as client:
            return [await client.post("/classify", content=pictures[0]) for _ in range(2)]

    failed, fine = asyncio.run(two())
    assert (failed.status_code, failed.json()) == (500, {"detail": "the network failed: out of memory"})
    assert fine.status_code == 200


def test_numbers_that_are_none_are_no_answer(network: loaded.Network, pictures: list[bytes]) -> None:
    class Broken:
        def run(self, *_: Any) -> list[np.ndarray]:
            return [np.full((1, 100), np.nan, np.float32)]

    network.session = Broken()
    (answer,) = ask(network, {"content": pictures[0]})
    assert (answer.status_code, "numbers that are none" in answer.text) == (500, True)


def test_the_description_names_every_answer_and_loads_nothing_from_elsewhere(network: loaded.Network) -> None:
    async def pages() -> list[httpx.Response]:
        async with serving(network) as client:
            return [await client.get(page) for page in ("/openapi.json", "/docs", "/redoc")]

    described, *others = asyncio.run(pages())
    assert [page.status_code for page in others] == [404, 404]
    document = described.json()
    assert set(document["paths"]) == {"/classify", "/classify/batch", "/healthz", "/readyz"}
    post = document["paths"]["/classify"]["post"]
    assert {"200", "400", "408", "413", "415", "422", "500", "503"} == set(post["responses"])
    assert set(post["requestBody"]["content"]) == {"multipart/form-data", "image/*", "application/octet-stream"}
    for name, schema in document["components"]["schemas"].items():
        for key, value in schema["properties"].items():
            assert value.get("description"), f"{name}.{key}"


def started(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Call the command in this process, where it must end before it listens; its exit code."""

    def listen(*_: Any, **__: Any) -> None:
        raise AssertionError("it listens")

    monkeypatch.setattr(socket, "create_server", listen)
    monkeypatch.setattr(sys, "argv", ["service.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        service.main()
    return int(ended.value.code or 0)


def unusable(folder: Path, good: Path) -> Iterator[tuple[Path, str]]:
    """Files that cannot be served, and words of the reason."""
    yield folder / "missing.onnx", "no such file"
    yield folder, "not a regular one"
    os.mkfifo(folder / "pipe.onnx")
    yield folder / "pipe.onnx", "not a regular one"
    for name, data in (("empty", b""), ("text", b"cat"), ("half", good.read_bytes()[: good.stat().st_size // 2])):
        path = folder / f"{name}.onnx"
        path.write_bytes(data)
        yield path, "ONNX Runtime cannot open it"
    (folder / "huge.onnx").touch()
    os.truncate(folder / "huge.onnx", (1 << 30) + 1)
    yield folder / "huge.onnx", "more than 1,073,741,824 bytes"
    for name, change, words in (
        ("theirs", lambda said: said.pop("tool"), "not a file of cifar-export"),
        ("nameless", lambda said: said.pop("labels"), "cannot be served"),
        ("damaged", lambda said: said.update(labels="[1"), "cannot be served"),
        ("short", lambda said: said.update(labels='["cat"]'), "inputs or outputs are not those that it names"),
        ("other", lambda said: said.update(input="float32"), "inputs or outputs are not those that it names"),
        ("odd", lambda said: said.update(input="float8"), "cannot be served"),
    ):
        model = onnx.load(good)
        said = {entry.key: entry.value for entry in model.metadata_props}
        change(said)
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, said)
        onnx.save(model, folder / f"{name}.onnx")
        yield folder / f"{name}.onnx", words


def test_a_file_that_cannot_be_served_is_one_line_and_exit_code_2(
    exported: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, words in unusable(tmp_path, exported.file("-uint8.onnx")):
        assert started(monkeypatch, path) == 2, path
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), err.startswith(f"error: {path}: ")) == ("", 1, True), err
        assert words in err


def test_wrong_usage_is_exit_code_2(
    exported: Subject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = exported.file("-uint8.onnx")
    for arguments in (
        [],
        [model, "--port", "65536"],
        [model, "--port", "http"],
        [model, "--max-batch", "0"],
        [model, "--wait-ms", "nan"],
        [model, "--patience", "-1"],
        [model, "--quick"],
    ):
        assert started(monkeypatch, *arguments) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("service.py: error: ")


def test_a_port_that_is_taken_is_exit_code_3(exported: Subject) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run(sys.executable, EXAMPLES / "fastapi" / "service.py", exported.file("-uint8.onnx"), "--port", port)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"error: cannot listen on 127.0.0.1, port {port} (Address already in use). Try --port 0.\n"


def test_answers_are_sent_without_waiting_for_more() -> None:
    """Nagle's algorithm would hold the second half of each back until the client acknowledges the first, 40 ms."""
    with service.listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("package", ["fastapi", "onnxruntime", "PIL", "python_multipart"])
def test_without_a_package_it_says_what_to_install(package: str) -> None:
    done = run(sys.executable, "-c", LAUNCHER, EXAMPLES / "fastapi", package)
    assert done.returncode == 1
    assert done.stderr == f"error: {package} is not installed: pip install -r requirements.txt\n"


@contextlib.contextmanager
def process(home: Path, *arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The service in a process of its own, without torch or this package; it and its port."""
    environment = {key: value for key, value in homeless(home).items() if key != "PYTHONWARNINGS"}
    blocked = "torch,torchvision,onnx,cifar_export,exporter"
    command = [sys.executable, "-c", LAUNCHER, EXAMPLES / "fastapi", blocked, *arguments, "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(list(map(str, command)), env=environment, **pipes) as running:
        try:
            line = running.stdout.readline()
            assert line.startswith("cifar100_resnet20 on http://127.0.0.1:"), running.stderr.read()
            yield running, int(line.rsplit(":", 1)[1])
        finally:
            running.kill()


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS).close()
    except OSError:
        return True
    return False


def test_the_process_answers_and_ends_on_sigterm_with_what_is_in_flight(
    exported: Subject, pictures: list[bytes], tmp_path: Path
) -> None:
    with process(tmp_path, exported.file("-uint8.onnx")) as (running, port):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, PATIENCE_SECONDS)) as client:
            for picture, expected in zip(pictures, exported.expected.values(), strict=True):
                client.request("POST", "/classify", picture)
                said = json.load(client.getresponse())
                assert [guess["label"] for guess in said["top"]] == [label for label, _ in expected]
            client.request("GET", "/healthz")
            assert client.getresponse().status == 200
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, PATIENCE_SECONDS)) as client:
            client.putrequest("POST", "/classify")
            client.putheader("Content-Length", "1000000000000")
            client.endheaders()  # and no body: the answer does not wait for it
            answer = client.getresponse()
            assert (answer.status, answer.getheader("Connection")) == (413, "close")
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, PATIENCE_SECONDS)) as client:
            client.putrequest("POST", "/classify")
            client.putheader("Content-Length", str(len(pictures[0])))
            client.endheaders(pictures[0][:100])
            accepted = 0
            while not accepted:
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, PATIENCE_SECONDS)) as other:
                    other.request("GET", "/readyz")
                    accepted = json.load(other.getresponse())["accepted"]
            running.send_signal(signal.SIGTERM)
            while not refuses(port):
                pass
            client.send(pictures[0][100:])
            answer = client.getresponse()
            assert answer.status == 200
            assert json.load(answer)["top"][0]["label"] == exported.expected["real-5"][0][0]
        stdout, stderr = running.communicate(timeout=PATIENCE_SECONDS)
        assert (running.returncode, stdout, stderr) == (-signal.SIGTERM, "", "")
    assert list(tmp_path.iterdir()) == []


def test_the_load_test_measures_every_side() -> None:
    script = ROOT / "benchmarks" / "serving.py"
    done = run(sys.executable, script, "--clients", "2", "--seconds", "0.1", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert list(rows) == ["service", "service, `--wait-ms 2`", "service, batching off", "plain session"]
    assert all(row["per_second"] > 0 and row["p99_ms"] >= row["p50_ms"] > 0 for row in rows.values())
    assert rows["plain session"]["ratio"] == 1
