"""`cifar_export.load`: from a folder, from a server, from a cache that may be poisoned, from the installation."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import cifar_export
from cifar_export.errors import GateFailed, InvalidInput, Unavailable
from cifar_export.networks.zoo import NETWORKS, Normalization
from cifar_export.prediction.classifier import softmax
from cifar_export.release.build.assemble import Origin, assemble
from cifar_export.release.layout import DEFAULT_EPOCH, SUMS
from cifar_export.release.sums import files_below, write_sums
from cifar_export.release.use.loaded import ReleasedNetwork
from cifar_export.system.files import sha256_file
from cifar_export.weights.core import Weights
from cifar_export.weights.native import save_weights
from cifar_export.weights.seeded import random_weights

from support.built_network import BuiltNetwork
from support.paths import ROOT
from support.releases import COMMIT, fake_network, fake_release
from support.web_server import Server

NAME = "cifar100_resnet20"
SPEC = NETWORKS[NAME]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release; tests change copies of it."""
    return fake_release(tmp_path_factory.mktemp("made") / "1.0.0")


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "1.0.0")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CIFAR_EXPORT_CACHE", str(folder))
    return folder


@pytest.fixture
def served(made: Path, http_server: Server) -> Callable[[], ReleasedNetwork]:
    """Load the network from a server, by the release's sha256."""
    shutil.copytree(made, http_server.root, dirs_exist_ok=True)
    return lambda: cifar_export.load(NAME, http_server.url, sha256=sha256_file(made / SUMS))


def golden(folder: Path, file: str) -> Any:
    return numpy_helper.to_array(onnx.TensorProto.FromString((folder / "uint8/test_data_set_0" / file).read_bytes()))


def test_a_release_of_this_disk(release: Path) -> None:
    network = cifar_export.load(NAME, release)
    assert (network.name, network.version, network.folder) == (NAME, "1.0.0", release / NAME)
    assert network.labels == SPEC.dataset.labels
    assert network.normalization == SPEC.dataset.normalization
    assert network.config["accuracy"]["top1"] == 90.0
    assert network.path("model.pt2") == release / NAME / "model.pt2"
    assert network.read("labels.txt").decode().split() == list(SPEC.dataset.labels)
    assert set(network.files) == set(files_below(release / NAME))
    assert not list(release.parent.glob("cache"))


def test_predictions_are_the_golden_ones(release: Path) -> None:
    found = cifar_export.load(NAME, str(release)).predict(golden(release / NAME, "input_0.pb"))
    expected = softmax(golden(release / NAME, "output_0.pb"))
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(found.indices, expected.argmax(axis=1))


def test_many_images_and_none(release: Path) -> None:
    network = cifar_export.load(NAME, release)
    many = np.random.default_rng(1).integers(0, 256, (501, 32, 32, 3), dtype=np.uint8)
    indices, probabilities = network.predict(many)
    np.testing.assert_array_equal(probabilities[250:253], network.predict(many[250:253]).probabilities)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    assert indices.shape == (501,)
    assert network.predict(many[:0]).probabilities.shape == (0, 100)
    np.testing.assert_array_equal(network.predict(many[::-1]).indices, indices[::-1])  # not contiguous


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (IMAGES[0], r"uint8 \(32, 32, 3\)"),
        (IMAGES.astype(np.float32) / 255, "float32"),
        (IMAGES.transpose(0, 3, 1, 2), r"\(3, 3, 32, 32\)"),
        (IMAGES.tolist(), "list"),
    ],
)
def test_other_images_are_refused(release: Path, images: Any, found: str) -> None:
    with pytest.raises(InvalidInput, match=rf"uint8 \(N, 32, 32, 3\) RGB; this is .*{found}"):
        cifar_export.load(NAME, release).predict(images)


