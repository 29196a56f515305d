"""`cifar-export fetch` and what it stands on, against servers that are slow, broken, stale or hostile."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import Result

import cifar_export.release.use.source
from cifar_export.errors import CifarExportError, GateFailed, InvalidInput, Unavailable
from cifar_export.release.archive import write_archive
from cifar_export.release.layout import DEFAULT_EPOCH, SIGNATURE, SUMS
from cifar_export.release.signer import Signer
from cifar_export.release.sums import files_below, write_sums
from cifar_export.release.use.fetch import difference, fetch
from cifar_export.release.use.source import below
from cifar_export.system.files import sha256_file

from support.releases import fake_release
from support.web_server import Server

NAME = "cifar100_resnet20"
ARCHIVE = f"{NAME}-1.0.0.tar.gz"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release; tests change copies of it."""
    return fake_release(tmp_path_factory.mktemp("made") / "1.0.0")


@pytest.fixture
def release(made: Path, http_server: Server) -> Path:
    """A copy that is served as plain files."""
    shutil.copytree(made, http_server.root, dirs_exist_ok=True)
    return http_server.root


@pytest.fixture
def sha256(release: Path) -> str:
    return sha256_file(release / SUMS)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "new" / "output"


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


def asked(server: Server) -> list[str]:
    return [path for path, _ in server.requests]


def refused(kind: type[CifarExportError], match: str, output: Path, **arguments: object) -> str:
    """It fails like that in a line or two, and leaves nothing."""
    with pytest.raises(kind, match=match) as caught:
        fetch(NAME, output=output, **arguments)
    assert str(caught.value).count("\n") <= 1
    assert not output.exists()
    return str(caught.value)


def test_only_that_network_arrives(http_server: Server, release: Path, sha256: str, output: Path, run: Run) -> None:
    result = run("fetch", NAME, "--release", http_server.url, "--sha256", sha256.upper(), "--output", output, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert {key: document[key] for key in ("network", "version", "folder", "fetched", "sha256", "vouched_by")} == {
        "network": NAME,
        "version": "1.0.0",
        "folder": str(output / NAME),
        "fetched": True,
        "sha256": sha256,
        "vouched_by": ["sha256"],
    }
    assert content(output / NAME) == content(release / NAME)
    assert document["files"] == {name: sha256_file(release / NAME / name) for name in files_below(release / NAME)}
    assert [path.name for path in output.iterdir()] == [NAME]
    assert asked(http_server) == [f"/{SUMS}", f"/{ARCHIVE}"]


def test_the_summary_says_what_was_checked(http_server: Server, sha256: str, output: Path, run: Run) -> None:
    first = run("fetch", NAME, "--release", http_server.url, "--sha256", sha256, "--output", output)
    again = run("fetch", NAME, "--release", http_server.root, "--output", output)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "state    fetched\n" in first.stdout
    assert "origin   has the sha256 given\n" in first.stdout
    assert "state    it was there already, intact\n" in again.stdout
    assert "origin   not checked; the files are intact\n" in again.stdout


def test_the_current_folder_is_the_default(
    http_server: Server, sha256: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fetch(NAME, http_server.url, sha256=sha256).folder == Path(NAME)
    assert (tmp_path / NAME / "model.onnx").is_file()


def test_flat_assets_behind_redirects_are_enough(made: Path, http_server: Server, tmp_path: Path, output: Path) -> None:
    """As GitHub serves a release: top-level files only, each by way of another address."""
    assets = http_server.root / "store"
    assets.mkdir()
    for path in made.iterdir():
        if path.is_file():
            shutil.copy(path, assets)
            http_server.redirects[f"/o/r/releases/download/1.0.0/{path.name}"] = f"/store/{path.name}"
    url = f"{http_server.url}o/r/releases/download/1.0.0"
    assert fetch(NAME, url, sha256=sha256_file(made / SUMS), output=output).fetched
    assert content(output / NAME) == content(made / NAME)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://h/1.0.0", "http://h/1.0.0/f-1.0%2Bcpu.tar.gz"),
        ("http://h/1.0.0//", "http://h/1.0.0/f-1.0%2Bcpu.tar.gz"),
        ("http://h/1.0.0/SHA256SUMS", "http://h/1.0.0/f-1.0%2Bcpu.tar.gz"),
        ("http://h", "http://h/f-1.0%2Bcpu.tar.gz"),
        ("http://h/a%20b?token=x/y#top", "http://h/a%20b/f-1.0%2Bcpu.tar.gz?token=x/y"),
    ],
)
def test_addresses_below_a_release(url: str, address: str) -> None:
    assert below(url, "f-1.0+cpu.tar.gz") == address


