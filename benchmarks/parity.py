"""What parity costs: one network over PyTorch, TorchScript, torch.export and ONNX Runtime, and over the whole table.

Held against the time of exporting that network to the formats that are compared, without a check. Each part runs in a
process of its own; wall time is what a user waits, CPU time (with child processes) is what the work costs, and the
fairer of the two on a machine that others load.

    python benchmarks/parity.py [--model resnet20] [--runs 1] [--all] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOUR = ("pytorch", "torchscript", "torch-export", "onnxruntime-cpu")
# What a process does: `export` makes the three files in the folder; `parity` compares them in the runtimes named.
PART = """
import sys
from pathlib import Path
from cifar_export.exporting.artifact import export
from cifar_export.formats import FORMATS
from cifar_export.gate.check import check
from cifar_export.gate.inputs import input_sets
from cifar_export.runtimes import RUNTIMES
from cifar_export.weights import random_weights
from cifar_export.networks.zoo import NETWORKS
what, model, folder, *names = sys.argv[1:]
weights = random_weights(NETWORKS["cifar10_" + model], 0)
files = {name: Path(folder) / ("model" + FORMATS[name].suffix) for name in ("onnx", "torchscript", "torch-export")}
if what == "export":
    for name, file in files.items():
        export(weights, name, output=file, checked=False)
elif what == "parity":
    names = names or [name for name, spec in RUNTIMES.items() if spec.by_default]
    report = check(weights, "float32", files, names, input_sets(), isolated=True)
    assert report.passed, report.failures
"""


def main() -> None:
    options = _parse()
    with tempfile.TemporaryDirectory() as folder:
        parts = {"import": ["import"], "export": ["export"], "parity": ["parity", *FOUR]}
        if options.all:
            parts["whole table"] = ["parity"]
        seconds = {name: _median(part, options.model, folder, options.runs) for name, part in parts.items()}
    base = seconds.pop("import")
    document = {
        "model": options.model,
        "runtimes": list(FOUR),
        "import_s": base,
        "seconds": {name: {key: round(value[key] - base[key], 2) for key in value} for name, value in seconds.items()},
    }
    export_time = document["seconds"]["export"]
    document["ratio"] = {
        name: {key: round(value[key] / export_time[key], 2) for key in value}
        for name, value in document["seconds"].items()
        if name != "export"
    }
    if options.json:
        print(json.dumps(document, indent=1))
        return
    print(f"{options.model}, beyond importing ({base['wall']:.1f} s wall, {base['cpu']:.1f} s CPU)")
    for name, value in document["seconds"].items():
        ratio = document["ratio"].get(name)
        beside = f"   {ratio['wall']:.2f} and {ratio['cpu']:.2f} times the export" if ratio else ""
        print(f"{name:12}{value['wall']:7.2f} s wall {value['cpu']:7.2f} s CPU{beside}")


def _median(part: list[str], model: str, folder: str, runs: int) -> dict[str, float]:
    what, *names = part
    measured = [_run([sys.executable, "-c", PART, what, model, folder, *names]) for _ in range(runs)]
    return {key: round(statistics.median(run[key] for run in measured), 2) for key in ("wall", "cpu")}


def _run(command: list[str]) -> dict[str, float]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": time.perf_counter() - start, "cpu": cpu}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="also the whole table")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