def test_sessions(release: Path) -> None:
    network = cifar_export.load(NAME, release)
    ports = {variant: network.session(variant).get_inputs()[0].name for variant in ("uint8", "float32")}
    assert ports == {"uint8": "image", "float32": "input"}
    assert network.session().get_inputs()[0].name == "image"
    assert network.session().get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(InvalidInput, match="no input 'int8'"):
        network.session("int8")
    with pytest.raises(InvalidInput, match="no input 'int8'"):  # with the weights of the installation, too
        cifar_export.load("cifar10_resnet20").session("int8")
    with pytest.raises(InvalidInput, match="no device 'gpu'"):
        network.session("uint8", "gpu")


def test_a_session_on_cuda_is_on_cuda_or_an_error(release: Path) -> None:
    network = cifar_export.load(NAME, release)
    try:
        session = network.session("uint8", "cuda")
    except Unavailable as error:
        assert "onnxruntime-cuda cannot run here" in str(error)  # noqa: PT017  either is right
    else:
        assert session.get_providers()[0] == "CUDAExecutionProvider"


def test_the_folder_that_fetch_makes(release: Path) -> None:
    network = cifar_export.load(NAME, release / NAME)
    assert (network.version, network.folder) == ("1.0.0", release / NAME)
    assert network.predict(IMAGES).indices.shape == (3,)
    with pytest.raises(InvalidInput, match=f"holds {NAME}, not cifar10_resnet20"):
        cifar_export.load("cifar10_resnet20", release / NAME)


def test_names_that_are_not_there(release: Path) -> None:
    with pytest.raises(InvalidInput, match="Known networks: cifar10_resnet20"):
        cifar_export.load("resnet20", release)
    with pytest.raises(InvalidInput, match="It has cifar10_resnet20, cifar100_resnet20"):
        cifar_export.load("cifar10_resnet56", release)
    with pytest.raises(InvalidInput, match=r"It has .*model\.onnx"):
        cifar_export.load(NAME, release).path("../index.json")
    with pytest.raises(InvalidInput, match="Name it too: release="):
        cifar_export.load(NAME, sha256="0" * 64)
    with pytest.raises(InvalidInput, match="no folder ~nobody-of-that-name/x"):
        cifar_export.load(NAME, "~nobody-of-that-name/x")


def test_a_url_that_nothing_vouches_for_is_refused(http_server: Server) -> None:
    with pytest.raises(InvalidInput, match="sha256="):
        cifar_export.load(NAME, http_server.url)
    assert http_server.requests == []


def test_a_tampered_release_is_refused(release: Path) -> None:
    (release / NAME / "labels.txt").write_text("another\n")
    with pytest.raises(GateFailed, match=r"labels\.txt"):
        cifar_export.load(NAME, release)


@pytest.mark.parametrize("file", ["model-uint8.onnx", "model.onnx", "model.safetensors", "model.pt2"])
@pytest.mark.parametrize("gone", [False, True])
def test_what_changes_after_loading_is_not_opened(release: Path, file: str, gone: bool) -> None:
    network = cifar_export.load(NAME, release)
    path = release / NAME / file
    path.unlink() if gone else path.write_bytes(path.read_bytes() + b"\0")
    opened: dict[str, Callable[[], Any]] = {
        "model-uint8.onnx": lambda: network.predict(IMAGES),
        "model.onnx": lambda: network.session("float32"),
        "model.safetensors": network.network,
        "model.pt2": lambda: network.path("model.pt2"),
    }
    with pytest.raises(GateFailed, match="is gone" if gone else "has changed"):
        opened[file]()


@pytest.mark.parametrize(
    "change",
    [{"schema": 4}, {"labels": ["a", 1]}, {"labels": "ab"}, {"normalization": {"mean": [0.5] * 3}}, {"network": 1}],
)
def test_a_config_that_describes_no_network(tmp_path: Path, change: dict[str, Any]) -> None:
    """Vouched for by its checksums, and still not believed."""
    folder = fake_network(tmp_path / NAME, NAME)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    write_sums(folder)
    with pytest.raises((GateFailed, InvalidInput), match=r"config\.json|holds 1, not"):
        cifar_export.load(NAME, folder)