def test_a_url_that_nothing_vouches_for_is_refused(http_server: Server, release: Path, output: Path, run: Run) -> None:
    result = run("fetch", NAME, "--release", http_server.url, "--output", output)
    assert result.exit_code == 2
    assert "--sha256" in result.stderr
    assert "--public-key" in result.stderr
    assert http_server.requests == []
    assert not output.exists()


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "0" * 63, "0" * 64 + "\n"])
def test_what_is_no_sha256_is_refused(http_server: Server, text: str, output: Path) -> None:
    refused(InvalidInput, "64 hex digits", output, release=http_server.url, sha256=text)
    assert http_server.requests == []


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc", "http://"])
def test_other_urls_are_refused(url: str, output: Path) -> None:
    refused(InvalidInput, "only http and https", output, release=url, sha256="0" * 64)


def test_a_name_of_no_network(http_server: Server, release: Path, sha256: str, run: Run) -> None:
    result = run("fetch", "resnet20", "--release", http_server.url, "--sha256", sha256)
    assert result.exit_code == 2
    assert "there is no network 'resnet20'. Known networks: cifar10_resnet20, cifar10_resnet32" in result.stderr
    assert http_server.requests == []


def test_a_network_that_this_release_lacks(http_server: Server, release: Path, sha256: str, run: Run) -> None:
    result = run("fetch", "cifar10_resnet56", "--release", http_server.url, "--sha256", sha256, "--json")
    assert result.exit_code == 2
    assert "has no cifar10_resnet56. It has cifar10_resnet20, cifar100_resnet20." in json.loads(result.stdout)["error"]


def test_changed_sums_are_refused(http_server: Server, release: Path, sha256: str, output: Path) -> None:
    (release / NAME / "model.onnx").write_bytes(b"another network")
    write_archive(release / NAME, NAME, release / ARCHIVE, DEFAULT_EPOCH)
    write_sums(release)
    refused(GateFailed, f"sha256 {sha256} expected", output, release=http_server.url, sha256=sha256)
    assert asked(http_server) == [f"/{SUMS}"]


def test_an_older_release_is_refused(http_server: Server, release: Path, sha256: str, output: Path) -> None:
    shutil.rmtree(http_server.root)
    fake_release(http_server.root, (NAME,), "0.9.0")
    refused(GateFailed, "may be another release", output, release=http_server.url, sha256=sha256)


def test_large_sums_are_refused(
    http_server: Server, release: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar_export.release.use.source, "MAX_SUMS", 1000)
    sha256 = sha256_file(release / SUMS)
    refused(Unavailable, "more than 1,000 bytes", output, release=http_server.url, sha256=sha256)


@pytest.mark.parametrize("sums", [b"", b"<html>\n", b"\xff" * 50, b"0" * 64 + b"  ../../x\n"])
def test_sums_that_are_none(http_server: Server, release: Path, sums: bytes, output: Path) -> None:
    """The digest was taken from a broken file: right, and no release all the same."""
    (release / SUMS).write_bytes(sums)
    sha256 = sha256_file(release / SUMS)
    refused(CifarExportError, "SHA256SUMS|no network", output, release=http_server.url, sha256=sha256)


def test_a_missing_page_says_what_the_address_must_be(http_server: Server, output: Path) -> None:
    url = f"{http_server.url}tag/1.0.0"
    refused(Unavailable, "HTTP status 404.*\n.*SHA256SUMS lies", output, release=url, sha256="0" * 64)


def test_an_archive_that_is_missing(http_server: Server, release: Path, sha256: str, output: Path) -> None:
    (release / ARCHIVE).unlink()
    refused(Unavailable, f"{ARCHIVE}: HTTP status 404", output, release=http_server.url, sha256=sha256)


@pytest.mark.parametrize("other", ["cifar10_resnet20-1.0.0.tar.gz", "index.json"])
def test_another_file_in_the_place_of_the_archive(
    http_server: Server, release: Path, sha256: str, output: Path, other: str
) -> None:
    shutil.copy(release / other, release / ARCHIVE)
    refused(GateFailed, f"{ARCHIVE} is not the expected file", output, release=http_server.url, sha256=sha256)


