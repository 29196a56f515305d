"""A release, and exports with their sidecars, that an earlier version made: they stay readable.

`old_release.tar.xz` was made by `package` and the export commands of commit 139bfdd, the last one before the package
was called `cifar_export`. Its network is the ResNet-20 for CIFAR-10 that was bundled then, with the smallest 80 % of
its weights set to zero (68.08 % top-1), because zeros compress. `exports` holds the sidecars of three exports; the
files that they describe are byte for byte those of the release. Do not make it anew when a format changes: read it.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import numpy_helper
from PIL import Image

import cifar_export
from cifar_export.formats import format_of
from cifar_export.gate.inputs import bundled_images
from cifar_export.release.build.merge import merge
from cifar_export.release.build.shelf import read_shelf, refuse_taken

NAME = "cifar10_resnet20"
SHA256 = "1b59fcc9ceefd91c5f3b2e01ffe3ed0fecb02f692cc9bb7ba2fe40d76fc845aa"
WEIGHTS_SHA256 = "a1c8e4eab2aaa3d3c1bf3b6264635d26236cbcb273b3f173dc07047b6bada0ae"
EXPORTS = {
    "cifar10_resnet20.onnx": "model.onnx",
    "cifar10_resnet20.torchscript.pt": "model.torchscript.pt",
    "cifar10_resnet20.pt2": "model.pt2",
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of releases with the old one in it, and its exports as they once stood in `artifacts/exports`."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(Path(__file__).with_name("old_release.tar.xz")) as archive:
        archive.extractall(folder, filter="data")
    for name, file in EXPORTS.items():
        shutil.copyfile(folder / "0.9.0" / NAME / file, folder / "exports" / name)
    return folder


@pytest.fixture(scope="module")
def release(shelf: Path) -> Path:
    return shelf / "0.9.0"


def tensor(path: Path) -> np.ndarray:
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


@pytest.fixture(scope="module")
def classes(release: Path) -> list[int]:
    """What the network saw then in the first four bundled images, which begin its golden vectors."""
    golden = release / NAME / "uint8" / "test_data_set_0"
    assert np.array_equal(tensor(golden / "input_0.pb")[:4], bundled_images()[:4])
    return tensor(golden / "output_0.pb")[:4].argmax(axis=1).tolist()


def test_it_verifies_and_its_models_do_what_they_did(run: Callable[..., Result], release: Path) -> None:
    for path, models in (
        (release, 2),
        (release / NAME, 2),
        (release / f"{NAME}-0.9.0.tar.gz", 2),
    ):
        result = run("verify", path, "--deep", "--json")
        document = json.loads(result.stdout)
        assert (result.exit_code, document["problems"], document["version"]) == (0, [], "0.9.0")
        assert len(document["deep"]["models"]) == models


def test_it_is_fetched_by_its_digest(run: Callable[..., Result], release: Path, tmp_path: Path) -> None:
    options = ("--release", release, "--sha256", SHA256, "--output", tmp_path)
    result = run("fetch", NAME, *options, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["version"], document["vouched_by"]) == (0, "0.9.0", ["sha256"])
    assert (tmp_path / NAME / "model.pt2").read_bytes() == (release / NAME / "model.pt2").read_bytes()


def test_it_loads_and_predicts_as_before(release: Path, classes: list[int]) -> None:
    network = cifar_export.load(NAME, release, sha256=SHA256)
    assert (network.version, network.labels[3], network.normalization.std) == ("0.9.0", "cat", (0.2023, 0.1994, 0.201))
    assert network.predict(bundled_images()[:4]).indices.tolist() == classes
    assert network.weights().sha256 == WEIGHTS_SHA256
    images, logits = (tensor(release / NAME / "test_data_set_0" / f"{name}_0.pb") for name in ("input", "output"))
    allowed = network.config["golden"]["model.onnx"]["atol"]
    import torch

    for answer in (
        network.session("float32").run(None, {"input": images})[0],
        network.network()(torch.from_numpy(images.copy())).numpy(),
    ):
        assert np.abs(answer - logits).max() <= allowed


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_run_as_their_sidecars_say(
    run: Callable[..., Result], shelf: Path, classes: list[int], tmp_path: Path, name: str
) -> None:
    pictures = [tmp_path / f"{number}.png" for number in range(4)]
    for path, pixels in zip(pictures, bundled_images(), strict=False):
        Image.fromarray(pixels).save(path)
    result = run("predict", shelf / "exports" / name, *pictures, "--top", 1, "--json")
    assert result.exit_code == 0, result.output
    assert [picture["top"][0]["index"] for picture in json.loads(result.stdout)] == classes


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_are_still_proved(run: Callable[..., Result], shelf: Path, release: Path, name: str) -> None:
    weights, file = release / NAME / "model.safetensors", shelf / "exports" / name
    gate = format_of(file).gate
    result = run("parity", "resnet20", "--weights", weights, "--file", file, "--runtime", gate, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["passed"] is True


def test_it_stands_on_the_shelf_and_can_be_merged(shelf: Path, release: Path, tmp_path: Path) -> None:
    (entry,) = read_shelf(shelf)
    assert (entry.version, entry.sha256, entry.networks) == ("0.9.0", SHA256, (NAME,))
    refuse_taken(shelf, "0.9.1")
    merged = merge([release], tmp_path / "merged")
    assert (merged.version, merged.networks) == ("0.9.0", (NAME,))
    kept = json.loads((tmp_path / "merged" / "0.9.0.measurements.json").read_bytes())
    assert kept["networks"][NAME] == json.loads((shelf / "0.9.0.measurements.json").read_bytes())["networks"][NAME]
