"""What an export with its proof costs: `cifar-export onnx` against bare scripts with torch's two ONNX exporters.

And `--help` against click. Each side runs in a process of its own, in turns, after one uncounted run that fills the
disk cache. Wall time is what a user waits; CPU time is what the work costs, and the fairer of the two on a machine that
others load.

    python benchmarks/export.py [--runs N] [--model resnet20] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLI = str(ROOT / "cli.py")
sys.path.insert(0, str(ROOT))

# What one would write without this project: no fixed names, no metadata, no check, no parity, no atomic file.
BARE = """
import sys, torch
from safetensors.torch import load_file
from cifar_export.networks.resnet import build
from cifar_export.networks.zoo import NETWORKS
network = build(NETWORKS[sys.argv[1]]).eval()
network.load_state_dict(load_file(sys.argv[2]))
shapes = ({0: torch.export.Dim("batch")},)
options = {"dynamo": True, "opset_version": 18, "external_data": False, "dynamic_shapes": shapes, "verbose": False}
torch.onnx.export(network, (torch.zeros(2, 3, 32, 32),), sys.argv[3], **options)
"""
# The same with the older exporter, at an opset that it delivers.
BARE_TORCHSCRIPT = "\n".join(
    [
        *BARE.splitlines()[:-3],
        'axes = {"input": {0: "batch"}, "logits": {0: "batch"}}',
        'options = {"dynamo": False, "opset_version": 17, "input_names": ["input"], "output_names": ["logits"]}',
        "torch.onnx.export(network, (torch.zeros(2, 3, 32, 32),), sys.argv[3], dynamic_axes=axes, **options)",
    ]
)


@dataclass(frozen=True)
class Seconds:
    """One run of a process."""

    wall: float
    cpu: float


def main() -> None:
    options = _parse()
    with tempfile.TemporaryDirectory() as folder:
        weights, output = Path(folder) / "weights.safetensors", Path(folder) / "model.onnx"
        _write_weights(options.model, weights)
        ours = [
            CLI,
            "onnx",
            options.model,
            "--weights",
            str(weights),
            "--output",
            str(output),
            "--json",
        ]
        arguments = [f"cifar10_{options.model}", str(weights), str(Path(folder) / "bare.onnx")]
        bases = {"dynamo": ["-c", BARE, *arguments], "torchscript": ["-c", BARE_TORCHSCRIPT, *arguments]}
        results = {
            "export": _compare(ours, bases, options.runs),
            "help": _compare([CLI, "--help"], {"click": ["-c", "import click"]}, options.help_runs),
        }
    document = {"model": options.model, "machine": machine(), **results}
    if options.json:
        print(json.dumps(document, indent=1))
        return
    print(f"{document['machine']}; medians of {options.runs} and {options.help_runs} runs, alternating")
    titles = {
        "export": f"cifar-export onnx {options.model}, parity included",
        "help": "cifar-export --help",
        "dynamo": "bare script, torch.onnx.export(dynamo=True)",
        "torchscript": "bare script, torch.onnx.export(dynamo=False)",
        "click": 'python -c "import click"',
    }
    for name, sides in results.items():
        print(f"{titles[name]}: {sides['ours']['wall']:.2f} s wall, {sides['ours']['cpu']:.2f} s CPU")
        for base, row in sides["bases"].items():
            print(f"  {titles[base]}: {row['wall']:.2f} s wall, {row['cpu']:.2f} s CPU")
            print(f"    ratio: {row['ratio']['wall']:.2f} wall, {row['ratio']['cpu']:.2f} CPU")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="exports of each kind (default: 3)")
    parser.add_argument("--help-runs", type=int, default=9, help="runs of --help and of its base (default: 9)")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _write_weights(model: str, path: Path) -> None:
    from cifar_export.networks.zoo import network
    from cifar_export.weights.native import save_weights
    from cifar_export.weights.seeded import random_weights

    save_weights(path, random_weights(network(model, "cifar10"), seed=0))


def _compare(ours: list[str], bases: dict[str, list[str]], runs: int) -> dict[str, Any]:
    """Medians of the commands' seconds, and for each base the ratio of our median to its."""
    commands = {"": ours, **bases}
    taken: dict[str, list[Seconds]] = {name: [] for name in commands}
    for run in range(runs + 1):
        for name, command in commands.items():
            seconds = run_process(command)
            if run > 0:
                taken[name].append(seconds)
    medians = {
        name: {kind: statistics.median(getattr(seconds, kind) for seconds in times) for kind in ("wall", "cpu")}
        for name, times in taken.items()
    }
    mine = medians.pop("")
    rows = {name: {**row, "ratio": {kind: mine[kind] / row[kind] for kind in row}} for name, row in medians.items()}
    return {"ours": mine, "bases": rows}


def run_process(command: list[str], program: str | None = sys.executable, cwd: Path | None = None) -> Seconds:
    """Run Python, or whatever `command` begins with where `program` is None; what it and its children took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    whole = [*filter(None, [program]), *command]
    done = subprocess.run(whole, capture_output=True, text=True, env=environment, cwd=cwd, check=False)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{command[:3]} failed:\n{done.stderr}")
    return Seconds(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def machine() -> str:
    """What it was measured on, for people."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    return f"Python {platform.python_version()}, torch {torch.__version__}, {cores} cores, load {load:.1f}"


if __name__ == "__main__":
    main()
