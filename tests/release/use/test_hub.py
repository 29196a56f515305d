"""Releases of the Hugging Face Hub in use: folders that its library made, and what a stand-in of the Hub serves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import cifar_export
from cifar_export.errors import GateFailed, InvalidInput
from cifar_export.release.layout import SUMS
from cifar_export.release.sign import sign_release
from cifar_export.system.files import sha256_file

from support.hub_folders import as_local_dir, as_snapshot, content
from support.keys import write_keys
from support.releases import fake_release

NAME = "cifar100_resnet20"
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
Run = Callable[..., Result]
Layout = Callable[[Path, Path], Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of two networks; nobody writes into it."""
    return fake_release(tmp_path_factory.mktemp("made") / "1.0.0")


# folders


@pytest.mark.parametrize("layout", [as_snapshot, as_local_dir])
def test_a_download_is_loaded(layout: Layout, made: Path, tmp_path: Path) -> None:
    """The whole release, one of its networks, and a repository of one network."""
    expected = cifar_export.load(NAME, made).predict(IMAGES)
    folder = layout(made, tmp_path / "whole")
    for release in (folder, folder / NAME, layout(made / NAME, tmp_path / "single")):
        network = cifar_export.load(NAME, release, sha256=sha256_file(release / SUMS))
        assert network.version == "1.0.0"
        np.testing.assert_array_equal(network.predict(IMAGES).probabilities, expected.probabilities)
        assert network.path("model.pt2").read_bytes() == (made / NAME / "model.pt2").read_bytes()


@pytest.mark.parametrize("layout", [as_snapshot, as_local_dir])
def test_fetch_makes_plain_files_of_a_download(layout: Layout, made: Path, tmp_path: Path, run: Run) -> None:
    done = run("fetch", NAME, "--release", layout(made, tmp_path / "whole"), "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert content(tmp_path / "out" / NAME) == content(made / NAME)
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_a_link_out_of_the_cache_is_not_loaded(made: Path, tmp_path: Path) -> None:
    snapshot = as_snapshot(made, tmp_path / "hub")
    path = snapshot / NAME / "model.pt2"
    shutil.copy(path, tmp_path / "elsewhere")
    path.unlink()
    path.symlink_to(os.path.relpath(tmp_path / "elsewhere", path.parent))
    with pytest.raises(GateFailed, match=r"model.pt2: a symbolic link. It leads to no file in `blobs/`"):
        cifar_export.load(NAME, snapshot)
    with pytest.raises(GateFailed, match="symbolic link"):
        cifar_export.load(NAME, snapshot / NAME)


def test_a_blob_that_changes_after_it_was_loaded_is_not_used(made: Path, tmp_path: Path) -> None:
    snapshot = as_snapshot(made, tmp_path / "hub")
    network = cifar_export.load(NAME, snapshot)
    (snapshot / NAME / "model-uint8.onnx").resolve().write_bytes(b"other")
    with pytest.raises(GateFailed, match="has changed since it was checked"):
        network.session()
    with pytest.raises(GateFailed, match="changed: its sha256"):
        cifar_export.load(NAME, snapshot)


def test_what_stands_in_for_no_release_is_told_apart(made: Path, tmp_path: Path) -> None:
    snapshot = as_snapshot(made, tmp_path / "hub")
    repository = snapshot.parent.parent
    with pytest.raises(InvalidInput, match=f"has no SHA256SUMS. Name one of the folders in {repository / 'snapshots'}"):
        cifar_export.load(NAME, repository)
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in made.iterdir():
        (linked / path.name).symlink_to(path)
    with pytest.raises(GateFailed, match=r"SHA256SUMS: a symbolic link: .*`cp -rL FOLDER COPY`"):
        cifar_export.load(NAME, linked)


@pytest.mark.parametrize("layout", [as_snapshot, as_local_dir])
def test_the_signer_of_a_download_is_asked_for(layout: Layout, made: Path, tmp_path: Path) -> None:
    pytest.importorskip("model_signing", reason="needs the sign extra")
    key, public = write_keys(tmp_path, "key")
    _, stranger = write_keys(tmp_path, "stranger")
    signed = Path(shutil.copytree(made, tmp_path / "1.0.0"))
    sign_release(signed, key)
    folder = layout(signed, tmp_path / "whole")
    assert cifar_export.load(NAME, folder, public_key=public).version == "1.0.0"
    with pytest.raises(GateFailed, match="not by"):
        cifar_export.load(NAME, folder, public_key=stranger)
