"""The images of every parity run: the same in every process, and cut into all sizes of batches."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from cifar_export.gate.forward import places
from cifar_export.gate.inputs import batches, bundled_images, input_sets, plan
from cifar_export.networks.zoo import CIFAR10
from cifar_export.runtimes import RuntimeSpec

from support.paths import ROOT


def test_input_sets_are_what_the_documentation_says():
    sets = input_sets()
    assert {name: len(pixels) for name, pixels in sets.items()} == {
        "noise": 74, "extremes": 32, "structured": 32, "real": 128,
    }  # fmt: skip
    assert all(pixels.dtype == np.uint8 and pixels.shape[1:] == (32, 32, 3) for pixels in sets.values())
    assert (sets["extremes"].min(), sets["extremes"].max()) == (0, 255)
    assert set(np.unique(sets["extremes"])) == {0, 255}
    assert all(len(np.unique(pixels, axis=0)) >= len(pixels) - 1 for pixels in sets.values())


DIGESTS = """
import hashlib, json
from cifar_export.gate.inputs import input_sets
print(json.dumps({name: hashlib.sha256(pixels.tobytes()).hexdigest() for name, pixels in input_sets().items()}))
"""


def test_input_sets_do_not_depend_on_the_process(tmp_path):
    """Two further processes, with another hash seed and another current folder each, make the same images."""
    made = [{name: hashlib.sha256(pixels.tobytes()).hexdigest() for name, pixels in input_sets().items()}]
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-c", DIGESTS]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, cwd=tmp_path / seed, env=environment, capture_output=True, text=True, check=True)
        made.append(json.loads(done.stdout))
    assert made[0] == made[1] == made[2]


def test_batches_come_in_all_sizes_and_lose_nothing():
    images = np.arange(200)
    cut = list(batches(images))
    assert [len(batch) for batch in cut[:4]] == [1, 2, 7, 64]
    assert np.array_equal(np.concatenate(cut), images)


@pytest.mark.data
def test_bundled_images_are_the_ones_of_the_test_set(cifar_data):
    from cifar_export.data import load_split

    note = json.loads((ROOT / "exporter/gate/cifar10-test-128.json").read_text())
    official = load_split(cifar_data, CIFAR10, "test").images[note["indices"]]
    assert np.array_equal(official, bundled_images())


def test_larger_batches_repeat_the_set_and_few_images_are_few():
    cut = plan(12, (256,))
    assert [len(batch) for batch in cut] == [1, 2, 7, 2, 256]
    assert np.array_equal(cut[-1][:24], [*range(12), *range(12)])
    few = RuntimeSpec("few", "few", "onnx", "x:y", images=4)
    assert [len(batch) for batch in places(few, {"real": bundled_images()[:12]})["real"]] == [1, 2, 1]
