"""Running the examples: what they get, what they must answer, how a browser is driven. For tests and the benchmark."""

from __future__ import annotations

import contextlib
import copy
import functools
import http.server
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cifar_export.exporting.artifact import export
from cifar_export.exporting.precision import prepared
from cifar_export.formats.onnx_choices import OnnxChoices, Precision
from cifar_export.gate.forward import Inputs
from cifar_export.gate.inputs import bundled_images, input_sets
from cifar_export.gate.standard import standard
from cifar_export.networks.resnet import with_input
from cifar_export.networks.zoo import NETWORKS
from cifar_export.runtimes import RUNTIMES
from cifar_export.runtimes.pytorch import Reference
from cifar_export.weights.core import Weights, build_network
from cifar_export.weights.sources import load_weights

from support.paths import ROOT

EXAMPLES = ROOT / "examples"
BUILD = ROOT / "build" / "examples"
SETUP = "`make examples-setup` prepares it"
TOLERANCE = 1e-4  # of logits: float32 arithmetic stays below 2e-5 on these networks, a wrong input is off by 1e-1
BROWSER_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-device-scale-factor=1"
)

Top = list[tuple[str, float]]


class Missing(Exception):
    """A tool that this machine lacks; the message says which and what to do."""


@dataclass(frozen=True)
class Subject:
    """A network exported to `folder`, pictures, and the five likeliest classes (label, logit) in PyTorch float64.

    `pictures` has for each name a 32x32 PNG file, and beside it the same as .ppm.
    """

    weights: Weights
    folder: Path
    pictures: dict[str, Path]
    expected: dict[str, Top]

    @property
    def name(self) -> str:
        """Start of file names."""
        return self.weights.network.name

    def file(self, suffix: str) -> Path:
        """The exported file with that suffix."""
        return self.folder / f"{self.name}{suffix}"


def six_pictures() -> dict[str, Any]:
    """Pixels that networks tell apart, by name."""
    sets = input_sets()
    pixels = {f"real-{i}": bundled_images()[i] for i in (5, 21, 26)}
    return pixels | {f"extreme-{i}": sets["extremes"][i] for i in (1, 9)} | {"noise": sets["noise"][0]}


def subject(
    weights: Weights,
    folder: Path,
    *,
    pixels: Mapping[str, Any] | None = None,
    torchscript: bool = False,
    batch: int | None = None,
) -> Subject:
    """Export `weights` with uint8 input to `folder`, the ONNX file for that batch alone, and put pictures there."""
    pixels = pixels or six_pictures()
    pictures = {}
    for name, values in pixels.items():
        pictures[name] = folder / f"{name}.png"
        for suffix in (".png", ".ppm"):
            Image.fromarray(values).save(folder / f"{name}{suffix}")
    result = Subject(
        weights, folder, pictures, dict(zip(pixels, reference(weights, list(pixels.values())), strict=True))
    )
    choices = OnnxChoices(batch=batch)
    export(weights, "onnx", variant="uint8", choices=choices, output=result.file("-uint8.onnx"), checked=False)
    if torchscript:
        export(weights, "torchscript", variant="uint8", output=result.file("-uint8.torchscript.pt"), checked=False)
    return result


def for_three(exported: Subject) -> Path:
    """The same network as an ONNX file that takes batches of three images and no others."""
    path = exported.file("-batch3-uint8.onnx")
    if not path.is_file():
        export(exported.weights, "onnx", variant="uint8", choices=OnnxChoices(batch=3), output=path, checked=False)
    return path


def reference(weights: Weights, pixels: Sequence[Any], top: int = 5) -> list[Top]:
    """The likeliest classes of each picture, best first, by the network in float64."""
    network = copy.deepcopy(build_network(weights)).double()
    logits = Reference(with_input(network, "uint8", weights.normalization).eval()).logits(np.stack(pixels))
    labels = weights.network.dataset.labels
    return [[(labels[i], float(row[i])) for i in np.argsort(-row)[:top]] for row in logits]


@dataclass(frozen=True)
class ReducedSubject:
    """The bundled CIFAR-10 ResNet-20 as a file in reduced precision, pictures, and what its simulation answers.

    `logits`: for each picture that of each label. `allowed`: how far from them the runtime of that name may be.
    """

    file: Path
    pictures: dict[str, Path]
    logits: dict[str, dict[str, float]]
    allowed: dict[str, float]

    def check(self, found: Mapping[str, Top], runtime: str) -> None:
        """Raise AssertionError unless `found` is what a correct runtime answers."""
        assert found.keys() == self.logits.keys()
        for name, expected in self.logits.items():
            best, second = sorted(expected, key=lambda label: -expected[label])[:2]
            allowed = self.allowed[runtime]
            assert max(abs(logit - expected[label]) for label, logit in found[name]) <= allowed, name
            if expected[best] - expected[second] > 2 * allowed:
                assert found[name][0][0] == best, name


