"""A thousand clean exports pass the gate: it raises no false alarm."""

import numpy as np
import pytest

from cifar_export.exporting.artifact import export
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.gate import check as check_module
from cifar_export.gate.inputs import input_sets
from cifar_export.networks.zoo import NETWORKS
from cifar_export.weights.seeded import random_weights

FEW = {"noise": 10, "extremes": 10, "structured": 10, "real": 10}
RUNTIMES = ["torchscript", "onnxruntime-cpu"]


def clean_run(seed: int, folder) -> list[float]:
    """Export seeded weights, check them on few seeded images, and return each error as a multiple of the yardstick."""
    rng = np.random.default_rng(seed)
    name = list(NETWORKS)[rng.choice(8, p=[0.4, 0.05, 0.03, 0.02, 0.4, 0.05, 0.03, 0.02])]
    variant = ["float32", "uint8"][seed % 2]
    weights = random_weights(NETWORKS[name], seed)
    pixels = {name: full[rng.choice(len(full), FEW[name], replace=False)] for name, full in input_sets().items()}
    files = {}
    for format_name, suffix, choices in (("torchscript", ".torchscript.pt", None), ("onnx", ".onnx", OnnxChoices(17))):
        files[format_name] = folder / f"a{suffix}"
        export(weights, format_name, variant=variant, choices=choices, output=files[format_name], checked=False)
    report = check_module.check(weights, variant, files, RUNTIMES, pixels)
    assert report.passed, (seed, name, variant, report.failures)
    own = report.yardsticks["pytorch"]
    return [c.max_abs_error / own[c.inputs] for row in report.runtimes for c in row.comparisons]


@pytest.mark.parametrize("seed", range(3))
def test_a_few_clean_runs_pass(seed, tmp_path):
    clean_run(seed, tmp_path)


@pytest.mark.slow
def test_a_thousand_clean_runs_pass(tmp_path):
    ratios = [ratio for seed in range(1000) for ratio in clean_run(seed, tmp_path)]
    assert len(ratios) == 8000
    print(
        f"error / yardstick: median {np.median(ratios):.2f}, 99.9 % {np.quantile(ratios, 0.999):.2f}, {max(ratios):.2f}"
    )
