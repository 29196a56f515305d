"""`verify --hub`: what the Hugging Face Hub's library leaves on a disk is intact, and nothing else is allowed by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result as Run

import cifar_export
from cifar_export.release.check import verify as verifier
from cifar_export.release.check.verify import main, verify
from cifar_export.release.sign import sign_release

from support.hostile.case import ARCHIVE, NETWORK
from support.hub_folders import as_local_dir, as_snapshot, link
from support.keys import write_keys
from support.releases import fake_release

MODEL = f"{NETWORK}/model.pt2"
ELSEWHERE = "a symbolic link. It leads to no file in `blobs/` of the same cache: download it again"
ASIDE = "`--hub` leaves it aside, as the Hugging Face Hub's own"
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_release(tmp_path_factory.mktemp("made") / "1.0.0", (NETWORK,))


@pytest.fixture
def snapshot(made: Path, tmp_path: Path) -> Path:
    return as_snapshot(made, tmp_path / "hub")


@pytest.fixture
def local(made: Path, tmp_path: Path) -> Path:
    return as_local_dir(made, tmp_path / "local")


def test_both_layouts_are_intact(made: Path, snapshot: Path, local: Path) -> None:
    expected = verify(made)
    for folder in (snapshot, local):
        result = verify(folder, hub=True)
        assert result.problems == []
        assert (result.kind, result.files, result.bytes) == ("release", expected.files, expected.bytes)


def test_a_network_and_an_archive_of_a_snapshot_are_intact(snapshot: Path) -> None:
    assert verify(snapshot / NETWORK, hub=True).problems == []
    assert verify(snapshot / ARCHIVE, hub=True).problems == []


def test_a_repository_of_one_network_is_intact(made: Path, tmp_path: Path) -> None:
    for folder in (as_snapshot(made / NETWORK, tmp_path / "hub"), as_local_dir(made / NETWORK, tmp_path / "local")):
        assert (verify(folder, hub=True).problems, verify(folder, hub=True).kind) == ([], "network")


def test_a_plain_release_is_as_intact_as_without(made: Path) -> None:
    assert verify(made, hub=True) == verify(made)


def test_a_cache_behind_a_link_is_the_same_cache(snapshot: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").symlink_to(tmp_path / "hub")
    assert verify(tmp_path / "moved" / snapshot.relative_to(tmp_path / "hub"), hub=True).intact


def test_without_the_option_it_is_refused_and_the_option_is_named(snapshot: Path, local: Path) -> None:
    assert verify(snapshot).problems == [
        "SHA256SUMS: a symbolic link: nothing here can be checked. "
        "It is in a cache of the Hugging Face Hub: verify with `--hub`"
    ]
    assert verify(local).problems == [
        f".cache/: a folder of which SHA256SUMS lists nothing. {ASIDE}",
        f".gitattributes: not listed in SHA256SUMS. {ASIDE}",
    ]


def test_links_outside_of_a_cache_are_told_how_to_be_copied(made: Path, tmp_path: Path) -> None:
    release = Path(shutil.copytree(made, tmp_path / "1.0.0"))
    (release / MODEL).rename(tmp_path / "model.pt2")
    (release / MODEL).symlink_to(tmp_path / "model.pt2")
    advice = "Make a copy without links, `cp -rL FOLDER COPY`, and verify the copy"
    for hub in (False, True):
        assert verify(release, hub=hub).problems == [f"{MODEL}: a symbolic link. {advice}"]
    subprocess.run(["cp", "-rL", release, tmp_path / "copy"], check=True)
    assert verify(tmp_path / "copy").intact


# hostile


def _relink(path: Path, target: str | Path) -> None:
    path.unlink()
    path.symlink_to(target)


def _blobs(snapshot: Path) -> Path:
    return snapshot.parent.parent / "blobs"


def _to_a_copy(snapshot: Path, place: Path) -> None:
    """The same bytes, elsewhere."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes((snapshot / MODEL).read_bytes())
    _relink(snapshot / MODEL, os.path.relpath(place, (snapshot / MODEL).parent))


def _out_of_the_cache(snapshot: Path) -> None:
    _to_a_copy(snapshot, snapshot.parents[3] / "elsewhere")


def _to_another_repository(snapshot: Path) -> None:
    _to_a_copy(snapshot, snapshot.parents[2] / "models--org--other" / "blobs" / ("a" * 64))


def _below_blobs(snapshot: Path) -> None:
    _to_a_copy(snapshot, _blobs(snapshot) / "deeper" / ("a" * 64))