def test_a_server_that_cuts_each_answer_off(http_server: Server, release: Path, sha256: str, output: Path) -> None:
    """It gets there in steps, where ranges are served; else it ends, and goes on another day."""
    http_server.cut_after = 10_000
    assert fetch(NAME, http_server.url, sha256=sha256, output=output).fetched
    assert http_server.ranges_asked[:4] == [None, None, "bytes=10000-", "bytes=20000-"]
    shutil.rmtree(output)
    http_server.ranges = False
    with pytest.raises(Unavailable, match=r"breaks off.*10,000 bytes are kept"):
        fetch(NAME, http_server.url, sha256=sha256, output=output)
    assert sorted(path.name for path in output.iterdir()) == [f"{ARCHIVE}.part", f"{ARCHIVE}.part.json"]
    http_server.cut_after, http_server.ranges = None, True
    http_server.requests.clear()
    assert fetch(NAME, http_server.url, sha256=sha256, output=output).fetched
    assert http_server.ranges_asked == [None, "bytes=10000-"]
    assert [path.name for path in output.iterdir()] == [NAME]


@pytest.mark.parametrize("how", ["file", "link", "folder"])
def test_what_has_the_archives_name_is_not_replaced(
    http_server: Server, sha256: str, output: Path, tmp_path: Path, how: str
) -> None:
    output.mkdir(parents=True)
    mine = output / ARCHIVE
    if how == "file":
        mine.write_text("mine")
    elif how == "link":
        mine.symlink_to(tmp_path / "nowhere")
    else:
        mine.mkdir()
    with pytest.raises(InvalidInput, match="is there already"):
        fetch(NAME, http_server.url, sha256=sha256, output=output)
    assert [path.name for path in output.iterdir()] == [ARCHIVE]
    assert mine.is_dir() if how == "folder" else mine.is_symlink() if how == "link" else mine.read_text() == "mine"


def test_an_archive_that_is_there_already_is_used_and_stays(
    http_server: Server, release: Path, sha256: str, output: Path
) -> None:
    output.mkdir(parents=True)
    shutil.copy(release / ARCHIVE, output)
    (release / ARCHIVE).unlink()
    assert fetch(NAME, http_server.url, sha256=sha256, output=output).fetched
    assert sorted(path.name for path in output.iterdir()) == [NAME, ARCHIVE]


def test_sums_that_always_break_off(http_server: Server, sha256: str, output: Path) -> None:
    http_server.cut_after = 100
    refused(Unavailable, "breaks off", output, release=http_server.url, sha256=sha256)


def test_a_length_that_is_too_small(http_server: Server, sha256: str, output: Path) -> None:
    http_server.length_error = -10
    refused(GateFailed, "expected file", output, release=http_server.url, sha256=sha256)


def test_an_archive_shorter_than_it_was(http_server: Server, release: Path, sha256: str, output: Path) -> None:
    (release / ARCHIVE).write_bytes((release / ARCHIVE).read_bytes()[:-100])
    refused(GateFailed, "expected file", output, release=http_server.url, sha256=sha256)