def reduced_subject(folder: Path, precision: Precision = "int8") -> ReducedSubject:
    """Export that file with uint8 input to `folder`, and put pictures there."""
    weights = prepared(load_weights(NETWORKS["cifar10_resnet20"]), precision)
    pixels = six_pictures()
    pictures = {name: folder / f"{name}.png" for name in pixels}
    for name, values in pixels.items():
        for path in (pictures[name], pictures[name].with_suffix(".ppm")):
            Image.fromarray(values).save(path)
    file = folder / f"{weights.network.name}-uint8-{precision}.onnx"
    choices = OnnxChoices(precision=precision)
    export(weights, "onnx", variant="uint8", choices=choices, output=file, checked=False)
    inputs = Inputs({"pictures": np.stack(list(pixels.values()))}, "uint8", weights.normalization)
    held = standard(weights, "uint8", precision, [], inputs, lambda what: None)
    labels = weights.network.dataset.labels
    rows = [dict(zip(labels, map(float, row), strict=True)) for row in held.reference["pictures"]]
    allowed = {
        name: held.limits(spec)["pictures"].allowed for name, spec in RUNTIMES.items() if precision in spec.precisions
    }
    return ReducedSubject(file, pictures, dict(zip(pixels, rows, strict=True)), allowed)


def answers(printed: str) -> dict[str, Top]:
    """What an example printed, by the stem of the picture's name."""
    found: dict[str, Top] = {}
    name = ""
    for line in printed.splitlines():
        if line.startswith("  "):
            label, _, logit = line.split()
            found[name].append((label, float(logit)))
        else:
            name = Path(line).stem
            found[name] = []
    return found


def largest_error(found: Mapping[str, Top], expected: Mapping[str, Top]) -> float:
    """Largest difference of a logit from the reference; raises AssertionError where labels or their order differ."""
    assert found.keys() == expected.keys()
    errors = []
    for name, top in expected.items():
        assert [label for label, _ in found[name]] == [label for label, _ in top], name
        errors += [abs(ours - true) for (_, ours), (_, true) in zip(found[name], top, strict=True)]
    return max(errors)


def tool(name: str) -> str:
    """Path of a program."""
    path = shutil.which(name)
    if path is None:
        raise Missing(f"{name} is not installed; {SETUP}")
    return path


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; stdout and stderr are text."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)


def homeless(home: Path) -> dict[str, str]:
    """The environment of a user whose home is the empty folder `home`, and who has said nothing about telemetry."""
    dropped = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")
    return {name: value for name, value in os.environ.items() if name not in dropped} | {"HOME": str(home)}


def npm_packages(example: str) -> Path:
    """The example's folder, once its npm packages are there."""
    tool("node")
    folder = EXAMPLES / example
    if not (folder / "node_modules").is_dir():
        raise Missing(f"the npm packages of examples/{example} are not installed; {SETUP}")
    return folder


@functools.cache
def cpp_onnxruntime() -> Path:
    """Build the ONNX Runtime example; its program. $ORT_ROOT, else Debian's headers and the wheel's library."""
    return _cmake("cpp-onnxruntime", f"-DORT_ROOT={ort_root()}")


def ort_root() -> str:
    """A folder with include/ and lib/ of ONNX Runtime: $ORT_ROOT, else Debian's headers and the wheel's library."""
    root = os.environ.get("ORT_ROOT")
    if not root:
        root = str(BUILD / "onnxruntime")
        if not (BUILD / "onnxruntime" / "include").exists():
            raise Missing(f"the headers of ONNX Runtime are missing; {SETUP}")
        environment = {**os.environ, "VENV": sys.prefix}
        done = run(ROOT / "tools" / "setup_examples.sh", "--library", env=environment)
        if done.returncode:
            raise Missing(done.stderr.strip())
    return root


@functools.cache
def cpp_libtorch() -> Path:
    """Build the libtorch example against the torch that is installed; its program."""
    return _cmake("cpp-libtorch", f"-DTORCH_ROOT={_package('torch')}")


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise Missing(f"{name} is not installed")
    return Path(spec.submodule_search_locations[0])


def _cmake(example: str, definition: str) -> Path:
    cmake, folder = tool("cmake"), BUILD / example
    tool("g++")
    for step in ((cmake, "-S", EXAMPLES / example, "-B", folder, definition), (cmake, "--build", folder)):
        done = run(*step)
        if done.returncode:
            raise AssertionError(f"{example} does not build:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        assert "warning:" not in done.stdout + done.stderr, done.stdout + done.stderr
    return folder / "classify"


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve `folder` on 127.0.0.1; the address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def browser(profile: Path, *more: str) -> Iterator[Any]:
    """A headless Chromium with an empty profile, as a Selenium driver."""
    if importlib.util.find_spec("selenium") is None:
        raise Missing("selenium is not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = tool("chromium")
    for option in (*BROWSER_OPTIONS.split(), f"--user-data-dir={profile}", *more):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(tool("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def emulate(driver: Any, width: int, scheme: str) -> None:
    """Show pages in a window of that width in pixels, a phone's where it is narrow; `scheme` is "light" or "dark"."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def state_of(driver: Any) -> str:
    """What the page says of itself: ready, busy, done or error."""
    return str(driver.execute_script("return document.documentElement.dataset.state || 'loading'"))


def page_top(driver: Any) -> Top:
    """The result on the page: labels and logits."""
    rows = driver.execute_script("return [...document.querySelectorAll('#top li')].map((li) => ({...li.dataset}))")
    return [(row["label"], float(row["logit"])) for row in rows]
