"""Measure on this machine's GPU: `python tools/measure_gpu.py`, on a bare machine with the package installed.

What is worth most comes first, of all networks each time: parity of float32 files, TF32 in TorchScript, parity of
float16 files, of the other input variant, and how fast they run. Parity is on every input set, in batches of 1, 2, 7,
64 and 256, in every runtime that uses the GPU. What is bundled is measured with its weights, the rest with seeded ones.

The file `artifacts/parity/<gpu>.json` is replaced after each step, so that a run that is cut off, or ends after
`--minutes`, leaves what it measured (`complete` is false then); the next run goes on with what is missing.
`tools/gpu_table.py` makes tables of it.

`--dry-run` does the same on the CPU with two networks and few images, and writes no GPU's name. int8 files run in no
runtime of a GPU here.
"""

from __future__ import annotations

import functools
import json
import math
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import torch

from cifar_export.benchmarking.measure import benchmark
from cifar_export.benchmarking.plan import Asked, Plan
from cifar_export.commands.console import Command
from cifar_export.diagnosis.tf32 import tf32
from cifar_export.doctor import gpu
from cifar_export.errors import InvalidInput, first_line
from cifar_export.exporting.subject import Subject
from cifar_export.formats.onnx_choices import Precision
from cifar_export.gate.check import check
from cifar_export.gate.inputs import input_sets
from cifar_export.gate.report import RuntimeResult
from cifar_export.gate.versions import versions
from cifar_export.networks.preprocess import Pixels
from cifar_export.networks.zoo import NETWORKS, InputVariant, NetworkSpec
from cifar_export.runtimes import RUNTIMES, require_runtime, spec_of, why_missing
from cifar_export.system.commit import source_commit
from cifar_export.system.files import require_target, write_atomically
from cifar_export.system.outside import read_regular
from cifar_export.weights.core import Weights
from cifar_export.weights.index import bundled_entries
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

FOLDER = Path(__file__).resolve().parent.parent / "artifacts" / "parity"
REQUIRED = "onnxruntime-cuda"
SCHEMA = 3  # of the file; 2 had parity of float32 files alone, in 1 rows had no state
_DRY_NETWORKS, _DRY_IMAGES = ("cifar10_resnet20", "cifar100_resnet20"), 10
_DRY_RUNTIMES = ("pytorch", "onnxruntime-cpu")
_SEED = 0
_BATCHES, _LATENCY_S = (1, 64, 256), 20.0
_MACHINE = ("gpu", "driver", "cuda", "cudnn", "versions")

Kind = Literal["parity", "torchscript", "latency"]
_SECTIONS: dict[Kind, str] = {"parity": "networks", "torchscript": "torchscript", "latency": "latency"}
_ROUNDS: tuple[tuple[Kind, InputVariant, Precision], ...] = (
    ("parity", "float32", "float32"),
    ("torchscript", "float32", "float32"),
    ("parity", "float32", "float16"),
    ("parity", "uint8", "float32"),
    ("latency", "float32", "float32"),
    ("latency", "float32", "float16"),
    ("parity", "uint8", "float16"),
)


@dataclass(frozen=True)
class Step:
    """What is measured at once, and written down when it is done."""

    kind: Kind
    network: str
    input: InputVariant
    precision: Precision

    def __str__(self) -> str:
        return f"{self.network}, {self.kind}, {self.input} input, {self.precision}"

    @property
    def key(self) -> dict[str, str]:
        """What its entry is found by in its section of the file."""
        return {"network": self.network, "input": self.input, "precision": self.precision}

    def is_of(self, entry: Mapping[str, Any]) -> bool:
        """Whether `entry` of its section is what it measured."""
        return all(entry.get(name) == value for name, value in self.key.items())


def steps(networks: Sequence[str]) -> list[Step]:
    """All that is measured of `networks`, what is worth most first."""
    return [Step(kind, network, variant, precision) for kind, variant, precision in _ROUNDS for network in networks]


