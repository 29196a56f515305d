"""What reduced precision costs and brings: accuracy, size and speed of every bundled network in float16 and int8.

Accuracy is top-1 on the 10,000 test images in ONNX Runtime and OpenVINO, on the CPU; "moved" counts the images whose
class is another than that of the float32 file. Speed is the median time of a batch in ONNX Runtime against the float32
file's, both in turns in one process, on one thread.

    python benchmarks/precision.py [--data-dir data] [--only NETWORK]... [--runs 30] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from export import machine

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cifar_export.data import load_split  # noqa: E402  # of this checkout
from cifar_export.exporting.artifact import export  # noqa: E402
from cifar_export.exporting.precision import prepared  # noqa: E402
from cifar_export.formats.onnx_choices import ONNX_PRECISIONS, OnnxChoices  # noqa: E402
from cifar_export.networks.preprocess import as_variant  # noqa: E402
from cifar_export.networks.zoo import named  # noqa: E402
from cifar_export.runtimes import open_runtime, why_missing  # noqa: E402
from cifar_export.weights.index import bundled_entries  # noqa: E402
from cifar_export.weights.sources import load_weights  # noqa: E402

RUNTIMES = ("onnxruntime-cpu", "openvino")
BATCHES = (1, 64)


def main() -> None:
    options = _parse()
    rows = []
    for name in options.only or list(bundled_entries()):
        rows += _measure(name, options.data_dir, options.runs)
        if not options.json:
            for row in rows[-len(ONNX_PRECISIONS) :]:
                print(_line(row), flush=True)
    if options.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=1))
    else:
        print(machine())


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("CIFAR_DATA") or "data"))
    parser.add_argument("--only", action="append", metavar="NETWORK", help="default: every bundled network")
    parser.add_argument("--runs", type=int, default=30, help="batches timed of each size and file (default: 30)")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _measure(name: str, data_dir: Path, runs: int) -> list[dict[str, Any]]:
    weights = load_weights(named(name))
    split = load_split(data_dir, weights.network.dataset, "test")
    images = as_variant(split.images, "float32", weights.normalization)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for precision in ONNX_PRECISIONS:
            files[precision] = Path(folder) / f"{precision}.onnx"
            export(
                prepared(weights, precision),
                "onnx",
                choices=OnnxChoices(precision=precision),
                output=files[precision],
            )
            row: dict[str, Any] = {"network": name, "precision": precision, "bytes": files[precision].stat().st_size}
            for runtime in RUNTIMES:
                if why_missing(runtime) is None:
                    row[runtime] = _classes(runtime, files[precision], images)
            rows.append(row)
        ratios = _speed(files, images, runs)
    first = {runtime: rows[0].get(runtime) for runtime in RUNTIMES}
    for row in rows:
        row["size"] = row["bytes"] / rows[0]["bytes"]
        row["speed"] = ratios[row["precision"]]
        for runtime, classes in first.items():
            found = row.pop(runtime, None)
            if found is not None and classes is not None:
                hits = int((found == split.labels).sum())
                row[runtime] = {"top1": 100 * hits / len(found), "moved": int((found != classes).sum())}
    return rows


def _classes(runtime: str, file: Path, images: Any) -> Any:
    with open_runtime(runtime, file) as ready:
        cut = range(0, len(images), 250)
        return np.concatenate([ready.logits(images[start : start + 250]).argmax(axis=1) for start in cut])


def _speed(files: dict[Any, Path], images: Any, runs: int) -> dict[Any, dict[str, float]]:
    """By precision: how many times as fast as float32 ONNX Runtime is, for each size of batch."""
    os.environ["OMP_NUM_THREADS"] = "1"
    opened = {precision: open_runtime("onnxruntime-cpu", file) for precision, file in files.items()}
    ratios: dict[Any, dict[str, float]] = {precision: {} for precision in files}
    for batch in BATCHES:
        taken: dict[Any, list[float]] = {precision: [] for precision in files}
        for run in range(runs + 3):
            for precision, ready in opened.items():
                began = time.perf_counter()
                ready.logits(images[:batch])
                if run >= 3:
                    taken[precision].append(time.perf_counter() - began)
        base = statistics.median(taken["float32"])
        for precision, times in taken.items():
            ratios[precision][str(batch)] = base / statistics.median(times)
    for ready in opened.values():
        ready.close()
    return ratios


def _line(row: dict[str, Any]) -> str:
    found = [f"{row[name]['top1']:.2f} ({row[name]['moved']})" for name in RUNTIMES if name in row]
    speed = ", ".join(f"{ratio:.2f} at batch {batch}" for batch, ratio in row["speed"].items())
    return f"{row['network']} {row['precision']}: {' / '.join(found)}; size {row['size']:.2f}; speed {speed}"


if __name__ == "__main__":
    main()