def test_a_second_time_needs_no_network(
    served: Callable[[], ReleasedNetwork], http_server: Server, cache: Path
) -> None:
    first = served()
    assert first.predict(IMAGES).indices.shape == (3,)
    assert first.folder.is_relative_to(cache / "releases")
    http_server.requests.clear()
    assert served() == first
    assert len({served(), first}) == 1
    assert http_server.requests == []


@pytest.mark.parametrize("poison", ["byte", "consistent", "extra", "missing", "link", "file"])
def test_a_poisoned_cache_is_replaced(
    served: Callable[[], ReleasedNetwork], http_server: Server, made: Path, poison: str
) -> None:
    folder = served().folder
    model = folder / "model-uint8.onnx"
    if poison == "byte":
        model.write_bytes(model.read_bytes()[:-1] + b"\0")
    elif poison == "consistent":
        model.write_bytes((made / "cifar10_resnet20" / model.name).read_bytes())
        write_sums(folder)
        write_sums(folder.parent)
    elif poison == "extra":
        (folder / "evil.py").write_text("raise SystemExit")
    elif poison == "missing":
        model.unlink()
    elif poison == "link":
        shutil.rmtree(folder)
        folder.symlink_to(made / "cifar10_resnet20")
    else:
        shutil.rmtree(folder)
        folder.write_text("no folder")
    network = served()
    assert {name: network.read(name) for name in network.files} == {
        name: (made / NAME / name).read_bytes() for name in files_below(made / NAME)
    }
    assert files_below(folder) == files_below(made / NAME)
    assert not folder.is_symlink()
    assert (made / "cifar10_resnet20" / "model.onnx").is_file()  # what a link led to is not ours to remove


def test_a_poisoned_cache_without_a_network_is_an_error(
    served: Callable[[], ReleasedNetwork], http_server: Server
) -> None:
    (served().folder / "model.onnx").write_bytes(b"poison")
    http_server.statuses = [404] * 10
    with pytest.raises(Unavailable, match="HTTP status 404"):
        served()


def test_a_signed_release_asks_for_its_signature_each_time(made: Path, http_server: Server, tmp_path: Path) -> None:
    pytest.importorskip("model_signing", reason="needs the sign extra")
    from cifar_export.release.sign import sign_release

    from support.keys import write_keys

    private, public = write_keys(tmp_path, "maker")
    shutil.copytree(made, http_server.root, dirs_exist_ok=True)
    sign_release(http_server.root, private)
    assert cifar_export.load(NAME, http_server.url, public_key=str(public)).version == "1.0.0"
    http_server.requests.clear()
    assert cifar_export.load(NAME, http_server.url, public_key=public).version == "1.0.0"
    assert [path for path, _ in http_server.requests] == ["/model.sig"]


def with_weights(folder: Path, weights: Weights, normalization: Normalization) -> Path:
    fake_network(folder, NAME)
    sha256 = save_weights(folder / "model.safetensors", weights)
    config = json.loads((folder / "config.json").read_text())
    config["weights"]["sha256"], config["normalization"] = sha256, normalization.as_dict()
    (folder / "config.json").write_text(json.dumps(config))
    write_sums(folder)
    return folder


def test_the_torch_module_is_that_of_the_weights(tmp_path: Path) -> None:
    import torch

    fed = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    weights = replace(random_weights(SPEC, seed=3), normalization=fed)
    loaded = cifar_export.load(NAME, with_weights(tmp_path / NAME, weights, fed))
    network = loaded.network()
    assert not network.training
    assert network.normalization == loaded.normalization == fed
    state = network.state_dict()
    assert all(torch.equal(state[key], weights.state[key]) for key in weights.state)
    assert loaded.weights().sha256 == loaded.files["model.safetensors"]


