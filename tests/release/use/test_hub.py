"""Releases of the Hugging Face Hub in use: folders that its library made, and what a stand-in of the Hub serves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
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

from support.hub_folders import ATTRIBUTES, as_local_dir, as_snapshot, content
from support.hub_server import Hub
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


# what the Hub serves


@pytest.fixture
def served(hub: Hub, made: Path) -> str:
    """The commit of the release in org/name; its tag is v1."""
    return hub.put("org/name", {**content(made), ".gitattributes": ATTRIBUTES}, "v1")


def refused(run: Run, output: Path, code: int, words: str, *options: object, network: str = NAME) -> None:
    """It ends with that code and words, in two lines at most, and leaves nothing."""
    done = run("fetch", network, "--output", output, "--release", *options)
    assert (done.exit_code, words in done.stderr) == (code, True), done.output
    assert done.stderr.count("\n") <= 2
    assert not output.exists()


def test_a_network_of_a_tag_is_fetched_by_the_sha256(
    hub: Hub, served: str, made: Path, tmp_path: Path, run: Run
) -> None:
    sha256 = sha256_file(made / SUMS)
    command = ("fetch", NAME, "--release", "hf://org/name@v1", "--sha256", sha256, "--output", tmp_path / "out")
    done = run(*command, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["version"], document["sha256"], document["vouched_by"]) == ("1.0.0", sha256, ["sha256"])
    assert document["release"] == "hf://org/name@v1"
    assert content(tmp_path / "out" / NAME) == content(made / NAME)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [NAME]
    brought = {path.rpartition("/")[2] for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path}
    assert brought == {SUMS, f"{NAME}-1.0.0.tar.gz"}
    assert "it was there already, intact" in run(*command).stdout
    assert not (tmp_path / "hf").exists()


def test_a_whole_commit_is_enough(served: str, made: Path, tmp_path: Path, run: Run) -> None:
    done = run("fetch", NAME, "--release", f"hf://org/name@{served}", "--output", tmp_path / "out")
    assert (done.exit_code, "origin   not checked; the files are intact" in done.stdout) == (0, True), done.output
    assert content(tmp_path / "out" / NAME) == content(made / NAME)


def test_a_public_repository_is_a_server_like_others(
    hub: Hub, served: str, made: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its URL, and without the Hub's library."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    release = ("--release", f"{hub.url}/org/name/resolve/v1", "--sha256", sha256_file(made / SUMS))
    done = run("fetch", NAME, *release, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert content(tmp_path / "out" / NAME) == content(made / NAME)


def test_a_tag_that_nothing_vouches_for_is_refused(hub: Hub, served: str, tmp_path: Path, run: Run) -> None:
    refused(run, tmp_path / "out", 2, "or name the whole commit, 40 hex digits", "hf://org/name@v1")
    assert not hub.requests


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("hf://org/name", "names no revision, and what a repository holds changes.\nAdd a commit or a tag"),
        ("hf://org/name@", "names no revision"),
        ("hf://name@v1", "is no address of the Hub"),
        ("hf://org/name@v 1", "is no address of the Hub"),
        ("hf://org/name/x@v1", "is no address of the Hub"),
        ("hf://", "is no address of the Hub"),
        ("hf://../x@v1", "is no address of the Hub"),
        ("hf://o--o/n..n@v1", "cannot download hf://o--o/n..n@v1"),
    ],
)
def test_other_addresses_are_wrong_usage(url: str, words: str, hub: Hub, tmp_path: Path, run: Run) -> None:
    refused(run, tmp_path / "out", 2, words, url, "--sha256", "0" * 64)
    assert not hub.requests


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://hub", "https://"])
def test_an_endpoint_that_is_none_is_named(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    refused(run, tmp_path / "out", 2, "which is no address of a Hub", "hf://org/name@v1", "--sha256", "0" * 64)


def test_another_sha256_is_refused(served: str, tmp_path: Path, run: Run) -> None:
    refused(run, tmp_path / "out", 1, "is not the expected file", "hf://org/name@v1", "--sha256", "0" * 64)
    refused(run, tmp_path / "out", 1, "is not the expected file", f"hf://org/name@{served}", "--sha256", "0" * 64)


def test_the_signature_on_the_hub_is_checked(hub: Hub, made: Path, tmp_path: Path, run: Run) -> None:
    pytest.importorskip("model_signing", reason="needs the sign extra")
    key, public = write_keys(tmp_path, "key")
    _, stranger = write_keys(tmp_path, "stranger")
    signed = Path(shutil.copytree(made, tmp_path / "1.0.0"))
    hub.put("org/unsigned", content(signed), "v1")
    sign_release(signed, key)
    hub.put("org/name", content(signed), "v1")
    refused(run, tmp_path / "out", 1, "not by", "hf://org/name@v1", "--public-key", stranger)
    refused(run, tmp_path / "out", 1, "is not signed", "hf://org/unsigned@v1", "--public-key", public)
    done = run("fetch", NAME, "--release", "hf://org/name@v1", "--public-key", public, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output


def test_an_archive_that_was_changed_is_refused(hub: Hub, made: Path, tmp_path: Path, run: Run) -> None:
    files = content(made)
    name = f"{NAME}-1.0.0.tar.gz"
    for changed in (files[name][:-1], files["cifar10_resnet20-1.0.0.tar.gz"]):
        hub.put("org/name", {**files, name: changed}, "v1")
        words = f"{name} of hf://org/name@v1 is not the one that SHA256SUMS lists"
        refused(run, tmp_path / "out", 1, words, "hf://org/name@v1", "--sha256", sha256_file(made / SUMS))


def test_what_the_hub_does_not_have_is_unavailable(hub: Hub, made: Path, tmp_path: Path, run: Run) -> None:
    files, trust = content(made), ("--sha256", sha256_file(made / SUMS))
    name = f"{NAME}-1.0.0.tar.gz"
    hub.put("org/name", {path: data for path, data in files.items() if path != name}, "v1")
    hub.put("org/other", {"README.md": b"#"}, "v1")
    out = tmp_path / "out"
    refused(run, out, 3, f"it has no {name}", "hf://org/name@v1", *trust)
    refused(run, out, 3, "it has no SHA256SUMS", "hf://org/other@v1", *trust)
    refused(run, out, 3, "has no such revision", "hf://org/name@v2", *trust)
    refused(run, out, 3, "there is no such repository, or you may not do that", "hf://org/nothing@v1", *trust)
    refused(run, out, 2, "It has cifar10_resnet20", "hf://org/name@v1", *trust, network="cifar10_resnet56")
    hub.token = "hf_secret"
    refused(run, out, 3, "log in with `hf auth login`, or set HF_TOKEN", "hf://org/name@v1", *trust)


def test_a_login_is_sent(
    hub: Hub, served: str, made: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", hub.token)
    trust = ("--sha256", sha256_file(made / SUMS))
    done = run("fetch", NAME, "--release", "hf://org/name@v1", *trust, "--output", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    assert hub.token not in done.output


def test_a_server_that_fails_is_unavailable(
    hub: Hub, served: str, made: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = ("--sha256", sha256_file(made / SUMS))
    hub.failing = {"/api/": 418}
    refused(run, tmp_path / "out", 3, "HTTP status 418", "hf://org/name@v1", *trust)
    hub.failing = {"/resolve/": 418}
    refused(run, tmp_path / "out", 3, "cannot download hf://org/name@v1", "hf://org/name@v1", *trust)
    hub.failing = {}
    hub.lying_size = 1 << 40
    refused(run, tmp_path / "out", 3, "it has more than", "hf://org/name@v1", *trust)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused(run, tmp_path / "out", 3, "cannot download hf://org/name@v1", "hf://org/name@v1", *trust)


def test_without_the_extra_the_message_says_how_to_get_it(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    words = "Run: pip install 'cifar-export[hub]'"
    refused(run, tmp_path / "out", 3, words, "hf://org/name@v1", "--sha256", "0" * 64)


def test_a_repository_of_one_network(hub: Hub, made: Path, tmp_path: Path, run: Run) -> None:
    commit = hub.put("org/one", {**content(made / NAME), ".gitattributes": ATTRIBUTES}, "v1")
    done = run("fetch", NAME, "--release", f"hf://org/one@{commit}", "--output", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["version"] == "1.0.0"
    assert content(tmp_path / "out" / NAME) == content(made / NAME)
    words = f"hf://org/one@{commit} holds {NAME}, not cifar10_resnet20"
    refused(run, tmp_path / "new", 2, words, f"hf://org/one@{commit}", network="cifar10_resnet20")
    changed = hub.put("org/one", {**content(made / NAME), "model.pt2": b"other"})
    refused(run, tmp_path / "new", 1, "model.pt2 differs", f"hf://org/one@{changed}")


def test_load_keeps_what_it_brought(
    hub: Hub, served: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_EXPORT_CACHE", str(tmp_path / "cache"))
    sha256 = sha256_file(made / SUMS)
    expected = cifar_export.load(NAME, made).predict(IMAGES).probabilities
    network = cifar_export.load(NAME, "hf://org/name@v1", sha256=sha256)
    np.testing.assert_array_equal(network.predict(IMAGES).probabilities, expected)
    hub.requests.clear()
    assert cifar_export.load(NAME, "hf://org/name@v1", sha256=sha256).folder == network.folder
    assert not hub.requests  # with the sha256, nothing is asked for again
    assert cifar_export.load(NAME, f"hf://org/name@{served}").folder == network.folder
    hub.put("org/one", content(made / NAME), "v1")
    single = cifar_export.load(NAME, "hf://org/one@v1", sha256=sha256_file(made / NAME / SUMS))
    np.testing.assert_array_equal(single.predict(IMAGES).probabilities, expected)


def test_what_the_library_itself_downloads_is_verified_and_loaded(
    hub: Hub, served: str, made: Path, tmp_path: Path, run: Run
) -> None:
    """Both of its layouts, made by itself: with its notes, locks and links."""
    from huggingface_hub import snapshot_download

    kept = Path(snapshot_download("org/name", revision="v1", cache_dir=tmp_path / "cache"))
    local = Path(snapshot_download("org/name", revision="v1", local_dir=tmp_path / "local"))
    assert (kept / SUMS).is_symlink()
    assert (local / ".cache" / "huggingface").is_dir()
    for folder in (kept, local):
        done = run("verify", folder, "--hub")
        assert (done.exit_code, "intact, origin not checked (release 1.0.0" in done.stdout) == (0, True), done.output
        assert run("verify", folder).exit_code == 1
        assert cifar_export.load(NAME, folder).predict(IMAGES).indices.shape == (2,)


def test_a_full_disk_says_so(
    hub: Hub, served: str, made: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    trust = ("--sha256", sha256_file(made / SUMS))
    refused(run, tmp_path / "out", 3, "No space left on device", "hf://org/name@v1", *trust)


def test_an_interrupted_download_leaves_nothing(
    hub: Hub, served: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import snapshot_download

    def cut(*arguments: object, **more: object) -> object:
        found = snapshot_download(*arguments, **more)  # type: ignore[arg-type,call-overload]
        if not more.get("dry_run") and more["allow_patterns"] != [SUMS]:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr("huggingface_hub.snapshot_download", cut)
    words = "interrupted: nothing was left half-written."
    refused(run, tmp_path / "out", 130, words, f"hf://org/name@{served}")
