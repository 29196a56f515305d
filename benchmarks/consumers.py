"""The table of docs/consumers.md: every example on one core, on the same network and pictures.

    python benchmarks/consumers.py [--core N] [--model resnet20] [--dataset cifar100] [--json]

Prints Markdown. Uses the bundled weights, seeded random ones where there are none. For each example:

- largest error: of the logits of the five likeliest classes over all pictures, against PyTorch in float64;
- start-up: from starting the process to its end with one picture, the median of `RUNS`; for the browser from opening
  the page to the first answer, in a fresh profile;
- latency: of one inference of one picture, the median of `REPEAT` after a first one.

An example whose tools are missing is left out, with the reason on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the tests run the same examples

from cifar_export.errors import CifarExportError
from cifar_export.gate.inputs import bundled_images, input_sets
from cifar_export.networks.zoo import NetworkSpec, network
from cifar_export.weights.core import Weights
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.consumers import (
    EXAMPLES,
    Missing,
    Subject,
    Top,
    answers,
    browser,
    cpp_libtorch,
    cpp_onnxruntime,
    npm_packages,
    page_top,
    reference,
    run,
    serve,
    state_of,
    subject,
    tool,
)

RUNS, REPEAT, BROWSER_PICTURES = 5, 300, 12

# Runs a Python example on one picture, then times the call that it makes.
PYTHON_LATENCY = """
import runpy, statistics, sys, time
script, repeat, *sys.argv[1:] = sys.argv[1:]
example = runpy.run_path(script)
image = example["pixels"][None]
if "session" in example:
    once = lambda: example["session"].run(["logits"], {"image": image})
else:
    once = lambda: example["model"](image)
times = []
for _ in range(int(repeat) + 1):
    start = time.perf_counter()
    once()
    times.append(time.perf_counter() - start)