def test_interrupted_and_taken_up_again(
    http_server: Server, release: Path, sha256: str, output: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[object] = []

    def interrupt(stream: object) -> None:
        synced.append(stream)
        if len(synced) > 1:  # the first is the note of where the part is from
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cifar_export.system.download.os.fsync", interrupt)
        result = run("fetch", NAME, "--release", http_server.url, "--sha256", sha256, "--output", output)
    assert result.exit_code == 130
    assert "what has arrived is kept" in result.stderr
    assert not (output / NAME).exists()
    http_server.requests.clear()
    assert fetch(NAME, http_server.url, sha256=sha256, output=output).fetched
    assert asked(http_server) == [f"/{SUMS}"]  # the archive had arrived
    assert [path.name for path in output.iterdir()] == [NAME]


def test_two_at_once_share_one_download(http_server: Server, release: Path, sha256: str, output: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(fetch, NAME, http_server.url, sha256=sha256, output=output) for _ in range(4)]
    assert sorted(job.result().fetched for job in jobs) == [False, False, False, True]
    assert asked(http_server).count(f"/{ARCHIVE}") == 1
    assert content(output / NAME) == content(release / NAME)
    assert [path.name for path in output.iterdir()] == [NAME]


def test_what_is_there_and_intact_stays(http_server: Server, release: Path, sha256: str, output: Path) -> None:
    fetch(NAME, http_server.url, sha256=sha256, output=output)
    inode = (output / NAME).stat().st_ino
    assert not fetch(NAME, http_server.url, sha256=sha256, output=output).fetched
    assert (output / NAME).stat().st_ino == inode
    assert asked(http_server).count(f"/{ARCHIVE}") == 1


def test_what_killed_processes_left_is_removed(http_server: Server, release: Path, sha256: str, output: Path) -> None:
    ours = [f".0123abcd.tmp.{NAME}", f".4567cdef.tmp..0123abcd.tmp.{NAME}"]
    others = [".0123abcd.tmp.cifar10_resnet20", f".mine.tmp.{NAME}", f".0123abcd.tmp.{NAME}.txt"]
    for name in (*ours, *others):
        (output / name / "inside").mkdir(parents=True)
    fetch(NAME, http_server.url, sha256=sha256, output=output)
    assert sorted(path.name for path in output.iterdir()) == sorted([NAME, *others])


def test_secrets_in_an_address_are_not_repeated(
    http_server: Server, release: Path, sha256: str, output: Path, run: Run
) -> None:
    address = http_server.url.replace("//", "//me:s3cret@") + "?token=hidden"
    place = r"//\.\.\.@127.0.0.1"
    for arguments, expected in (
        ({}, place),
        ({"sha256": "0" * 64}, place),
        ({"sha256": sha256, "release": address.replace("?", "none?")}, place),
        ({"sha256": sha256, "release": address.replace("http", "ftp")}, "not shown: it may hold a password"),
    ):
        said = refused(CifarExportError, expected, output, **{"release": address, **arguments})
        assert "s3cret" not in said
        assert "hidden" not in said
    said = run("fetch", NAME, "--release", address, "--sha256", sha256, "--output", output, "--json").stdout
    assert json.loads(said)["release"] == http_server.url.replace("//", "//...@") + "?..."
    assert {headers["authorization"] for _, headers in http_server.requests} == {"Basic bWU6czNjcmV0"}
    assert http_server.requests[-1][0] == f"/{ARCHIVE}?token=hidden"


@pytest.mark.parametrize("change", ["byte", "extra", "missing", "link", "empty folder", "file", "older"])
def test_what_is_there_and_something_else_stays_too(
    http_server: Server, release: Path, sha256: str, output: Path, change: str, run: Run
) -> None:
    folder = output / NAME
    fetch(NAME, http_server.url, sha256=sha256, output=output)
    if change == "byte":
        (folder / "labels.txt").write_text("mine\n")
    elif change == "extra":
        (folder / "notes.txt").write_text("mine\n")
    elif change == "missing":
        (folder / "labels.txt").unlink()
    elif change == "link":
        (folder / "labels.txt").unlink()
        (folder / "labels.txt").symlink_to(release / NAME / "labels.txt")
    elif change == "empty folder":
        (folder / "mine").mkdir()
    else:
        shutil.rmtree(folder)
        if change == "file":
            folder.write_text("mine\n")
        else:
            shutil.copytree(fake_release(output.parent / "0.9.0", (NAME,), "0.9.0") / NAME, folder)
    before = content(output)
    result = run("fetch", NAME, "--release", http_server.url, "--sha256", sha256, "--output", output)
    assert result.exit_code == 2
    assert "is there already, and is not cifar100_resnet20 of this release" in result.stderr
    assert content(output) == before
    assert asked(http_server).count(f"/{ARCHIVE}") == 1


def test_an_archive_that_the_user_got_is_used_and_left(
    http_server: Server, release: Path, sha256: str, output: Path
) -> None:
    output.mkdir(parents=True)
    shutil.copy(release / ARCHIVE, output)
    assert fetch(NAME, http_server.url, sha256=sha256, output=output).fetched
    assert asked(http_server) == [f"/{SUMS}"]
    assert sorted(path.name for path in output.iterdir()) == [NAME, ARCHIVE]


def test_an_output_that_cannot_be_written(http_server: Server, release: Path, sha256: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidInput, match=r"cannot write .*file/inside"):
        fetch(NAME, http_server.url, sha256=sha256, output=tmp_path / "file" / "inside")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("after", [0, 1])
def test_a_full_disk(
    http_server: Server, release: Path, sha256: str, output: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it downloads, and while it unpacks."""
    real, done = os.fsync, []

    def full(stream: int) -> None:
        done.append(stream)
        if len(done) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(stream)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="No space left on device"):
            fetch(NAME, http_server.url, sha256=sha256, output=output)
    assert not (output / NAME).exists()
    assert fetch(NAME, http_server.url, sha256=sha256, output=output).fetched
    assert [path.name for path in output.iterdir()] == [NAME]


def packed(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with gzip.GzipFile(path, "wb") as zipped, tarfile.open(mode="w", fileobj=zipped) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def hostile(kind: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo({"climbs": f"{NAME}/../../escaped", "absolute": "/tmp/escaped"}.get(kind, f"{NAME}/extra"))
    if kind == "link":
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
    if kind == "device":
        info.type = tarfile.FIFOTYPE
    return info, b"" if kind in ("link", "device") else b"x"


@pytest.mark.parametrize("kind", ["climbs", "absolute", "link", "device", "unlisted"])
def test_a_hostile_archive_that_is_vouched_for(http_server: Server, release: Path, output: Path, kind: str) -> None:
    """Whoever made the release made it so: nothing of it is unpacked."""
    members = []
    with tarfile.open(release / ARCHIVE) as archive:
        for member in archive:
            source = archive.extractfile(member)
            assert source is not None
            members.append((member, source.read()))
    packed(release / ARCHIVE, [*members, hostile(kind)])
    write_sums(release)
    message = refused(GateFailed, "is refused", output, release=http_server.url, sha256=sha256_file(release / SUMS))
    assert "\x1b" not in message
    assert not list(output.parent.parent.rglob("*escaped*"))


def test_an_archive_of_other_files_than_the_release_lists(
    http_server: Server, release: Path, tmp_path: Path, output: Path
) -> None:
    """Intact in itself, and vouched for; but what it holds is not what the same SHA256SUMS says the network is."""
    folder = shutil.copytree(release / NAME, tmp_path / "other")
    (folder / "README.md").write_text("another card\n")
    write_sums(folder)
    write_archive(folder, NAME, release / ARCHIVE, DEFAULT_EPOCH)
    write_sums(release)
    sha256 = sha256_file(release / SUMS)
    refused(
        GateFailed, "is not what the release says.*README.md differs", output, release=http_server.url, sha256=sha256
    )


def test_two_archives_of_one_network(http_server: Server, release: Path, output: Path) -> None:
    shutil.copy(release / ARCHIVE, release / f"{NAME}-0.9.0.tar.gz")
    write_sums(release)
    sha256 = sha256_file(release / SUMS)
    refused(GateFailed, "2 archives", output, release=http_server.url, sha256=sha256)


def test_a_folder_is_verified_first(made: Path, tmp_path: Path, output: Path) -> None:
    release = shutil.copytree(made, tmp_path / "1.0.0")
    assert fetch(NAME, release, output=output).source.vouched == ()
    assert content(output / NAME) == content(made / NAME)
    assert fetch(NAME, str(release), sha256=sha256_file(release / SUMS), output=output).source.vouched == ("sha256",)
    shutil.rmtree(output)
    refused(GateFailed, "sha256", output, release=release, sha256="0" * 64)
    (release / "cifar10_resnet20" / "labels.txt").write_text("another\n")  # not even of the network asked for
    refused(GateFailed, "cifar10_resnet20/labels.txt", output, release=release)


def test_folders_that_are_no_release(made: Path, tmp_path: Path, output: Path) -> None:
    refused(InvalidInput, "is not the folder of a release", output, release=tmp_path / "none")
    refused(InvalidInput, "is not the folder of a release", output, release=made / ARCHIVE)
    refused(InvalidInput, "it has no SHA256SUMS", output, release=tmp_path)
    refused(InvalidInput, "Name a release", output, release=made / NAME)


def test_difference_opens_no_pipe(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / NAME, tmp_path / NAME)
    files = {name: sha256_file(folder / name) for name in files_below(folder)}
    assert difference(folder, files) == ""
    (folder / "labels.txt").unlink()
    os.mkfifo(folder / "labels.txt")
    assert difference(folder, files) == "labels.txt is not a regular file"
    (tmp_path / "link").symlink_to(made / NAME)
    assert difference(tmp_path / "link", files) == "it is not a folder"


class TestSigned:
    """A URL with the maker's key instead of a sha256."""

    @pytest.fixture(autouse=True)
    def _signed(self, release: Path, tmp_path: Path) -> None:
        pytest.importorskip("model_signing", reason="needs the sign extra")
        from cifar_export.release.sign import sign_release

        from support.keys import write_keys

        self.private, self.public = write_keys(tmp_path, "maker")
        self.signer = Signer(self.public)
        sign_release(release, self.private)

    def test_a_valid_signature_is_enough(self, http_server: Server, release: Path, output: Path, run: Run) -> None:
        result = run("fetch", NAME, "--release", http_server.url, "--public-key", self.public, "--output", output)
        assert result.exit_code == 0, result.stderr
        assert f"signed by {self.public}" in result.stdout.replace("\n", "")
        assert content(output / NAME) == content(release / NAME)

    def test_both_must_hold(self, http_server: Server, release: Path, sha256: str, output: Path) -> None:
        both = fetch(NAME, http_server.url, sha256=sha256, signer=self.signer, output=output)
        assert both.source.vouched == ("sha256", "signature")
        shutil.rmtree(output)
        refused(GateFailed, "is signed, but", output, release=http_server.url, sha256="0" * 64, signer=self.signer)

    def test_another_key(self, http_server: Server, tmp_path: Path, output: Path) -> None:
        from support.keys import write_keys

        _, other = write_keys(tmp_path, "other")
        refused(GateFailed, "not valid", output, release=http_server.url, signer=Signer(other))

    def test_no_signature(self, http_server: Server, release: Path, output: Path) -> None:
        (release / SIGNATURE).unlink()
        refused(GateFailed, "is not signed", output, release=http_server.url, signer=self.signer)
        refused(GateFailed, "is not signed", output, release=release, signer=self.signer)

    def test_sums_changed_since(self, http_server: Server, release: Path, output: Path) -> None:
        (release / NAME / "labels.txt").write_text("another\n")
        write_sums(release / NAME)
        write_archive(release / NAME, NAME, release / ARCHIVE, DEFAULT_EPOCH)
        write_sums(release)
        refused(GateFailed, "not the expected file", output, release=http_server.url, signer=self.signer)

    def test_an_older_release_of_the_same_maker(
        self, http_server: Server, release: Path, tmp_path: Path, output: Path
    ) -> None:
        """The key vouches for it, so it arrives under its own version; a sha256 tells them apart."""
        from cifar_export.release.sign import sign_release

        sha256 = sha256_file(release / SUMS)
        shutil.rmtree(http_server.root)
        sign_release(fake_release(http_server.root, (NAME,), "0.9.0"), self.private)
        refused(GateFailed, "signed, but", output, release=http_server.url, sha256=sha256, signer=self.signer)
        assert fetch(NAME, http_server.url, signer=self.signer, output=output).version == "0.9.0"

    def test_a_local_release(self, release: Path, output: Path) -> None:
        assert fetch(NAME, release, signer=self.signer, output=output).source.vouched == ("signature",)

    def test_a_key_that_is_not_there(self, http_server: Server, tmp_path: Path, output: Path) -> None:
        refused(InvalidInput, "none.pub", output, release=http_server.url, signer=Signer(tmp_path / "none.pub"))
        assert http_server.requests == []

    def test_keyless_is_another_kind(self, http_server: Server, output: Path) -> None:
        keyless = Signer(
            identity="https://github.com/o/r/.github/workflows/release.yml@refs/tags/1", issuer="https://i"
        )
        refused(GateFailed, "not keyless", output, release=http_server.url, signer=keyless)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--identity", "me"], "belong together"),
        (["--issuer", "https://i"], "belong together"),
        (["--public-key", "KEY", "--identity", "me", "--issuer", "https://i"], "two ways"),
    ],
)
def test_one_signer(options: list[str], said: str, output: Path, run: Run) -> None:
    result = run("fetch", NAME, "--release", "http://127.0.0.1:9", "--output", output, *options)
    assert result.exit_code == 2
    assert said in result.stderr
