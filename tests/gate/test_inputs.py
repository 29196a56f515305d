"""The images of every parity run: the same in every process, and cut into all sizes of batches."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from cifar_export.errors import InvalidInput
from cifar_export.gate.forward import places
from cifar_export.gate.inputs import bundled_images, few_of_each, input_sets, plan
from cifar_export.networks.zoo import CIFAR10
from cifar_export.runtimes import RUNTIMES, RuntimeSpec

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
    cut = plan(200)
    assert [len(batch) for batch in cut] == [1, 2, 7, 64, 64, 62]
    assert np.array_equal(np.concatenate(cut), np.arange(200))


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


def test_input_sets_are_the_ones_of_every_release():
    """Their digests stand in each parity.json: other images would be another test."""
    digests = {name: hashlib.sha256(pixels.tobytes()).hexdigest()[:16] for name, pixels in input_sets().items()}
    assert digests == {
        "noise": "a6ddb3a294ecd075",
        "extremes": "8d6deb0f76100261",
        "structured": "be24333e0c721839",
        "real": "c8ee2b78011559a5",
    }


def test_structured_images_are_grey_where_nothing_else_is_said():
    """Gradients, stripes and discs in all three channels, then one gradient a channel, then white dots on black."""
    images = input_sets()["structured"].astype(int)
    grey, one_channel, dots = images[:14], images[14:17], images[17:25]
    assert (grey == grey[..., :1]).all()
    assert all(len(np.unique(image)) > 1 for image in grey)
    assert (grey[0, 0, 0].tolist(), grey[0, 7, 31].tolist()) == ([0, 0, 0], [255, 255, 255])  # brighter to the right
    assert (grey[1, 31, 0].tolist(), grey[1, 0, 31].tolist()) == ([255, 255, 255], [0, 0, 0])  # brighter downwards
    for channel, image in enumerate(one_channel):
        assert image[..., channel].max() == 255
        assert np.delete(image, channel, axis=-1).max() == 0
    assert dots.sum(axis=(1, 2)).tolist() == [[255, 255, 255]] * 8
    assert dots[1, 0, 31].tolist() == [255, 255, 255]


def test_damaged_bundled_images_are_refused(tmp_path, monkeypatch):
    folder = resources.files("cifar_export.gate")
    for name in ("cifar10-test-128.json", "cifar10-test-128.png"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    monkeypatch.setattr("cifar_export.gate.inputs.resources.files", lambda package: tmp_path)
    assert len(bundled_images()) == 128
    with Image.open(tmp_path / "cifar10-test-128.png") as picture:
        picture.putpixel((40, 40), tuple(255 - value for value in picture.getpixel((40, 40))))
        picture.save(tmp_path / "cifar10-test-128.png")
    with pytest.raises(InvalidInput, match="bundled test images are damaged"):
        bundled_images()


def test_a_single_export_is_proved_on_16_images_of_each_set_and_a_batch_of_64():
    sets = few_of_each()
    assert {name: len(pixels) for name, pixels in sets.items()} == dict.fromkeys(input_sets(), 16)
    for name, full in input_sets().items():
        first, last = sets[name][0], sets[name][-1]
        assert np.array_equal(first, full[0])
        assert np.array_equal(last, full[-1])  # spread over the whole set
    batches = places(RUNTIMES["onnxruntime-cpu"], sets, full_batch=True)
    assert [len(batch) for batch in batches["noise"]] == [1, 2, 7, 6, 64]
    assert set(batches["noise"][-1]) == set(range(16))
    assert [len(batch) for batch in batches["real"]] == [1, 2, 7, 6]