print("latency", 1000 * statistics.median(times[1:]))
"""


@dataclass(frozen=True)
class Row:
    """One consumer, measured."""

    language: str
    runtime: str
    version: str
    reads: str
    pictures: int
    top1_agreement: float
    max_abs_error: float
    startup_ms: float
    latency_ms: float


class Bench:
    """One network, its files and pictures, and what the reference says of them."""

    def __init__(self, weights: Weights, folder: Path) -> None:
        pixels = {f"real-{i:03}": image for i, image in enumerate(bundled_images())}
        pixels |= {f"extreme-{i:02}": image for i, image in enumerate(input_sets()["extremes"])}
        self.subject: Subject = subject(weights, folder, pixels=pixels, torchscript=True)
        classes = weights.network.dataset.classes
        self.truth = dict(zip(pixels, reference(weights, list(pixels.values()), classes), strict=True))

    def row(self, names: tuple[str, str, str, str], found: Mapping[str, Top], startup: float, latency: float) -> Row:
        """Judge `found` against the reference."""
        errors, agreeing = [], 0
        for name, top in found.items():
            truth = dict(self.truth[name])
            errors += [abs(logit - truth[label]) for label, logit in top]
            agreeing += top[0][0] == self.truth[name][0][0]
        return Row(*names, len(found), agreeing / len(found), max(errors), 1000 * startup, latency)

    def program(
        self, names: tuple[str, str, str], command: list[str | Path], model: str, picture: str, timing: list[str | Path]
    ) -> Row:
        """Measure an example that is a program: `command MODEL PICTURE...`; `timing` prints its latency."""
        file = self.subject.file(model)
        pictures = [path.with_suffix(picture) for path in self.subject.pictures.values()]
        done = run(*command, file, *pictures)
        if done.returncode:
            raise SystemExit(f"{command} failed: {done.stderr}")
        startup = statistics.median(_seconds(lambda: run(*command, file, pictures[0])) for _ in range(RUNS))
        timed = run(*timing, file, pictures[0], *([] if "-c" in timing else ["--repeat", str(REPEAT)]))
        if "-c" in timing:
            version, latency = metadata_version(names[1]), float(timed.stdout.split("latency")[1])
        else:
            said = timed.stderr.strip().splitlines()[-1]
            version, latency = said.split(",")[0].split()[-1], float(said.split(": ")[1].split()[0])
        return self.row((*names[:2], version, names[2]), answers(done.stdout), startup, latency)


def metadata_version(runtime: str) -> str:
    """Version of the Python package behind that runtime."""
    for name in {"ONNX Runtime": ("onnxruntime-gpu", "onnxruntime"), "OpenVINO": ("openvino",)}[runtime]:
        if any(metadata.distributions(name=name)):
            return metadata.version(name)
    raise Missing(f"{runtime} is not installed")


def python(bench: Bench, runtime: str, script: str) -> Row:
    metadata_version(runtime)
    path = EXAMPLES / "python" / script
    timing = [sys.executable, "-c", PYTHON_LATENCY, path, str(REPEAT)]
    return bench.program(("Python", runtime, "ONNX uint8"), [sys.executable, path], "-uint8.onnx", ".png", timing)


def cpp(bench: Bench, runtime: str, build: Callable[[], Path], reads: str, model: str) -> Row:
    program: list[str | Path] = [build()]
    return bench.program(("C++20", runtime, reads), program, model, ".ppm", program)


def node(bench: Bench) -> Row:
    program: list[str | Path] = [tool("node"), npm_packages("node") / "classify.mjs"]
    return bench.program(
        ("JavaScript, Node.js", "onnxruntime-node", "ONNX uint8"), program, "-uint8.onnx", ".png", program
    )


def web(bench: Bench) -> Row:
    folder = npm_packages("web")
    with tempfile.TemporaryDirectory() as scratch:
        site, profile = Path(scratch) / "site", Path(scratch) / "profile"
        done = run(tool("node"), folder / "build.mjs", "--models", bench.subject.folder, "--out", site)
        if done.returncode:
            raise SystemExit(done.stderr)
        with serve(site) as url, browser(profile) as driver:
            found, latencies, startup = {}, [], 0.0
            start = time.perf_counter()
            driver.get(url)
            _wait(driver, "ready")
            for name, path in list(bench.subject.pictures.items())[:BROWSER_PICTURES]:
                driver.execute_script("document.documentElement.dataset.state = 'waiting'")
                driver.find_element("css selector", "#file").send_keys(str(path))
                _wait(driver, "done")
                startup = startup or time.perf_counter() - start
                found[name] = page_top(driver)
                latencies.append(driver.execute_script("return Number(document.getElementById('time').dataset.ms)"))
            about = f"onnxruntime-web, WebAssembly (Chromium {driver.capabilities['browserVersion'].split('.')[0]})"
    version = json.loads((folder / "node_modules/onnxruntime-web/package.json").read_text(encoding="utf-8"))["version"]
    return bench.row(
        ("JavaScript, browser", about, version, "ONNX uint8"), found, startup, statistics.median(latencies)
    )


CONSUMERS: tuple[Callable[[Bench], Row], ...] = (
    lambda bench: python(bench, "ONNX Runtime", "classify_onnxruntime.py"),
    lambda bench: python(bench, "OpenVINO", "classify_openvino.py"),
    lambda bench: cpp(bench, "ONNX Runtime", cpp_onnxruntime, "ONNX uint8", "-uint8.onnx"),
    lambda bench: cpp(bench, "libtorch", cpp_libtorch, "TorchScript uint8", "-uint8.torchscript.pt"),
    node,
    web,
)


def _wait(driver: object, state: str) -> None:
    end = time.perf_counter() + 120
    while (now := state_of(driver)) != state:
        if now == "error" or time.perf_counter() > end:
            raise SystemExit(f"the page is in state {now}, not {state}")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _weights(spec: NetworkSpec) -> Weights:
    try:
        return load_weights(spec)
    except CifarExportError as error:
        print(f"note: random weights, because {error}", file=sys.stderr)
        return random_weights(spec, 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--core", type=int, default=0, help="the one core that everything runs on")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})  # children inherit it
    weights = _weights(network(options.model, options.dataset))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(weights, Path(folder))
        for consumer in CONSUMERS:
            try:
                rows.append(consumer(bench))
            except Missing as error:
                print(f"left out: {error}", file=sys.stderr)
    load = os.getloadavg()[0]
    if options.json:
        print(
            json.dumps({"network": weights.network.name, "load": load, "rows": [asdict(row) for row in rows]}, indent=1)
        )
        return
    print(f"{weights.network.name} ({weights.source} weights), core {options.core} of {os.cpu_count()}, ", end="")
    print(f"{platform.machine()}, load average {load:.1f}\n")
    print("| language | runtime | version | reads | pictures | top-1 agrees | largest error | start-up | latency |")
    print("|---|---|---|---|--:|--:|--:|--:|--:|")
    for row in rows:
        print(
            f"| {row.language} | {row.runtime} | {row.version} | {row.reads} | {row.pictures} "
            f"| {100 * row.top1_agreement:.0f} % | {row.max_abs_error:.1e} | {row.startup_ms:,.0f} ms "
            f"| {row.latency_ms:.2f} ms |"
        )


if __name__ == "__main__":
    main()
