"""`cifar-export package`: what it refuses, in what order, and what it makes of stand-in networks."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from cifar_export import __main__ as cli
from cifar_export.data import Split
from cifar_export.errors import GateFailed, InvalidInput, Unavailable
from cifar_export.networks.zoo import NETWORKS
from cifar_export.release.build import package as build
from cifar_export.release.build import shelf
from cifar_export.release.build.assemble import assemble
from cifar_export.release.check.verify import verify
from cifar_export.release.layout import release_version
from cifar_export.runtimes import Missing
from cifar_export.system.commit import source_commit

from support.releases import COMMIT, fake_network, fake_release

NAMES = ["cifar10_resnet20", "cifar100_resnet20"]
FEW = Split(np.zeros((4, 32, 32, 3), np.uint8), np.zeros(4, np.int64))


class Builds:
    """A builder of stand-ins that notes what it was asked for, and fails where it is told to."""

    def __init__(self):
        self.__qualname__ = "Builds"
        self.built, self.runtimes, self.error = [], [], None

    def __call__(self, spec, version, folder, split, *, runtimes, wanted, progress=None):
        if self.error is not None:
            raise self.error
        self.built.append(spec.name)
        self.runtimes.append(runtimes)
        folder.rmdir()
        fake_network(folder, spec.name, version)
        return {"seconds": 1.5}


@pytest.fixture(autouse=True)
def builds(monkeypatch, tmp_path):
    """Stand-ins for the slow parts; all eight networks seem to have weights."""
    builds = Builds()
    entry = build.bundled_entries()[NAMES[0]]
    made = {name: dataclasses.replace(entry, network=name) for name in NETWORKS}
    monkeypatch.setattr(build, "_default_builder", lambda: builds)
    monkeypatch.setattr(build, "test_images", lambda data_dir, dataset: FEW)
    monkeypatch.setattr("cifar_export.release.build.workers.test_images", lambda data_dir, dataset: FEW)
    monkeypatch.setattr(build, "release_commit", lambda say: COMMIT)
    monkeypatch.setattr(build, "bundled_entries", lambda: made)
    monkeypatch.setenv("CIFAR_EXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return builds


@pytest.fixture
def package(tmp_path):
    """The command, with its output in a fresh folder."""

    def invoke(*arguments, version="1.0.0"):
        command = ["package", *arguments, "--version", version, "--output", tmp_path / "releases"]
        return CliRunner().invoke(cli.main, [str(word) for word in command])

    return invoke


def only(*names):
    return [word for name in names for word in ("--only", name)]


def test_all_eight_networks_by_default(package, tmp_path, builds):
    result = package("--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["networks"] == list(NETWORKS) == builds.built
    release = tmp_path / "releases" / "1.0.0"
    assert verify(release).problems == []
    assert document["sha256"] == shelf.read_shelf(tmp_path / "releases")[0].sha256
    assert (document["commit"], document["created"]) == (COMMIT, "1980-01-01T00:00:00Z")
    measured = json.loads((tmp_path / "releases" / "1.0.0.measurements.json").read_text())
    assert measured["networks"] == {name: {"seconds": 1.5} for name in NETWORKS}
    assert "measurements" not in (release / "SHA256SUMS").read_text()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["resnet20"], ["cifar10_resnet20", "cifar100_resnet20"]),
        (["resnet20", "resnet56", "--dataset", "cifar100"], ["cifar100_resnet20", "cifar100_resnet56"]),
        (["--dataset", "cifar10"], [name for name in NETWORKS if name.startswith("cifar10_")]),
        (only("cifar100_resnet44", "cifar10_resnet20"), ["cifar10_resnet20", "cifar100_resnet44"]),
    ],
)
def test_networks_are_chosen_by_model_data_set_or_name(package, builds, arguments, expected):
    result = package(*arguments)
    assert result.exit_code == 0, result.output
    assert builds.built == expected


def test_only_goes_without_models(package):
    result = package("resnet20", *only(NAMES[0]))
    assert (result.exit_code, "Leave NETWORK and --dataset out" in result.output) == (2, True)


def test_a_network_without_weights_is_named_and_how_to_package_the_others(package, builds, monkeypatch):
    entries = build.bundled_entries()
    monkeypatch.setattr(build, "bundled_entries", lambda: {name: entries[name] for name in NAMES})
    result = package("--json")
    assert result.exit_code == 2
    assert "cifar10_resnet32" in result.stderr
    assert "--only cifar10_resnet20 --only cifar100_resnet20" in result.stderr
    assert json.loads(result.stdout)["exit_code"] == 2
    assert builds.built == []


@pytest.mark.parametrize("version", ["", "one", "1.0.0/..", "../1.0", "1!2.0", "1.0 beta 1 x", "1." * 200 + "0"])
def test_a_version_that_is_none_is_refused(package, tmp_path, version):
    result = package(version=version)
    assert result.exit_code == 2, result.output
    assert not (tmp_path / "releases").exists()


def test_versions_are_normalized():
    assert [release_version(text) for text in ("v1.0", "1.0-RC1", "1.0.0+CPU")] == ["1.0", "1.0rc1", "1.0.0+cpu"]


def test_a_version_that_exists_is_never_overwritten(package, tmp_path, builds):
    package(*only(NAMES[0]))
    before = {path: path.read_bytes() for path in (tmp_path / "releases").rglob("*") if path.is_file()}
    for version in ("1.0.0", "v1.0.0"):
        result = package(*only(NAMES[1]), version=version)
        assert (result.exit_code, "never overwritten" in result.output) == (2, True)
    assert {path: path.read_bytes() for path in (tmp_path / "releases").rglob("*") if path.is_file()} == before
    assert builds.built == [NAMES[0]]


def test_releases_do_not_go_backwards(package, tmp_path):
    for version in ("1.9.0", "1.10.0rc1", "1.10.0"):  # by PEP 440, not by the alphabet
        assert package(*only(NAMES[0]), version=version).exit_code == 0
    for version in ("1.9.1", "1.10.0rc2", "1.10.0.dev1"):
        result = package(*only(NAMES[0]), version=version)
        assert (result.exit_code, "1.10.0, the newest release" in result.output) == (2, True)
    listed = [entry.version for entry in shelf.read_shelf(tmp_path / "releases")]
    assert listed == ["1.9.0", "1.10.0rc1", "1.10.0"]


def test_a_version_in_other_words_is_refused(package, tmp_path):
    assert package("--only", NAMES[0], version="1.0.0").exit_code == 0
    said = package("--only", NAMES[0], version="1.0")
    assert said.exit_code == 2
    assert "1.0 is the same version as 1.0.0" in said.stderr, said.output
    assert not (tmp_path / "releases" / "1.0").exists()


def test_a_release_that_was_deleted_is_not_made_again(package, tmp_path):
    package(*only(NAMES[0]))
    (tmp_path / "releases" / "1.0.0").rename(tmp_path / "gone")
    result = package(*only(NAMES[0]))
    assert (result.exit_code, "a version is never made twice" in result.output) == (2, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"schema": 2, "releases": []}',
        '{"schema": 1}',
        '{"schema": 1, "releases": [{}]}',
        '{"schema": 1, "releases": [{"version": "x", "sha256": "' + "0" * 64 + '", "networks": []}]}',
        '{"schema": 1, "releases": [{"version": "1.0", "sha256": "0", "networks": []}]}',
        '{"schema": 1, "releases": ['
        + ", ".join(['{"version": "1.0", "sha256": "' + "0" * 64 + '", "networks": []}'] * 2)
        + "]}",
    ],
)
def test_a_damaged_list_of_releases_stops_the_build(package, tmp_path, builds, text):
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / "index.json").write_text(text)
    result = package()
    assert (result.exit_code, "index.json is damaged" in result.output) == (2, True)
    assert builds.built == []


def test_what_is_no_intact_release_is_not_listed_but_named(package, tmp_path):
    releases = tmp_path / "releases"
    fake_release(releases / "0.9.0", version="0.9.0")
    (releases / "0.9.0" / NAMES[0] / "labels.txt").write_text("changed\n")
    fake_release(releases / "0.8.0", version="0.7.0")
    (releases / "notes").mkdir()
    result = package(*only(NAMES[0]))
    assert result.exit_code == 0
    assert "0.9.0 is not an intact release" in result.stderr
    assert "0.8.0 is not an intact release" in result.stderr
    assert [entry.version for entry in shelf.read_shelf(releases)] == ["1.0.0"]


def test_a_release_that_was_changed_is_named(package, tmp_path):
    package(*only(NAMES[0]))
    sums = tmp_path / "releases" / "1.0.0" / "SHA256SUMS"
    sums.write_text(sums.read_text() + "\n")
    result = package(*only(NAMES[0]), version="1.1.0")
    assert (result.exit_code, "somebody has changed it" in result.stderr) == (0, True)


@pytest.mark.parametrize("epoch", ["soon", "-1", "1.5", "99999999999", "1e9"])
def test_a_senseless_date_is_refused(package, monkeypatch, builds, epoch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    result = package()
    assert (result.exit_code, "SOURCE_DATE_EPOCH" in result.output) == (2, True)
    assert builds.built == []


def test_a_failed_gate_publishes_nothing(package, tmp_path, builds):
    builds.error = GateFailed("parity failed: onnxruntime-cpu.")
    result = package()
    assert (result.exit_code, "parity failed" in result.output) == (1, True)
    assert not (tmp_path / "releases").exists()


def test_a_release_that_does_not_verify_is_not_published(package, tmp_path, monkeypatch):
    def damaged(staged, origin):
        assemble(staged, origin)
        (staged / NAMES[0] / "labels.txt").write_text("cat\n")

    monkeypatch.setattr("cifar_export.release.build.publish.assemble", damaged)
    result = package(*only(NAMES[0]))
    assert result.exit_code == 1, result.output
    assert "does not verify" in result.output
    assert "labels.txt" in result.output
    assert not (tmp_path / "releases" / "1.0.0").exists()


def test_the_test_set_is_asked_for_before_anything_is_built(package, tmp_path, builds, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(build, "_default_builder", lambda: builds)
    result = package(*only(NAMES[1]), "--data-dir", tmp_path / "nothing")
    assert result.exit_code == 3
    assert "cifar-export data fetch --dataset cifar100" in result.output
    assert builds.built == []
    assert not (tmp_path / "releases").exists()


def test_a_runtime_that_is_missing_is_named_before_anything_is_built(package, builds, monkeypatch):
    monkeypatch.setattr("cifar_export.runtimes.why_missing", lambda name: Missing("it is not here", "Install it."))
    result = package("--runtime", "openvino")
    assert (result.exit_code, "openvino cannot run here: it is not here. Install it." in result.output) == (3, True)
    assert builds.built == []


def test_a_key_that_is_missing_is_refused_before_anything_is_built(package, tmp_path, builds):
    result = package("--sign-key", tmp_path / "none.pem")
    assert (result.exit_code, "none.pem" in result.output) == (2, True)
    assert builds.built == []


def test_a_signed_release_appears_with_its_signature_and_has_the_same_sums(package, tmp_path):
    pytest.importorskip("model_signing")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from cifar_export.release.sign import check_signature

    key = ec.generate_private_key(ec.SECP256R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(public)
    unsigned = json.loads(package(*only(NAMES[0]), "--json").stdout)
    (tmp_path / "releases").rename(tmp_path / "unsigned")
    signed = json.loads(package(*only(NAMES[0]), "--sign-key", tmp_path / "key.pem", "--json").stdout)
    release = tmp_path / "releases" / "1.0.0"
    check_signature(release, public_key=tmp_path / "public.pem")
    with pytest.raises(GateFailed):
        check_signature(tmp_path / "unsigned" / "1.0.0", public_key=tmp_path / "public.pem")
    assert verify(release).problems == []
    assert (unsigned["signed"], signed["signed"]) == (False, True)
    assert signed["sha256"] == unsigned["sha256"]


def test_finished_networks_are_reused_unless_told_otherwise(package, builds, tmp_path):
    package(*only(*NAMES))
    (tmp_path / "releases").rename(tmp_path / "first")
    result = package(*only(*NAMES), "--json")
    assert json.loads(result.stdout)["reused"] == NAMES
    assert builds.built == NAMES
    for name in ("SHA256SUMS", "index.json"):
        assert (tmp_path / "first" / "1.0.0" / name).read_bytes() == (
            tmp_path / "releases" / "1.0.0" / name
        ).read_bytes()
    (tmp_path / "releases").rename(tmp_path / "second")
    assert json.loads(package(*only(*NAMES), "--no-cache", "--json").stdout)["reused"] == []
    assert builds.built == NAMES * 2


def test_code_that_changes_under_a_build_is_neither_published_nor_cached(package, builds, tmp_path, monkeypatch):
    digests = iter("abbb")
    monkeypatch.setattr(build, "source_digest", lambda: next(digests))
    result = package(*only(NAMES[0]))
    assert (result.exit_code, "the source has changed while the release was built" in result.output) == (1, True)
    assert not (tmp_path / "releases").exists()
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(build, "release_commit", lambda say: f"{COMMIT}-dirty")
    digests = iter("abbb")
    assert package(*only(NAMES[0])).exit_code == 0


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_modes_do_not_depend_on_the_umask(package, tmp_path):
    before = os.umask(0o077)
    try:
        assert package(*only(NAMES[0])).exit_code == 0
    finally:
        os.umask(before)
    release = tmp_path / "releases" / "1.0.0"
    found = {(path.is_dir(), path.stat().st_mode & 0o777) for path in (release, *release.rglob("*"))}
    found |= {(False, path.stat().st_mode & 0o777) for path in (tmp_path / "releases").glob("*.json")}
    assert found == {(True, 0o755), (False, 0o644)}


def test_a_folder_in_the_place_of_the_release_stays_as_it_is(package, tmp_path, builds):
    (tmp_path / "releases" / "1.0.0").mkdir(parents=True)
    assert package().exit_code == 2
    (tmp_path / "releases" / "1.0.0").rmdir()
    (tmp_path / "releases" / "1.0.0").symlink_to(tmp_path / "elsewhere")
    assert package().exit_code == 2
    assert builds.built == []


def test_a_file_in_the_place_of_the_output_is_refused(tmp_path, builds):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot"):
        build.package(NAMES, "1.0.0", tmp_path / "file" / "releases", data_dir=tmp_path)
    assert builds.built == []


def git(folder, *arguments):
    names = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a"}
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], env=os.environ | names, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_commit_is_told_and_whether_files_have_changed(tmp_path, monkeypatch):
    (tmp_path / "exporter").mkdir()
    (tmp_path / "exporter" / "commit.py").write_text("")
    monkeypatch.setattr("cifar_export.system.commit.CHECKOUT", tmp_path)
    assert source_commit() is None
    git(tmp_path, "init", "--quiet")
    with pytest.raises(Unavailable, match="git cannot tell the commit"):
        source_commit(required=True)
    assert source_commit() is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "x")
    head = git(tmp_path, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert source_commit(required=True) == head
    (tmp_path / "untracked").write_text("")
    assert source_commit() == head
    (tmp_path / "exporter" / "commit.py").write_text("changed")
    assert source_commit() == f"{head}-dirty"
    assert source_commit(("other",)) == head


def test_help_is_there_without_torch(tmp_path):
    code = "import sys, cifar_export.__main__ as cli; cli.main(['package', '--help'], standalone_mode=False)\n"
    code += "sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "--only NETWORK" in done.stdout) == (0, True), done.stderr