def _beside_blobs(snapshot: Path) -> None:
    _to_a_copy(snapshot, snapshot.parents[1] / "blobs2" / ("a" * 64))


def _within_the_snapshot(snapshot: Path) -> None:
    _relink(snapshot / MODEL, "model.onnx")


def _dangling(snapshot: Path) -> None:
    (snapshot / MODEL).resolve().unlink()


def _by_a_blob_that_is_a_link(snapshot: Path) -> None:
    blob = (snapshot / MODEL).resolve()
    blob.rename(snapshot.parents[3] / "elsewhere")
    blob.symlink_to(snapshot.parents[3] / "elsewhere")


def _to_a_folder(snapshot: Path) -> None:
    (_blobs(snapshot) / "folder").mkdir()
    _relink(snapshot / MODEL, os.path.relpath(_blobs(snapshot) / "folder", (snapshot / MODEL).parent))


def _to_a_pipe(snapshot: Path) -> None:
    blob = (snapshot / MODEL).resolve()
    blob.unlink()
    os.mkfifo(blob)


def _in_a_loop(snapshot: Path) -> None:
    _relink(snapshot / MODEL, "model.pt2")


@pytest.mark.parametrize(
    "change",
    [
        _out_of_the_cache,
        _to_another_repository,
        _below_blobs,
        _beside_blobs,
        _within_the_snapshot,
        _dangling,
        _by_a_blob_that_is_a_link,
        _to_a_folder,
        _to_a_pipe,
        _in_a_loop,
    ],
)
def test_a_link_to_anything_but_a_blob_of_the_cache_is_refused(change: Change, snapshot: Path) -> None:
    change(snapshot)
    assert verify(snapshot, hub=True).problems == [f"{MODEL}: {ELSEWHERE}"]


def test_blobs_that_are_a_link_are_none(snapshot: Path, tmp_path: Path) -> None:
    _blobs(snapshot).rename(tmp_path / "elsewhere")
    _blobs(snapshot).symlink_to(tmp_path / "elsewhere")
    (problem,) = verify(snapshot, hub=True).problems
    assert problem.startswith("SHA256SUMS: a symbolic link: nothing here can be checked")


def test_snapshots_that_are_a_link_have_the_blobs_beside_what_is_really_there(snapshot: Path, tmp_path: Path) -> None:
    """The system takes `..` from where the folder really is, so that is where a link must lead to blobs."""
    real = tmp_path / "elsewhere" / "snapshots"
    shutil.copytree(snapshot.parent, real, symlinks=True)
    shutil.rmtree(snapshot.parent)
    snapshot.parent.symlink_to(real)
    assert not verify(snapshot, hub=True).intact


def _changed(snapshot: Path) -> None:
    (snapshot / MODEL).resolve().write_bytes(b"other")


def _swapped(snapshot: Path) -> None:
    _relink(snapshot / MODEL, os.path.relpath((snapshot / "index.json").resolve(), (snapshot / MODEL).parent))


@pytest.mark.parametrize("change", [_changed, _swapped])
def test_other_content_is_refused(change: Change, snapshot: Path) -> None:
    change(snapshot)
    problems = verify(snapshot, hub=True).problems
    assert f"{MODEL}: changed: its sha256 is not the one in SHA256SUMS" in problems


def test_a_blob_with_another_name_is_refused(snapshot: Path, tmp_path: Path) -> None:
    os.link((snapshot / MODEL).resolve(), tmp_path / "held")
    (problem,) = verify(snapshot, hub=True).problems
    assert problem.startswith(f"{MODEL}: a hard link")


def test_an_extra_file_is_refused_in_both_layouts(snapshot: Path, local: Path) -> None:
    link(snapshot / "extra", _blobs(snapshot), b"x")
    assert verify(snapshot, hub=True).problems == ["extra: a symbolic link"]
    (local / "extra").touch()
    (local / "uint8").mkdir()
    assert verify(local, hub=True).problems == [
        "extra: not listed in SHA256SUMS",
        "uint8/: a folder of which SHA256SUMS lists nothing",
    ]


def _attributes_folder(local: Path) -> None:
    (local / ".gitattributes").unlink()
    (local / ".gitattributes").mkdir()


def _notes_elsewhere(local: Path) -> None:
    (local / ".cache" / "huggingface").rename(local.parent / "notes")
    (local / ".cache" / "huggingface").symlink_to(local.parent / "notes")