def measure(
    folder: Path,
    networks: Sequence[str] = (),
    *,
    minutes: float = math.inf,
    dry_run: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Path, dict[str, Any]]:
    """Measure what the file in `folder` lacks of `networks` (none: all), and write it; its path and what stands in it.

    A step that took the longest one's time of its kind would not end within `minutes` is not begun, but for the first.
    Raises `Unavailable` where ONNX Runtime's CUDA provider does not start, unless `dry_run`, and `InvalidInput` for a
    file of another machine.
    """
    ends = clock() + 60 * minutes
    machine = {"gpu": "none (dry run)"} if dry_run else _machine()
    everything = _DRY_NETWORKS if dry_run else tuple(NETWORKS)
    path = folder / f"{'dry-run' if dry_run else slug(machine['gpu'])}.json"
    require_target(path)
    document = _begun(path, {**machine, "versions": versions()})
    _write(path, document)  # before the first minutes, not after them
    for number, step in enumerate(_lacking(document, networks or everything)):
        began = clock()
        took = [entry["seconds"] for entry in document[_SECTIONS[step.kind]]]
        if number and began + max(took, default=0.0) > ends:
            click.echo(f"the time is up before {step}. Run it again to go on.", err=True)
            break
        entry = step.key | _attempt(step, dry_run=dry_run) | {"seconds": clock() - began, "commit": source_commit()}
        section = document[_SECTIONS[step.kind]]
        section[:] = [other for other in section if not step.is_of(other)] + [entry]
        document["complete"] = not _lacking(document, everything)
        _write(path, document)
        click.echo(f"{step}: {'passed' if entry['passed'] else entry['problem']}", err=True)
    return path, document


