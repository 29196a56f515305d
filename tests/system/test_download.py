"""Downloads from a server of our own on 127.0.0.1, well-behaved and not."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cifar_export.system.download
from cifar_export.errors import GateFailed, InvalidInput, Unavailable
from cifar_export.system.download import download, read_url

from support.web_server import Server

DATA = bytes(range(256)) * 4000  # 1,024,000 bytes: several blocks
SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture
def url(http_server: Server) -> str:
    (http_server.root / "file.bin").write_bytes(DATA)
    return f"{http_server.url}file.bin"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "file.bin"


def listing(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def part_of(target: Path, content: bytes, **state: str) -> Path:
    """Leave `content` as an earlier run would have."""
    target.parent.mkdir(exist_ok=True)
    part = target.with_name("file.bin.part")
    part.write_bytes(content)
    target.with_name("file.bin.part.json").write_text(json.dumps({"url": "", "validator": ""} | state))
    return part


@pytest.mark.parametrize(
    "digests",
    [
        {"md5": MD5},
        {"sha256": SHA256},
        {"sha256_prefix": SHA256[:8]},
        {"sha256": SHA256.upper(), "md5": MD5, "sha256_prefix": SHA256[:2]},
    ],
)
def test_arrives_whole_and_alone(url: str, target: Path, digests: dict[str, str]) -> None:
    assert download(url, target, **digests) == target
    assert target.read_bytes() == DATA
    assert listing(target) == ["file.bin"]


def test_progress_runs_from_nothing_to_everything(url: str, target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    download(url, target, sha256=SHA256, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    assert sorted(seen) == seen
    assert len(seen) > 3


def test_what_is_there_is_not_downloaded_again(url: str, target: Path, http_server: Server) -> None:
    download(url, target, sha256=SHA256)
    download(url, target, sha256_prefix=SHA256[:8])
    assert len(http_server.requests) == 1


def test_another_file_of_that_name_is_replaced(url: str, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"older")
    with target.open("rb") as reader:
        download(url, target, sha256=SHA256)
        assert reader.read() == b"older"  # by rename: who reads it meanwhile is not disturbed
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("digests", [{"md5": "0" * 32}, {"sha256": "0" * 64}, {"sha256_prefix": "0000", "md5": MD5}])
def test_a_wrong_digest_leaves_the_older_file_and_no_part(url: str, target: Path, digests: dict[str, str]) -> None:
    target.parent.mkdir()
    target.write_bytes(b"older")
    with pytest.raises(GateFailed, match=r"0000.* expected, [0-9a-f]+ found") as caught:
        download(url, target, **digests)
    assert url in str(caught.value)
    assert target.read_bytes() == b"older"
    assert listing(target) == ["file.bin"]


def test_no_digest_is_a_mistake_of_the_caller(url: str, target: Path, http_server: Server) -> None:
    with pytest.raises(ValueError, match="digest"):
        download(url, target)
    assert http_server.requests == []


@pytest.mark.parametrize(
    "bad", ["ftp://127.0.0.1/x", "file:///etc/hostname", "data:,x", "//host/x", "https://", "http://[x", "http://h:x/"]
)
def test_only_http(bad: str, target: Path) -> None:
    with pytest.raises(InvalidInput, match="only http and https"):
        download(bad, target, sha256=SHA256)
    assert not target.parent.exists()


def test_redirects_are_followed(url: str, target: Path, http_server: Server) -> None:
    http_server.redirects = {"/a": "/b", "/b": url}
    download(f"{http_server.url}a", target, sha256=SHA256)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize(("redirects", "arrives"), [(5, True), (6, False)])
def test_so_many_redirects_are_followed(
    redirects: int, arrives: bool, url: str, target: Path, http_server: Server
) -> None:
    http_server.redirects = {f"/{i}": f"/{i + 1}" for i in range(redirects)} | {f"/{redirects - 1}": url}
    with contextlib.nullcontext() if arrives else pytest.raises(Unavailable, match="too many redirects"):
        download(f"{http_server.url}0", target, sha256=SHA256)
    assert target.exists() is arrives


@pytest.mark.parametrize("to", ["/loop", "file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_redirects_that_lead_nowhere(to: str, target: Path, http_server: Server) -> None:
    http_server.redirects = {"/loop": to}
    with pytest.raises(Unavailable, match="/loop"):
        download(f"{http_server.url}loop", target, sha256=SHA256)
    assert listing(target) == []


def test_a_missing_page_is_not_asked_for_again(target: Path, http_server: Server) -> None:
    with pytest.raises(Unavailable, match=r"HTTP status 404.\nCheck that address; or go to B\."):
        download(f"{http_server.url}none", target, sha256=SHA256, hint="or go to B")
    assert len(http_server.requests) == 1


def test_a_busy_server_is_asked_again(url: str, target: Path, http_server: Server) -> None:
    http_server.statuses = [503, 429, 500]
    download(url, target, sha256=SHA256)
    assert target.read_bytes() == DATA


def test_a_server_that_stays_busy_is_given_up(url: str, target: Path, http_server: Server) -> None:
    http_server.statuses = [503] * 50
    with pytest.raises(Unavailable, match="503"):
        download(url, target, sha256=SHA256)
    assert len(http_server.requests) == cifar_export.system.download.MAX_TRIES


def test_no_network_names_the_host(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_export.system.http.BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(Unavailable, match=r"no\.such\.host\.invalid can't be resolved") as caught:
        download("https://no.such.host.invalid/x", target, sha256=SHA256, hint="or use B")
    assert str(caught.value).endswith("or use B.")
    assert str(caught.value).count("\n") == 1


def test_nobody_listens(url: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr("cifar_export.system.http.BACKOFF_SECONDS", 0.0)
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match=r"no connection to 127\.0\.0\.1"):
            download(f"http://127.0.0.1:{taken.getsockname()[1]}/x", target, sha256=SHA256)


def test_a_silent_server_times_out(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr("cifar_export.system.http.BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr("cifar_export.system.download.MAX_TRIES", 1)
    monkeypatch.setattr("cifar_export.system.http.MAX_TRIES", 1)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(Unavailable, match="does not answer in time"):
            download(f"http://127.0.0.1:{silent.getsockname()[1]}/x", target, sha256=SHA256, timeout=0.05)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_broken_off_body_is_continued(url: str, target: Path, http_server: Server, chunked: bool) -> None:
    http_server.cut_after, http_server.cuts, http_server.chunked = 300_000, 2, chunked
    seen: list[int] = []
    download(url, target, sha256=SHA256, progress=lambda done, _: seen.append(done))
    assert target.read_bytes() == DATA
    assert http_server.ranges_asked == [None, "bytes=300000-", "bytes=600000-"]
    assert sorted(seen) == seen


def test_a_server_without_ranges_starts_over(url: str, target: Path, http_server: Server) -> None:
    http_server.ranges, http_server.cut_after, http_server.cuts = False, 300_000, 1
    download(url, target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert http_server.ranges_asked == [None, "bytes=300000-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_always_breaks_off_is_given_up_and_the_part_kept(
    url: str, target: Path, http_server: Server, ranges: bool
) -> None:
    http_server.cut_after, http_server.ranges = 1000, False
    with pytest.raises(Unavailable, match=r"breaks off.*1,000 bytes are kept"):
        download(url, target, sha256=SHA256)
    assert len(http_server.requests) <= cifar_export.system.download.MAX_TRIES + 1
    assert listing(target) == ["file.bin.part", "file.bin.part.json"]
    http_server.cut_after, http_server.ranges = None, ranges
    http_server.requests.clear()
    download(url, target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert http_server.ranges_asked == ["bytes=1000-"]
    assert listing(target) == ["file.bin"]


def test_a_drip_of_bytes_has_an_end(url: str, target: Path, http_server: Server) -> None:
    http_server.cut_after = 1
    with pytest.raises(Unavailable, match="breaks off"):
        download(url, target, sha256=SHA256)
    assert len(http_server.requests) == cifar_export.system.download.MAX_REQUESTS


def test_going_on_names_the_version(url: str, target: Path, http_server: Server) -> None:
    part_of(target, DATA[:500], url=url, validator='"1"')
    download(url, target, sha256=SHA256)
    assert [(h.get("range"), h.get("if-range")) for _, h in http_server.requests] == [("bytes=500-", '"1"')]


@pytest.mark.parametrize(
    ("etag", "modified", "sent"),
    [
        ('"1"', "Sun, 06 Nov 1994 08:49:37 GMT", '"1"'),
        ('W/"1"', "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ('W/"1"', "", None),
        ("", "", None),
    ],
)
def test_only_a_strong_etag_or_a_date_names_the_version(
    url: str, target: Path, http_server: Server, etag: str, modified: str, sent: str | None
) -> None:
    """RFC 9110, 13.1.5: a weak one may stay the same over a change; then the digest alone decides."""
    http_server.etag, http_server.modified = etag, modified
    http_server.cut_after, http_server.cuts = 300_000, 1
    download(url, target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert [headers.get("if-range") for _, headers in http_server.requests][1:] == [sent]


def test_a_file_that_changed_meanwhile_is_taken_from_its_start(url: str, target: Path, http_server: Server) -> None:
    part_of(target, b"old" * 100, url=url, validator='"0"')
    download(url, target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert len(http_server.requests) == 1  # the server itself said so


@pytest.mark.parametrize("state", [{}, {"url": "http://other.invalid/file.bin", "validator": '"0"'}])
def test_a_part_of_unknown_origin_is_dropped_when_it_turns_out_wrong(
    url: str, target: Path, state: dict[str, str]
) -> None:
    part_of(target, b"another file's beginning", **state)
    download(url, target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert listing(target) == ["file.bin"]


def test_a_part_from_a_mirror_goes_on_here(url: str, target: Path, http_server: Server) -> None:
    part_of(target, DATA[:1000], url="http://mirror.invalid/file.bin", validator='"other"')
    download(url, target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert [(h["range"], h.get("if-range")) for _, h in http_server.requests] == [("bytes=1000-", None)]


@pytest.mark.parametrize("error", [-1, 1])
def test_a_server_that_sends_another_range_is_not_believed(
    url: str, target: Path, http_server: Server, error: int
) -> None:
    http_server.cut_after, http_server.cuts, http_server.range_error = 1000, 1, error
    download(url, target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert http_server.ranges_asked == [None, "bytes=1000-", None]


def test_a_complete_part_needs_no_network(target: Path) -> None:
    part_of(target, DATA)
    download("http://no.such.host.invalid/file.bin", target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert listing(target) == ["file.bin"]


@pytest.mark.parametrize("extra", [0, 1])
def test_a_part_longer_than_the_file(url: str, target: Path, http_server: Server, extra: int) -> None:
    part_of(target, b"x" * (len(DATA) + extra))
    download(url, target, sha256=SHA256)
    assert target.read_bytes() == DATA


def test_a_length_that_is_too_great(url: str, target: Path, http_server: Server) -> None:
    http_server.length_error = 10  # the bytes are right all the same, and nothing is missing
    download(url, target, sha256=SHA256)
    assert target.read_bytes() == DATA


def test_a_length_that_is_too_small(url: str, target: Path, http_server: Server) -> None:
    http_server.length_error = -10
    with pytest.raises(GateFailed, match="1,023,990 bytes"):
        download(url, target, sha256=SHA256)
    assert listing(target) == []


def test_too_many_bytes_are_refused_before_they_fill_the_disk(url: str, target: Path, http_server: Server) -> None:
    with pytest.raises(Unavailable, match="more than 1,000 bytes"):
        download(url, target, sha256=SHA256, max_bytes=1000)
    http_server.chunked = True  # without a length
    with pytest.raises(Unavailable, match="more than 300,000 bytes"):
        download(url, target, sha256=SHA256, max_bytes=300_000)
    assert listing(target) == []


def test_a_full_disk_keeps_what_arrived(url: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    class Full:
        """A stream onto a disk with room for one block."""

        def __init__(self, stream: Any) -> None:
            self.stream, self.room = stream, cifar_export.system.download.BLOCK

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.close()

        def write(self, block: bytes) -> None:
            self.room -= len(block)
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.stream.write(block)

    def open_(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        stream = real(path, mode, *args, **kwargs)
        return Full(stream) if path.name.endswith(".part") and mode in ("wb", "ab") else stream

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_)
        with pytest.raises(Unavailable, match="No space left on device"):
            download(url, target, sha256=SHA256)
    part = target.with_name("file.bin.part")
    assert part.read_bytes() == DATA[: cifar_export.system.download.BLOCK]
    assert not target.exists()
    download(url, target, sha256=SHA256)
    assert target.read_bytes() == DATA


def test_ctrl_c_keeps_what_arrived(url: str, target: Path, http_server: Server) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(url, target, sha256=SHA256, progress=interrupt)
    assert target.with_name("file.bin.part").read_bytes() == DATA[: cifar_export.system.download.BLOCK]
    download(url, target, sha256=SHA256)
    assert http_server.ranges_asked == [None, f"bytes={cifar_export.system.download.BLOCK}-"]
    assert listing(target) == ["file.bin"]


def test_an_unwritable_folder(url: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)  # the superuser, who runs tests in containers, may write everywhere
    with pytest.raises(InvalidInput, match="Permission denied"):
        download(url, target, sha256=SHA256)


def test_a_folder_that_is_a_file(url: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InvalidInput, match="taken"):
        download(url, tmp_path / "taken" / "file.bin", sha256=SHA256)


def test_several_at_once_download_once(url: str, target: Path, http_server: Server) -> None:
    together = threading.Barrier(4)

    def one(_: int) -> Path:
        together.wait(10)
        return download(url, target, sha256=SHA256)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == [target] * 4
    assert target.read_bytes() == DATA
    assert len(http_server.requests) == 1
    assert listing(target) == ["file.bin"]


def test_a_lock_that_stays_is_named(url: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_export.system.download.LOCK_SECONDS", 0.0)

    def meanwhile(done: int, total: int | None) -> None:
        with pytest.raises(Unavailable, match="another process"):
            download(url, target, sha256=SHA256)

    download(url, target, sha256=SHA256, progress=meanwhile)


def test_a_proxy_of_the_environment_is_used(
    url: str, target: Path, http_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("http_proxy", f"http://me:se%40cret@127.0.0.1:{http_server.port}")
    http_server.redirects = {"http://behind.invalid/x": "http://behind.invalid/y"}
    http_server.statuses = []
    with pytest.raises(Unavailable, match="404"):
        download("http://behind.invalid/x", target, sha256=SHA256)
    assert [path for path, _ in http_server.requests] == ["http://behind.invalid/x", "http://behind.invalid/y"]
    assert http_server.requests[0][1]["proxy-authorization"] == "Basic bWU6c2VAY3JldA=="


def with_secrets(url: str) -> str:
    return url.replace("//", "//me:se%40cret@") + "?token=hidden"


def test_secrets_in_a_url_are_used_and_not_repeated(url: str, target: Path, http_server: Server) -> None:
    address = with_secrets(url)
    said = []
    for wanted, cut in (("0" * 64, None), (SHA256, 0), (SHA256, 5000)):
        http_server.cut_after = cut
        with pytest.raises((GateFailed, Unavailable)) as caught:
            download(address, target, sha256=wanted)
        said.append(str(caught.value))
    http_server.cut_after = None
    said.append(target.with_name("file.bin.part.json").read_text())
    for text in said:
        assert "//...@127.0.0.1" in text
        assert "cret" not in text
        assert "hidden" not in text
    assert {headers["authorization"] for _, headers in http_server.requests} == {"Basic bWU6c2VAY3JldA=="}
    assert http_server.requests[-1][0] == "/file.bin?token=hidden"
    download(address, target, sha256=SHA256)  # goes on: the part is known to be of that address
    assert http_server.requests[-1][1]["if-range"] == '"1"'


@pytest.mark.parametrize(
    "url",
    [
        "ftp://me:se@cret@host/x",
        "http://me:secret@host:port/",
        "http://me:secret@/",
        "http://me:se cret@host/",
        "http://host/?token=se cret",
        "http://me:pa/secret@host/",
        "http://me:pa#secret@host/",
        "http://me:pa?secret@host/",
        "http:/me:secret@host/",
    ],
)
def test_secrets_in_a_url_that_is_refused(url: str, target: Path) -> None:
    with pytest.raises(InvalidInput, match="not shown") as caught:
        download(url, target, sha256=SHA256)
    assert "cret" not in str(caught.value)


def test_a_login_is_sent_as_utf_8(url: str, target: Path, http_server: Server) -> None:
    download(url.replace("//", "//me:%E2%82%AC@"), target, sha256=SHA256)
    (headers,) = (headers for _, headers in http_server.requests)
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode() == "me:€"


@pytest.mark.parametrize("suffix", [".part", ".part.json"])
def test_a_link_in_the_place_of_the_part_is_not_written_through(
    url: str, target: Path, http_server: Server, suffix: str
) -> None:
    precious = target.parent.parent / "precious"
    precious.write_text("precious")
    target.parent.mkdir(exist_ok=True)
    target.with_name(f"{target.name}{suffix}").symlink_to(precious)
    with pytest.raises(InvalidInput, match="is not a regular file, and is where the download must go"):
        download(url, target, sha256=SHA256)
    assert precious.read_text() == "precious"
    assert http_server.requests == []


@pytest.mark.parametrize("to", ["http://[::1", "http://a\x1b[31mb/"])
def test_a_redirect_to_what_is_no_address(to: str, target: Path, http_server: Server) -> None:
    http_server.redirects = {"/a": to}
    with pytest.raises(Unavailable, match="/a"):
        download(f"{http_server.url}a", target, sha256=SHA256)
    assert listing(target) == []


def test_a_length_of_thousands_of_digits(url: str, target: Path, http_server: Server) -> None:
    http_server.length = "9" * 5000
    assert download(url, target, sha256=SHA256).read_bytes() == DATA


def test_a_server_that_has_nothing_of_an_empty_range(url: str, target: Path, http_server: Server) -> None:
    http_server.statuses = [416] * 50
    with pytest.raises(Unavailable, match="ranges"):
        download(url, target, sha256=SHA256)
    assert listing(target) == []


def test_secrets_stay_with_the_host_that_they_are_for(url: str, target: Path, http_server: Server) -> None:
    http_server.redirects = {"/a": f"http://localhost:{http_server.port}/file.bin"}
    download(with_secrets(f"{http_server.url}a").removesuffix("?token=hidden"), target, sha256=SHA256)
    assert ["authorization" in headers for _, headers in http_server.requests] == [True, False]


def test_a_login_does_not_hide_the_host_from_no_proxy(
    url: str, target: Path, http_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert download(with_secrets(url), target, sha256=SHA256) == target


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=3000), cut=st.integers(1, 3000), start=st.integers(0, 3000), ranges=st.booleans())
def test_any_interruption_ends_in_the_same_bytes(
    http_server: Server, tmp_path: Path, data: bytes, cut: int, start: int, ranges: bool
) -> None:
    """Whatever was there before, wherever it breaks off twice: the file is the server's, and nothing else is left."""
    (http_server.root / "any").write_bytes(data)
    http_server.cut_after, http_server.cuts, http_server.ranges = cut, 2, ranges
    folder = tmp_path / "any"
    folder.mkdir(exist_ok=True)
    (folder / "any.part").write_bytes(data[:start])
    (folder / "any.part.json").write_text('{"url": "", "validator": ""}')
    path = download(f"{http_server.url}any", folder / "any", sha256=hashlib.sha256(data).hexdigest())
    assert path.read_bytes() == data
    assert [entry.name for entry in folder.iterdir()] == ["any"]
    path.unlink()


def test_a_small_file_is_read_into_memory(url: str, http_server: Server) -> None:
    http_server.redirects = {"/a": url}
    http_server.statuses = [503]
    assert read_url(f"{http_server.url}a", max_bytes=len(DATA)) == DATA


def test_a_small_file_that_breaks_off_is_asked_for_again(url: str, http_server: Server) -> None:
    http_server.cut_after, http_server.cuts = 1000, 1
    assert read_url(url, max_bytes=len(DATA)) == DATA
    http_server.cuts = None
    with pytest.raises(Unavailable, match=r"breaks off.*\n.*; or go to B\."):
        read_url(url, max_bytes=len(DATA), hint="or go to B")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_small_file_that_is_large_is_refused(url: str, http_server: Server, chunked: bool) -> None:
    http_server.chunked = chunked
    with pytest.raises(Unavailable, match="more than 1,023,999 bytes"):
        read_url(url, max_bytes=len(DATA) - 1)


def test_a_small_file_that_is_missing(http_server: Server) -> None:
    with pytest.raises(Unavailable, match="HTTP status 404"):
        read_url(f"{http_server.url}none", max_bytes=10)
    with pytest.raises(InvalidInput, match="only http and https"):
        read_url("file:///etc/hostname", max_bytes=10)