def _notes_file(local: Path) -> None:
    shutil.rmtree(local / ".cache" / "huggingface")
    (local / ".cache" / "huggingface").touch()


def _cache_elsewhere(local: Path) -> None:
    (local / ".cache").rename(local.parent / "notes")
    (local / ".cache").symlink_to(local.parent / "notes")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda local: (local / ".cache" / "other").mkdir(),
            ".cache/other/: a folder of which SHA256SUMS lists nothing",
        ),
        (lambda local: (local / ".cache" / "x").touch(), ".cache/x: not listed in SHA256SUMS"),
        (
            lambda local: (local / NETWORK / ".cache" / "huggingface").mkdir(parents=True),
            f"{NETWORK}/.cache/: a folder of which SHA256SUMS lists nothing",
        ),
        (
            lambda local: (local / NETWORK / ".gitattributes").touch(),
            f"{NETWORK}/.gitattributes: not listed in SHA256SUMS",
        ),
        (_attributes_folder, ".gitattributes/: a folder of which SHA256SUMS lists nothing"),
        (lambda local: _relink(local / ".gitattributes", "/etc/passwd"), ".gitattributes: a symbolic link"),
        (_notes_elsewhere, ".cache/huggingface: a symbolic link"),
        (_notes_file, ".cache/huggingface: not listed in SHA256SUMS"),
        (_cache_elsewhere, ".cache: a symbolic link"),
        (lambda local: (local / ".gitignore").touch(), ".gitignore: not listed in SHA256SUMS"),
        (lambda local: (local / ".git").mkdir(), ".git/: a folder of which SHA256SUMS lists nothing"),
    ],
)
def test_the_hubs_own_names_mean_nothing_elsewhere(change: Change, problem: str, local: Path) -> None:
    change(local)
    assert verify(local, hub=True).problems == [problem]


def test_a_pipe_for_gitattributes_is_never_opened(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (local / ".gitattributes").unlink()
    os.mkfifo(local / ".gitattributes")
    assert verify(local, hub=True).problems == [".gitattributes: a pipe, not a regular file"]


# the commands


def test_the_script_alone_knows_the_option(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-I", "-S", verifier.__file__, snapshot]
    done = subprocess.run([*command, "--hub"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "intact, origin not checked" in done.stdout
    assert main([str(snapshot)]) == 1
    assert "verify with `--hub`" in capsys.readouterr().out


def test_the_command_and_its_deep_checks(snapshot: Path, local: Path, run: Callable[..., Run]) -> None:
    for folder in (snapshot, local):
        done = run("verify", folder, "--hub", "--deep", "--json")
        document = json.loads(done.stdout)
        assert (done.exit_code, document["problems"], len(document["deep"]["models"])) == (0, [], 2)
    assert run("verify", snapshot).exit_code == 1
    assert run("verify", snapshot / ARCHIVE, "--hub", "--deep").exit_code == 0
    assert cifar_export.verify(snapshot, hub=True).verdict == "intact, origin not checked"


def test_the_signature_of_a_download_is_checked(made: Path, tmp_path: Path, run: Callable[..., Run]) -> None:
    pytest.importorskip("model_signing", reason="needs the sign extra")
    key, public = write_keys(tmp_path, "key")
    _, stranger = write_keys(tmp_path, "stranger")
    signed = Path(shutil.copytree(made, tmp_path / "1.0.0"))
    sign_release(signed, key)
    for folder in (as_snapshot(signed, tmp_path / "hub"), as_local_dir(signed, tmp_path / "local")):
        done = run("verify", folder, "--hub", "--public-key", public)
        assert (done.exit_code, f"intact, signed by {public}" in done.stdout) == (0, True), done.output
        assert run("verify", folder, "--hub", "--public-key", stranger).exit_code == 1
    other = fake_release(tmp_path / "other", ("cifar100_resnet20",))
    shutil.copy(signed / "model.sig", other)  # somebody else's files with it
    for folder in (as_snapshot(other, tmp_path / "hub2"), as_local_dir(other, tmp_path / "local2")):
        done = run("verify", folder, "--hub", "--public-key", public)
        assert (done.exit_code, "model.sig: " in done.stdout, "origin refused" in done.stdout) == (1, True, True)
    unsigned = run("verify", as_snapshot(made, tmp_path / "hub3"), "--hub", "--public-key", public)
    assert (unsigned.exit_code, "is not signed" in unsigned.stdout) == (1, True)