def _write(path: Path, document: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


def passed(document: Mapping[str, Any]) -> bool:
    """Whether all that was measured is as it should be."""
    return all(entry["passed"] for section in _SECTIONS.values() for entry in document.get(section, ()))


def _begun(path: Path, machine: dict[str, Any]) -> dict[str, Any]:
    """The document that stands at `path`, or an empty one. Raises `InvalidInput` where that is of something else."""
    empty = {"schema": SCHEMA, "complete": False, **machine, **{section: [] for section in _SECTIONS.values()}}
    move = "Move it away, or name another folder with --output."
    if not path.exists():
        return empty
    try:
        document = json.loads(read_regular(path))
        missing = [key for key in empty if key not in document]
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{path} was not written by this script. {move}") from error
    if missing or document["schema"] != SCHEMA:
        raise InvalidInput(f"{path} was written by another version of this script. {move}")
    for key in _MACHINE:
        if document.get(key) != machine.get(key):
            raise InvalidInput(f"{path} was measured with another {key} than this machine has. {move}")
    return dict(document)


def _lacking(document: Mapping[str, Any], networks: Sequence[str]) -> list[Step]:
    """The steps that `document` has no entry of, or one that broke off, or one of other weights than are here now."""

    def is_there(step: Step) -> bool:
        sha256 = _weights(NETWORKS[step.network]).sha256
        return any(
            step.is_of(entry) and "broke" not in entry and entry["weights"]["sha256"] == sha256
            for entry in document[_SECTIONS[step.kind]]
        )

    return [step for step in steps(networks) if not is_there(step)]


def _attempt(step: Step, *, dry_run: bool) -> dict[str, Any]:
    """Measure one step; what it raises is its entry, and the other steps go on."""
    weights = _weights(NETWORKS[step.network])
    told = {"weights": {"source": weights.source, "sha256": weights.sha256}}
    pixels = {name: full[:_DRY_IMAGES] if dry_run else full for name, full in input_sets().items()}
    runtimes = list(_DRY_RUNTIMES) if dry_run else _runtimes()
    able = [name for name in runtimes if step.precision in spec_of(name).precisions]
    try:
        if step.kind == "parity":
            return told | _parity(step, weights, able, pixels)
        if step.kind == "torchscript":
            return told | _torchscript(step, weights, pixels, "cpu" if dry_run else "cuda:0")
        return told | _latency(step, weights, able, 1.0 if dry_run else _LATENCY_S)
    except Exception as error:  # noqa: BLE001  drivers and libraries raise what they like; the time is too dear to stop
        return told | {"passed": False, "problem": first_line(error, named=True), "broke": True}


def _parity(step: Step, weights: Weights, runtimes: Sequence[str], pixels: Mapping[str, Pixels]) -> dict[str, Any]:
    with Subject(weights, step.input, precision=step.precision) as subject:
        files = {"onnx": subject.file("onnx")}
        report = check(weights, step.input, files, runtimes, pixels, isolated=True, precision=step.precision)
    return {
        "passed": report.passed,
        "problem": "; ".join(report.failures),
        "reference": report.reference,
        "yardsticks": report.yardsticks,
        "runtimes": [_row(row) for row in report.runtimes],
    }


def _torchscript(step: Step, weights: Weights, pixels: Mapping[str, Pixels], device: str) -> dict[str, Any]:
    found = tf32(weights, step.input, pixels, device)
    problem = None if found.is_off else f"it computes in TF32: {found.file.share_of_allowed:.3g} times what is allowed"
    return {"passed": found.is_off, "problem": problem, **found.as_dict()}


def _latency(step: Step, weights: Weights, runtimes: Sequence[str], seconds: float) -> dict[str, Any]:
    names = [name for name in runtimes if name != "pytorch"]  # on the CPU, and far behind
    plan = Plan(names, (step.precision,), _BATCHES, variant=step.input, time_limit_s=seconds)
    document = benchmark([Asked(step.network, weights)], plan).as_dict()
    rows = [
        {key: value for key, value in row.items() if key not in ("turn_medians", "histogram")}
        for row in document["rows"]
    ]
    failures = [f"{row['runtime']}: {row['reason']}" for row in rows if row["state"] == "failed"]
    return {
        "passed": document["passed"],
        "problem": "; ".join(dict.fromkeys(failures)),
        "includes": document["includes"],
        "machine": document["machine"],
        "conditions": document["conditions"],
        "rows": rows,
    }


def slug(gpu_name: str) -> str:
    """The name of a GPU as a file's name: `NVIDIA A100-SXM4-80GB` is `nvidia-a100-sxm4-80gb`."""
    return re.sub(r"[^a-z0-9]+", "-", gpu_name.lower()).strip("-")


def _machine() -> dict[str, Any]:
    require_runtime(REQUIRED)
    import onnxruntime

    found = gpu.find()
    return {
        "gpu": found.gpus[0] if found.gpus else torch.cuda.get_device_name(0),
        "driver": found.driver,
        "cuda": {"torch": torch.version.cuda, "onnxruntime": getattr(onnxruntime, "cuda_version", None)},
        "cudnn": torch.backends.cudnn.version(),
    }


def _runtimes() -> list[str]:
    """The yardsticks, ONNX Runtime on the CPU for comparison, and all on the GPU that are there."""
    on_gpu = [spec.name for spec in RUNTIMES.values() if spec.device == "cuda"]
    return ["pytorch", "onnxruntime-cpu", *(name for name in on_gpu if why_missing(name) is None)]


@functools.cache
def _weights(spec: NetworkSpec) -> Weights:
    return load_weights(spec, "bundled") if spec.name in bundled_entries() else random_weights(spec, _SEED)


def _row(row: RuntimeResult) -> dict[str, Any]:
    shares = [c.max_abs_error / c.allowed for c in row.comparisons if c.allowed]
    return {
        **{key: value for key, value in row.as_dict().items() if key != "inputs"},
        "share_of_allowed": max(shares, default=None) if row.as_dict()["max_abs_error"] is not None else None,
    }


@click.command(cls=Command)
@click.option("--networks", metavar="NAME,NAME", default="", help="Only these, in this order [default: all].")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), default=math.inf, help="Begin nothing that would take longer."
)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, help="Folder of the file.")
@click.option("--dry-run", is_flag=True, help="On the CPU, with two networks and few images.")
def main(networks: str, minutes: float, output: Path, dry_run: bool) -> None:
    """Measure on the GPU what the file lacks; exit code 1 if something that is gated fails."""
    chosen = tuple(dict.fromkeys(name.strip() for name in networks.split(",") if name.strip()))
    for name in chosen:
        if name not in NETWORKS:
            raise InvalidInput(f"there is no network {name!r} to measure. Choose of {', '.join(NETWORKS)}.")
    path, document = measure(output, chosen, minutes=minutes, dry_run=dry_run)
    click.echo(path)
    sys.exit(0 if passed(document) else 1)


if __name__ == "__main__":
    main()
