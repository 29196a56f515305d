"""How far correct runtimes are from the simulation of int8: what the bounds of `runtimes` were chosen by.

    python tools/measure_int8.py [--files 1000] [--seed 0]

For each of so many seeded networks (depths 8, 14 and 20, ten and a hundred classes, calibrated on 64 of the bundled
images), prints one line of JSON: for each runtime the largest and the mean error on each of the gate's four image sets,
in units of `gate.standard`. The last line has the quantiles over all.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cifar_export.exporting.artifact import write_file  # noqa: E402  # of this checkout
from cifar_export.exporting.precision import quantized  # noqa: E402
from cifar_export.formats import FORMATS, choices_for  # noqa: E402
from cifar_export.gate.check import check  # noqa: E402
from cifar_export.gate.inputs import bundled_images, few_of_each  # noqa: E402
from cifar_export.gate.standard import int8_unit  # noqa: E402
from cifar_export.networks.zoo import network  # noqa: E402
from cifar_export.runtimes import spec_of, why_missing  # noqa: E402
from cifar_export.weights.core import build_network  # noqa: E402
from cifar_export.weights.seeded import random_weights  # noqa: E402

RUNTIMES = ("onnxruntime-cpu", "openvino", "tract", "litert", "litert-reference")
DEPTHS = (8, 8, 8, 14, 8, 8, 8, 20)
QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)


def main(files: int, first: int) -> None:
    """Measure so many networks, from that seed on."""
    runtimes = [name for name in RUNTIMES if why_missing(name) is None]
    everything: dict[str, list[list[float]]] = {name: [] for name in runtimes}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + files):
            found = _measure(seed, runtimes, Path(folder))
            for name, sets in found.items():
                everything[name] += sets
            _say({"seed": seed, **found})
    _say({name: _quantiles(sets) for name, sets in everything.items() if sets})


def _measure(seed: int, runtimes: list[str], folder: Path) -> dict[str, list[list[float]]]:
    spec = network(f"resnet{DEPTHS[seed % len(DEPTHS)]}", ("cifar10", "cifar100")[seed // len(DEPTHS) % 2])
    weights = quantized(random_weights(spec, seed), bundled_images()[:64])
    module, files = build_network(weights), {}
    for name in dict.fromkeys(spec_of(runtime).reads for runtime in runtimes):
        files[name] = folder / f"model{FORMATS[name].suffix}"
        choices = choices_for(name, "int8")
        write_file(files[name], weights, name, "float32", module, choices=choices, checked=False)
    report = check(weights, "float32", files, runtimes, few_of_each(), precision="int8")
    unit = int8_unit(weights)
    return {
        row.runtime: [[round(c.max_abs_error / unit, 3), round(c.mean_abs_error / unit, 4)] for c in row.comparisons]
        for row in report.runtimes
    }


def _quantiles(sets: list[list[float]]) -> dict[str, Any]:
    largest, mean = np.array(sets).T
    return {str(q): {"largest": float(np.quantile(largest, q)), "mean": float(np.quantile(mean, q))} for q in QUANTILES}


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    main(asked.files, asked.seed)
