"""How fast examples/fastapi answers: with batching, with batching off, and beside them the plain session, in turns.

    python benchmarks/serving.py [--model resnet20] [--dataset cifar100] [--clients 16] [--seconds 3] [--rounds 5]
                                 [--threads 1] [--json]

The service is a process of its own on loopback: with its own defaults, waiting two milliseconds for company
(`--wait-ms 2`), and with batching off (`--max-batch 1`). The clients are threads of this process, each with one
connection that it keeps; each sends the next of 128 PNG pictures as soon as the last is answered, so that as many are
in flight as there are clients. The plain session is a loop in this process that decodes the same pictures with Pillow
and runs them one by one: no HTTP, no JSON. In every round each of the four has one turn of so many seconds, and another
one begins. Throughput and the ratio to the plain session in the same round are medians over the rounds; p50 and p99 are
of all latencies. Clients and service share the machine's cores.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image

from cifar_export.exporting.artifact import export
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.zoo import network
from cifar_export.weights.sources import load_weights

SERVICE = Path(__file__).resolve().parents[1] / "examples" / "fastapi" / "service.py"
SERVICES = {
    "service": [],
    "service, `--wait-ms 2`": ["--wait-ms", "2"],
    "service, batching off": ["--max-batch", "1"],
}
BASE = "plain session"
Turn = Callable[[float], list[float]]


def main() -> None:
    options = _parse()
    pictures = [_png(image) for image in bundled_images()]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        file = Path(folder) / "model.onnx"
        weights = load_weights(network(options.model, options.dataset))
        export(weights, "onnx", variant="uint8", output=file, checked=False)
        command = [sys.executable, str(SERVICE), str(file), "--port", "0", "--threads", str(options.threads)]
        sides: dict[str, Turn] = {}
        for name, more in SERVICES.items():
            service = _service([*command, *more], pictures, options.clients)
            sides[name] = running.enter_context(service)
        sides[BASE] = _plain(file, pictures, options.threads)
        document = {
            "network": weights.network.name,
            "clients": options.clients,
            "threads": options.threads,
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "load": round(os.getloadavg()[0], 1),
            "rows": _rows(_measured(sides, options.seconds, options.rounds)),
        }
    if options.json:
        print(json.dumps(document, indent=1))
        return
    print(
        "{network}, {clients} clients, {threads} thread(s) a run, {cores} cores, {machine}, ".format(**document), end=""
    )
    print(f"load average {document['load']} before\n")
    print("| | pictures/s | of the plain session | p50 | p99 |\n|---|--:|--:|--:|--:|")
    for name, row in document["rows"].items():
        print("| {} | {per_second:,.0f} | {ratio:.2f} | {p50_ms:.2f} ms | {p99_ms:.2f} ms |".format(name, **row))


def _measured(sides: dict[str, Turn], seconds: float, rounds: int) -> dict[str, list[list[float]]]:
    """Latencies in seconds, of each side and round; one uncounted turn of each comes first."""
    names = list(sides)
    for turn in sides.values():
        turn(seconds / 4)
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in (*names[number % len(names) :], *names[: number % len(names)]):
            start = time.perf_counter()
            latencies = sides[name](seconds)
            found[name].append([time.perf_counter() - start, *latencies])
    return found


def _rows(found: dict[str, list[list[float]]]) -> dict[str, dict[str, float]]:
    rates = {name: [(len(turn) - 1) / turn[0] for turn in turns] for name, turns in found.items()}
    rows = {}
    for name, turns in found.items():
        ratios = [ours / base for ours, base in zip(rates[name], rates[BASE], strict=True)]
        p50, p99 = np.percentile([latency for turn in turns for latency in turn[1:]], [50, 99])
        rows[name] = {
            "per_second": round(statistics.median(rates[name]), 1),
            "ratio": round(statistics.median(ratios), 3),
            "p50_ms": round(1000 * p50, 3),
            "p99_ms": round(1000 * p99, 3),
        }
    return rows


@contextlib.contextmanager
def _service(command: list[str], pictures: list[bytes], clients: int) -> Iterator[Turn]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline() if process.stdout else ""
            if ":" not in said:
                raise SystemExit("error: the service did not start")
            port = int(said.rsplit(":", 1)[1])

            def turn(seconds: float) -> list[float]:
                end = time.perf_counter() + seconds
                with ThreadPoolExecutor(clients) as threads:
                    return list(
                        itertools.chain(
                            *threads.map(lambda first: _client(port, pictures[first:], end), range(clients))
                        )
                    )

            yield turn
        finally:
            process.terminate()


def _client(port: int, pictures: list[bytes], end: float) -> list[float]:
    latencies = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for picture in itertools.cycle(pictures):
            start = time.perf_counter()
            if start > end:
                return latencies
            connection.request("POST", "/classify", picture)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise SystemExit(f"error: the service answered {answer.status}: {body[:200]!r}")
            latencies.append(time.perf_counter() - start)
    return latencies


def _plain(file: Path, pictures: list[bytes], threads: int) -> Turn:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])

    def turn(seconds: float) -> list[float]:
        latencies = []
        end = time.perf_counter() + seconds
        for picture in itertools.cycle(pictures):
            start = time.perf_counter()
            if start > end:
                return latencies
            pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
            session.run(["logits"], {"image": pixels[np.newaxis]})
            latencies.append(time.perf_counter() - start)
        return latencies

    return turn


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def _count(text: str) -> int:
    if not 1 <= (value := int(text)) <= 128:
        raise ValueError
    return value


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--clients", type=_count, default=16, help="1 to 128")
    parser.add_argument("--seconds", type=float, default=3, help="of a turn")
    parser.add_argument("--rounds", type=_count, default=5)
    parser.add_argument("--threads", type=_count, default=1, help="of one run of the network")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