def test_weights_swapped_between_check_and_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights(SPEC, seed=3)
    loaded = cifar_export.load(NAME, with_weights(tmp_path / NAME, weights, weights.normalization))

    def check_then_swap(network: ReleasedNetwork, file: str) -> Path:
        network.read(file)
        save_weights(network.folder / file, random_weights(SPEC, seed=4))
        return network.folder / file

    monkeypatch.setattr(ReleasedNetwork, "path", check_then_swap)
    with pytest.raises(GateFailed, match="has changed"):
        loaded.network()


def test_weights_that_contradict_the_config_are_refused(tmp_path: Path) -> None:
    """Nothing says which of the two normalizations is right, and the wrong one costs accuracy unseen."""
    other = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    loaded = cifar_export.load(NAME, with_weights(tmp_path / NAME, random_weights(SPEC, seed=3), other))
    with pytest.raises(GateFailed, match="different normalizations"):
        loaded.network()


def test_without_a_release_it_is_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from cifar_export.networks.preprocess import as_variant
    from cifar_export.runtimes.pytorch import open_cpu

    network = cifar_export.load(NAME)
    logits = open_cpu(network.network()).logits(as_variant(IMAGES, "float32", network.normalization))
    np.testing.assert_allclose(network.predict(IMAGES).probabilities, softmax(logits), atol=1e-5)
    assert network.weights().source == "bundled"
    monkeypatch.setattr("cifar_export.weights.index.bundled_entries", dict)
    with pytest.raises(InvalidInput, match="Name a release"):
        cifar_export.load(NAME)


def test_torch_is_imported_for_torch_alone(release: Path) -> None:
    """Importing the package imports nothing heavy; running an ONNX file imports no torch."""
    program = f"""
import sys, cifar_export
assert not {{"torch", "onnx", "numpy", "onnxruntime"}} & set(sys.modules)
assert "load" in dir(cifar_export)
import numpy as np
network = cifar_export.load({NAME!r}, {str(release)!r})
network.predict(np.zeros((1, 32, 32, 3), np.uint8))
assert not {{"torch", "onnx", "rich", "click"}} & set(sys.modules), set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        cifar_export.lod  # noqa: B018


def assert_the_documented_program_runs(url: str, sha256: str, images: Any) -> None:
    page = (ROOT / "docs" / "releases.md").read_text()
    program = page.partition("## Fetch and load")[2].partition("```python\n")[2].partition("```")[0]
    program = program.replace('"https://host/releases/1.0.0"', repr(url)).replace('"..."', repr(sha256))
    lines = [line for line in program.splitlines() if '"cuda"' not in line]
    exec("\n".join(lines), scope := {"images": images})
    assert scope["network"].version == "1.2rc1"


def test_a_real_network_of_a_real_release(built_network: BuiltNetwork, tmp_path: Path, http_server: Server) -> None:
    shutil.copytree(built_network.folder, http_server.root / NAME)
    assemble(http_server.root, Origin("1.2rc1", COMMIT, DEFAULT_EPOCH))
    network = cifar_export.load(NAME, http_server.url, sha256=sha256_file(http_server.root / SUMS))
    assert network.version == "1.2rc1"
    pixels = golden(network.folder, "input_0.pb")
    expected = softmax(golden(network.folder, "output_0.pb"))
    np.testing.assert_allclose(network.predict(pixels).probabilities, expected, atol=1e-5)

    from cifar_export.networks.preprocess import as_variant
    from cifar_export.runtimes.pytorch import open_cpu

    logits = open_cpu(network.network()).logits(as_variant(pixels, "float32", network.normalization))
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-5)
    assert_the_documented_program_runs(http_server.url, sha256_file(http_server.root / SUMS), pixels)
    scores = network.session("float32").run(None, {"input": as_variant(pixels, "float32", network.normalization)})
    np.testing.assert_allclose(softmax(scores[0]), expected, atol=1e-5)
