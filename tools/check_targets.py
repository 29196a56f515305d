"""Read the file for each `--target` by programs of other people, and say how far their logits are off.

    python tools/check_targets.py [--reader NAME]... [--environments DIR]

Each reader gets a virtual environment of its own (kept in DIR, build/readers by default) with the packages that it
needs from the registry, and runs `tools/readers/<name>_reader.py` there on 16 images, one by one. Prints a Markdown
table: the reader, its version, the largest error from float64 and whether the likeliest class is the same. Exits with
1 where a reader refuses a file or is off by more than float32 explains (for those that compute in it).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from cifar_export.commands.console import Command
from cifar_export.errors import GateFailed, Unavailable
from cifar_export.exporting.artifact import export
from cifar_export.formats.onnx_choices import TARGETS, OnnxChoices
from cifar_export.gate.compare import bound, compare
from cifar_export.gate.inputs import few_of_each
from cifar_export.networks.preprocess import as_variant
from cifar_export.networks.resnet import with_input
from cifar_export.networks.zoo import NETWORKS, InputVariant
from cifar_export.runtimes.pytorch import Eager, Reference
from cifar_export.weights.core import Weights, build_network
from cifar_export.weights.sources import load_weights

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "tools" / "readers"
PATIENCE_S = 1800


@dataclass(frozen=True)
class Reader:
    """A program that reads ONNX files. `packages`: what pip installs; the first names its version.

    `float32`: whether it computes in that; another one is measured, and not judged.
    """

    name: str
    title: str
    targets: tuple[str, ...]
    packages: tuple[str, ...]
    float32: bool = True


READERS = (
    Reader("onnxslim", "onnxslim and ONNX Runtime", ("onnxruntime", "tensorrt"), ("onnxslim", "onnxruntime")),
    Reader("openvino", "OpenVINO", ("openvino",), ("openvino",)),
    Reader("opencv", "OpenCV 4", ("opencv",), ("opencv-python-headless<5",)),
    Reader("onnx2torch", "onnx2torch", ("vnn",), ("onnx2torch",)),
    Reader("onnx2pytorch", "onnx2pytorch", ("vnn",), ("onnx2pytorch",)),
    Reader("qonnx", "QONNX", ("hls4ml", "finn"), ("qonnx",)),
    Reader("rknn", "RKNN-Toolkit2, simulator in float16", ("rknn",), ("rknn-toolkit2",), float32=False),
    Reader("concrete", "Concrete ML, 8 bits, in the clear", ("fhe",), ("concrete-ml",), float32=False),
    Reader("emx", "emx-onnx-cgen and a C compiler", ("microcontroller",), ("emx-onnx-cgen",)),
    Reader("tract", "tract", ("microcontroller",), ("tract",)),
)


@dataclass(frozen=True)
class Outcome:
    """What came of one reader on one target's file."""

    reader: Reader
    target: str
    version: str
    error: float | None
    agrees: float | None
    problem: str | None


@click.command(cls=Command)
@click.option("--reader", "wanted", multiple=True, type=click.Choice([reader.name for reader in READERS]))
@click.option(
    "--environments",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / "build" / "readers",
    show_default="build/readers",
    help="Where the readers' virtual environments are kept.",
)
def main(wanted: tuple[str, ...], environments: Path) -> None:
    """Read the file for each target by programs of other people."""
    weights = load_weights(NETWORKS["cifar10_resnet20"], "bundled")
    outcomes = []
    for reader in READERS:
        if wanted and reader.name not in wanted:
            continue
        python = environment(reader, environments)
        for target in reader.targets:
            outcomes.append(read(reader, target, weights, python))
            click.echo(f"{reader.name}, {target}: {outcomes[-1].problem or 'passed'}", err=True)
    click.echo(table(outcomes))
    failed = [outcome for outcome in outcomes if outcome.problem]
    if failed:
        raise GateFailed("; ".join(f"{outcome.reader.name}, {outcome.target}: {outcome.problem}" for outcome in failed))


def environment(reader: Reader, folder: Path) -> Path:
    """The Python of the reader's virtual environment, which is made where it does not stand yet."""
    home = folder / reader.name
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    finished = home / ".installed"
    if not finished.is_file():
        venv.create(home, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *reader.packages]
        done = subprocess.run(command, check=False, timeout=PATIENCE_S)
        if done.returncode:
            raise Unavailable(f"{reader.title} cannot be installed. Look at what pip says above.")
        finished.touch()
    return python


def read(reader: Reader, target: str, weights: Weights, python: Path) -> Outcome:
    """Export the file for `target` and let the reader run it."""
    variant, choices = TARGETS[target].variant, TARGETS[target].choices
    images, reference, allowed = expected(weights, variant)
    names = [package.split("<")[0] for package in reader.packages]
    with tempfile.TemporaryDirectory(prefix="cifar-export-") as temporary:
        model, inputs, logits = (Path(temporary) / name for name in ("model.onnx", "images.npy", "logits.npy"))
        export(weights, "onnx", variant=variant, choices=choices, output=model)
        np.save(inputs, images)
        command: list[str | Path] = [python, SCRIPTS / f"{reader.name}_reader.py", model, inputs, logits, *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        if done.returncode or not logits.is_file():
            said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            return Outcome(reader, target, "", None, None, f"refuses the file: {said}")
        found = np.load(logits)
        version = json.loads(done.stdout.splitlines()[-1])[names[0]]
    compared = compare("images", reference, found, allowed)
    problem = compared.problem if reader.float32 else None
    agrees = float((found.argmax(1) == reference.argmax(1)).mean())
    return Outcome(reader, target, version, float(np.abs(found - reference).max()), agrees, problem)


def expected(weights: Weights, variant: InputVariant) -> tuple[Any, Any, Any]:
    """16 images of all kinds, their logits in float64, and what float32 may be off by."""
    pixels = np.concatenate([images[:4] for images in few_of_each().values()])
    images = as_variant(pixels, variant, weights.normalization)
    single = with_input(build_network(weights), variant, weights.normalization).eval()
    double = with_input(build_network(weights).double(), variant, weights.normalization).eval()
    reference = Reference(double).logits(images)
    return images, reference, bound(reference, [Eager(single, "cpu").logits(images)])


def choices_table() -> str:
    """A Markdown table of what each target is given; docs/targets.md holds it."""
    lines = ["| target | for | input | opset | batch | graph | why |", "|---|---|---|--:|--:|---|---|"]
    usual = OnnxChoices().as_dict()
    for target in TARGETS.values():
        asked = target.choices.as_dict()
        other = [key for key in usual if key != "batch" and asked[key] != usual[key]]
        graph = [f"{key.replace('_', ' ')} {asked[key]}" for key in other]
        why = f"{target.why} [Source]({target.source})"
        row = (f"`{target.name}`", target.title, f"`{target.variant}`", str(target.choices.opset), str(asked["batch"]))
        lines.append(f"| {' | '.join((*row, ', '.join(graph) or '-', why))} |")
    return "\n".join(lines)


def table(outcomes: list[Outcome]) -> str:
    """A Markdown table of what was measured."""
    lines = ["| target | reader | version | largest error | top-1 agrees |", "|---|---|---|--:|--:|"]
    for outcome in outcomes:
        error = "-" if outcome.error is None else f"{outcome.error:.1e}"
        agrees = "-" if outcome.agrees is None else f"{outcome.agrees:.0%}"
        row = (f"`{outcome.target}`", outcome.reader.title, outcome.version or "-", error, agrees)
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
