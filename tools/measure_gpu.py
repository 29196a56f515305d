"""Measure parity on this machine's GPU: `python tools/measure_gpu.py`, on a bare machine with the package installed.

All eight networks in both input variants, in every runtime that uses the GPU, on every input set, in batches of 1, 2,
7, 64 and 256. What is bundled is measured with its weights, the rest with seeded ones. The file
`artifacts/parity/<gpu>.json` appears with the first network and is replaced after each, so that a run that is cut off
leaves what it measured (`complete` is false then). `docs/parity.md` takes its table from it: `--table FILE` prints it.

`--dry-run` does the same on the CPU provider with two networks and few images, and writes no GPU's name.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import torch

from cifar_export.commands.console import Command
from cifar_export.doctor import gpu
from cifar_export.errors import InvalidInput
from cifar_export.exporting.artifact import export
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.gate.check import check
from cifar_export.gate.inputs import input_sets
from cifar_export.gate.report import ParityReport, RuntimeResult
from cifar_export.gate.versions import versions
from cifar_export.networks.zoo import NETWORKS, RELEASED_VARIANTS, NetworkSpec
from cifar_export.runtimes import RUNTIMES, require_runtime, why_missing
from cifar_export.system.files import write_atomically
from cifar_export.weights.core import Weights
from cifar_export.weights.index import bundled_entries
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

FOLDER = Path(__file__).resolve().parent.parent / "artifacts" / "parity"
REQUIRED = "onnxruntime-cuda"
_DRY_NETWORKS, _DRY_IMAGES, _DRY_OPSET = ("cifar10_resnet20", "cifar100_resnet20"), 10, 17
_SEED = 0
SCHEMA = 2  # of the file; in 1, rows had no state


def measure(folder: Path, *, dry_run: bool = False) -> tuple[Path, dict[str, Any]]:
    """Measure, and write the file into `folder`; its path and what stands in it.

    Raises `Unavailable` where ONNX Runtime's CUDA provider does not start, unless `dry_run`.
    """
    machine = {"gpu": "none (dry run)"} if dry_run else _machine()
    names = ["pytorch", "onnxruntime-cpu"] if dry_run else _runtimes()
    pixels = {name: full[:_DRY_IMAGES] if dry_run else full for name, full in input_sets().items()}
    path = folder / f"{'dry-run' if dry_run else slug(machine['gpu'])}.json"
    networks = _DRY_NETWORKS if dry_run else tuple(NETWORKS)
    document: dict[str, Any] = {"schema": SCHEMA, "complete": False, **machine, "versions": versions(), "networks": []}
    for name in networks:
        weights = _weights(NETWORKS[name])
        for variant in RELEASED_VARIANTS:
            with tempfile.TemporaryDirectory(prefix="cifar-export-") as temporary:
                file = Path(temporary) / "model.onnx"
                choices = OnnxChoices(_DRY_OPSET) if dry_run else None
                export(weights, "onnx", variant=variant, choices=choices, output=file, checked=False)
                report = check(weights, variant, {"onnx": file}, names, pixels, isolated=True)
            document["networks"].append(_entry(report, weights))
            click.echo(f"{name}, {variant}: {'passed' if report.passed else '; '.join(report.failures)}", err=True)
        document["complete"] = name == networks[-1]
        write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())
    return path, document


def table(document: dict[str, Any]) -> str:
    """A Markdown table of what `measure` wrote: for each runtime the worst error over all networks and inputs."""
    lines = ["| runtime | largest error | of what is allowed | top-1 agrees | verdict |", "|---|---|---|---|---|"]
    rows = [row | {"state": _state(row)} for entry in document["networks"] for row in entry["runtimes"]]
    for name in dict.fromkeys(row["runtime"] for row in rows):
        mine = [row for row in rows if row["runtime"] == name]
        ran = [row for row in mine if row["images"]]
        if not ran:
            lines.append(f"| `{name}` | | | | {mine[0]['reason']} |")
            continue
        errors = [row["max_abs_error"] for row in ran]
        shares = [row["share_of_allowed"] for row in ran]
        error = "not a number" if None in errors else f"{max(errors):.1e}"
        share = "" if None in shares else f"{100 * max(shares):,.0f} %"
        agreement = 100 * min(row["top1_agreement"] for row in ran)
        passed = sum(row["state"] == "passed" for row in mine)
        gated = any(row["state"] in ("passed", "failed") for row in mine)
        verdict = f"passed {passed} of {len(mine)}" if gated else ran[0]["state"]
        lines.append(f"| `{name}` | {error} | {share} | {agreement:.2f} % | {verdict} |")
    return "\n".join(lines)


def _state(row: dict[str, Any]) -> str:
    """The state of a row, also of a file of schema 1, whose rows say it in three keys."""
    if "state" in row:
        return str(row["state"])
    if row["passed"] is not None:
        return "passed" if row["passed"] else "failed"
    if not row["images"]:
        return "not_run"
    return "yardstick" if row["reason"] == "the yardstick" else "reported"


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


def _weights(spec: NetworkSpec) -> Weights:
    return load_weights(spec, "bundled") if spec.name in bundled_entries() else random_weights(spec, _SEED)


def _entry(report: ParityReport, weights: Weights) -> dict[str, Any]:
    return {
        "network": report.network,
        "input": report.input,
        "weights": {"source": weights.source, "sha256": weights.sha256},
        "passed": report.passed,
        "yardsticks": report.yardsticks,
        "runtimes": [_row(row) for row in report.runtimes],
    }


def _row(row: RuntimeResult) -> dict[str, Any]:
    shares = [c.max_abs_error / c.allowed for c in row.comparisons if c.allowed]
    return {
        **{key: value for key, value in row.as_dict().items() if key != "inputs"},
        "share_of_allowed": max(shares, default=None) if row.as_dict()["max_abs_error"] is not None else None,
    }


@click.command(cls=Command)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, help="Folder of the file.")
@click.option("--dry-run", is_flag=True, help="On the CPU, with two networks and few images.")
@click.option("--table", "shown", type=click.Path(path_type=Path, exists=True), help="Print this file's table only.")
def main(output: Path, dry_run: bool, shown: Path | None) -> None:
    """Measure parity on the GPU; exit code 1 if something that is gated fails."""
    if shown is not None:
        try:
            click.echo(table(json.loads(shown.read_text(encoding="utf-8"))))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{shown} was not written by this script. Name one in {FOLDER.name}.") from error
        return
    path, document = measure(output, dry_run=dry_run)
    click.echo(f"{path}\n\n{table(document)}")
    sys.exit(0 if all(entry["passed"] for entry in document["networks"]) else 1)


if __name__ == "__main__":
    main()
