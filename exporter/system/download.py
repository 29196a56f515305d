"""Fetch one file over HTTP: resumable, checked against a digest that is known beforehand, and whole or not there.

urllib3 does the protocol (redirects, retries with back-off, time-outs, bodies shorter than announced); it has no
dependencies of its own. What is here is what neither it nor requests nor pooch has: going on with a half file.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from ..errors import CifarExportError, GateFailed, InvalidInput, Unavailable, from_os_error
from .files import require_target, write_atomically
from .folders import cache_folder as cache_folder
from .http import (
    CHECK_ADDRESS,
    CHECK_NETWORK,
    MAX_TRIES,
    NotFound,
    check_url,
    describe,
    response_to,
    unavailable,
    without_secrets,
)
from .locks import clear_lock, lock_beside, only_one
from .outside import read_regular
from .pace import TooSlow, paced

if TYPE_CHECKING:
    import urllib3

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there so far and the total, or None where the server does not say."""

Digests = list[tuple[str, str]]
"""Pairs of an algorithm and the hex digest, or its beginning, that is expected."""

BLOCK = 1 << 14
"""Bytes that are waited for at once: at the lowest rate that is endured they take 16 seconds."""
MAX_REQUESTS = 100
LOCK_SECONDS = 600.0
DEADLINE_SECONDS = 6 * 3600.0
"""For a whole download; the largest archive takes as long at 8,000 bytes a second."""
SMALL_SECONDS = 300.0
"""For a file that is read into memory."""


def download(
    url: str,
    destination: Path,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    sha256_prefix: str | None = None,
    progress: Progress | None = None,
    timeout: float = 30.0,
    max_bytes: int = 1 << 30,
    hint: str = "",
    noted: bool = False,
) -> Path:
    """Get `url` into `destination` and return that path; a file there that already matches is left as it is.

    At least one digest (hex) is needed, and all that are given must match before the file appears under its name, by
    rename; else the bytes are dropped and an older `destination` stays. What arrives is kept beside it, as
    `<name>.part`, across failures of the network, a full disk and Ctrl-C, and the next call goes on from there: `Range`
    with `If-Range`, so that a file that changed meanwhile is taken from its start, as it is from a server that ignores
    ranges. Only one process at a time works on a destination; a second one waits for the first one's result.

    `timeout` is in seconds, per connection attempt and per pause of the server; `pace` says what else is too slow. More
    than `max_bytes` are refused. `hint` is what to do without a network, appended to that message. With `noted` the
    note that the bytes are ours stays beside them: for `borrowed`.

    Raises `Unavailable` (no network, server errors, a full disk), `GateFailed` (a digest differs) and `InvalidInput`
    (a URL other than http and https, a destination that can't be written). Proxies are taken from the environment.
    """
    given = (("sha256", sha256), ("sha256", sha256_prefix), ("md5", md5))
    digests = [(name, digest) for name, digest in given if digest]
    if not digests:
        raise ValueError("download() needs a digest: md5, sha256 or sha256_prefix")
    check_url(url)
    transfer = _Transfer(url, destination, progress, timeout, max_bytes, hint, noted)
    try:
        if destination.is_file() and not _mismatch(destination, digests, max_bytes):
            transfer.settle()
            clear_lock(lock_beside(destination))
            return destination
        require_target(destination)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with one_download(destination):
            # else another process was quicker
            if not destination.is_file() or _mismatch(destination, digests, max_bytes):
                _fetch_and_check(transfer, digests)
        return destination
    except OSError as error:
        raise from_os_error(error, f"write {destination}") from error


@contextlib.contextmanager
def borrowed(url: str, destination: Path, *, ours: bool = False, keep: bool = False, **more: Any) -> Iterator[Path]:
    """`download` for the time of the block: afterwards the file is gone, unless somebody had put it there.

    With `ours` whatever stands there goes. With `keep` a failure leaves the file, and a note that it is ours, for the
    next call, as a killed process does. Raises what `download` raises.
    """
    theirs = not ours and is_theirs(destination)
    path = download(url, destination, noted=True, **more)
    try:
        yield path
    except BaseException:
        if not keep:
            _give_back(path, theirs)
        raise
    _give_back(path, theirs)


def _give_back(path: Path, theirs: bool) -> None:
    with contextlib.suppress(OSError):  # it served its purpose; the next one removes it
        if not theirs:
            path.unlink(missing_ok=True)
        _Transfer("", path).settle()


def is_theirs(destination: Path) -> bool:
    """Whether something stands at `destination` that is not left of a `borrowed` that was killed."""
    transfer = _Transfer("", destination)
    left = transfer.known() is not None and not os.path.lexists(transfer.part)  # else the note is about the part
    return os.path.lexists(destination) and not left


def clear_borrowed(destination: Path) -> None:
    """Remove what is left of a `borrowed` that was killed, part or whole. What can't be removed stays."""
    transfer = _Transfer("", destination)
    if transfer.known() is not None:
        with contextlib.suppress(OSError, CifarExportError), one_download(destination, seconds=0):
            if not is_theirs(destination):
                destination.unlink(missing_ok=True)
            transfer.forget()
    clear_lock(lock_beside(destination))


def read_url(url: str, *, max_bytes: int, timeout: float = 30.0, hint: str = "") -> bytes:
    """The small file at `url`, in memory. Nobody vouches for it: the caller checks a digest or a signature.

    `timeout` and `hint` as in `download`; a body that breaks off is asked for again. Raises `Unavailable` (no network,
    server errors, more than `max_bytes`), its kind `NotFound` (404, 410), and `InvalidInput` (neither http nor https).
    """
    from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

    check_url(url)
    host, failure = str(urlsplit(url).hostname), ""
    for _ in range(MAX_TRIES):
        try:
            with response_to(url, timeout) as response:
                if response.status != 200:
                    kind = NotFound if response.status in (404, 410) else Unavailable
                    raise unavailable(url, f"HTTP status {response.status}", CHECK_ADDRESS, hint, kind=kind)
                data = b""
                with paced(response, SMALL_SECONDS) as moved:
                    for block in response.stream(BLOCK, decode_content=False):
                        data += block
                        moved(len(block))
                        if len(data) > max_bytes:
                            raise unavailable(url, f"it has more than {max_bytes:,} bytes", CHECK_ADDRESS, hint)
                return data
        except TooSlow as error:
            raise unavailable(url, f"{host} {error}", CHECK_NETWORK, hint) from error
        except (ProtocolError, ReadTimeoutError) as error:  # in the middle of the body
            failure = describe(error, host)
        except HTTPError as error:
            raise unavailable(url, describe(error, host), CHECK_NETWORK, hint) from error
    raise unavailable(url, failure, CHECK_NETWORK, hint)


def _mismatch(path: Path, digests: Digests, max_bytes: int) -> str:
    """Return "" when the file at `path` is the right one, else which digest was expected and found.

    One of more than `max_bytes` is not read: a sparse file of terabytes takes no room and hours.
    """
    if path.stat().st_size > max_bytes:
        return f"at most {max_bytes:,} bytes expected, {path.stat().st_size:,} found"
    for name, expected in digests:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, name).hexdigest()
        if not found.startswith(expected.lower()):
            return f"{name} {expected} expected, {found} found ({path.stat().st_size:,} bytes)"
    return ""


def _fetch_and_check(transfer: _Transfer, digests: Digests) -> None:
    """Complete the part file and rename it; bytes left by an earlier run that turn out wrong are fetched anew, once."""
    for path in (transfer.part, transfer.state):
        if os.path.lexists(path) and not (path.is_file() and not path.is_symlink()):
            raise InvalidInput(f"{path} is not a regular file, and is where the download must go. Move it away.")
    if os.path.lexists(transfer.state) and transfer.known() is None:
        raise InvalidInput(f"{transfer.state} is not ours, and is where the download keeps its notes. Move it away.")
    went_on = transfer.size > 0
    if went_on and transfer.known() is None:
        raise InvalidInput(f"{transfer.part} is not a part of ours, and is where the download must go. Move it away.")
    problem = _mismatch(transfer.part, digests, transfer.max_bytes) if went_on else "nothing is there"
    if problem:
        transfer.run()
        problem = _mismatch(transfer.part, digests, transfer.max_bytes)
    if problem and went_on:
        transfer.forget()
        transfer.run()
        problem = _mismatch(transfer.part, digests, transfer.max_bytes)
    if problem:
        transfer.forget()
        raise GateFailed(
            f"{without_secrets(transfer.url)} is not the expected file: {problem}.\n"
            "It was removed. Run this again; if that doesn't help, the server or something between is at fault."
        )
    transfer.part.replace(transfer.destination)
    transfer.settle()


@dataclass(frozen=True)
class _Transfer:
    """One URL on its way into one part file."""

    url: str
    destination: Path
    progress: Progress | None = None
    timeout: float = 30.0
    max_bytes: int = 1 << 30
    hint: str = ""
    noted: bool = False

    @property
    def part(self) -> Path:
        return self.destination.with_name(f"{self.destination.name}.part")

    @property
    def state(self) -> Path:
        """What is known about the part: the URL it is from, without secrets, and its ETag."""
        return self.destination.with_name(f"{self.destination.name}.part.json")

    def forget(self) -> None:
        """Remove the part file and what is known about it."""
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def settle(self) -> None:
        """Remove the note about a file that is complete, if it is ours and not wanted: a killed process leaves it."""
        if not self.noted and self.known() is not None:
            self.state.unlink(missing_ok=True)

    def run(self) -> None:
        """Request until the body is complete: each request goes on where the one before was cut off."""
        from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

        host = str(urlsplit(self.url).hostname)
        most, tries, failure = self.size, 0, ""
        deadline = time.monotonic() + DEADLINE_SECONDS
        for _ in range(MAX_REQUESTS):
            try:
                if self._request(deadline - time.monotonic()):
                    return
                failure = f"{host} does not answer ranges properly"
            except TooSlow as error:
                raise self._unavailable(f"{host} {error}") from error
            except (ProtocolError, ReadTimeoutError) as error:  # in the middle of the body
                failure = describe(error, host)
            except HTTPError as error:
                raise self._unavailable(describe(error, host)) from error
            most, tries = (size, 0) if (size := self.size) > most else (most, tries + 1)
            if tries == MAX_TRIES:
                break
        raise self._unavailable(failure)

    def _request(self, seconds: float) -> bool:
        """Make one request and append what comes; True when the body is complete.

        Raises urllib3's HTTPError, and `TooSlow`, also where the body takes more than so many `seconds`.
        """
        offset = self.size
        ranges = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and (validator := self._validator()):
            ranges["If-Range"] = validator
        with response_to(self.url, self.timeout, ranges) as response:
            where = response.headers.get("Content-Range", "")
            if response.status == 416 and offset and where == f"bytes */{offset}":
                return True  # nothing is missing
            if response.status == 416 or (response.status == 206 and not where.startswith(f"bytes {offset}-")):
                self.forget()
                return False
            if response.status not in (200, 206):
                raise self._unavailable(f"HTTP status {response.status}", CHECK_ADDRESS)
            if response.status == 200:
                offset = 0
                self._remember(response)
            remaining = response.headers.get("Content-Length", "")
            total = offset + int(remaining) if re.fullmatch("[0-9]{1,18}", remaining) else None
            with self.part.open("ab" if offset else "wb") as stream, paced(response, max(0.0, seconds)) as moved:
                self._copy(response, stream, offset, total, moved)
        return True

    def _copy(
        self,
        response: urllib3.BaseHTTPResponse,
        stream: BinaryIO,
        done: int,
        total: int | None,
        moved: Callable[[int], None],
    ) -> None:
        for block in itertools.chain([b""], response.stream(BLOCK, decode_content=False)):
            stream.write(block)
            done += len(block)
            moved(len(block))
            if max(done, total or 0) > self.max_bytes:
                self.forget()
                raise self._unavailable(f"it has more than {self.max_bytes:,} bytes", CHECK_ADDRESS)
            if self.progress:
                self.progress(done, total)
        stream.flush()
        os.fsync(stream.fileno())

    @property
    def size(self) -> int:
        """Bytes of the part so far."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def _remember(self, response: urllib3.BaseHTTPResponse) -> None:
        # RFC 9110, 13.1.5: only a strong ETag may stand in If-Range
        etag = response.headers.get("ETag", "")
        validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        document = {"url": without_secrets(self.url), "validator": validator}
        write_atomically(self.state, json.dumps(document).encode())  # half of it would pass for someone else's

    def _validator(self) -> str:
        """Return the part's validator; "" where none is known for this URL: then the digest alone decides."""
        state = self.known() or {}
        return state["validator"] if state.get("url") == without_secrets(self.url) else ""

    def known(self) -> dict[str, str] | None:
        """What is known about the part; None where nothing is, or the file of that name is not ours."""
        try:
            state = json.loads(read_regular(self.state))
        except (CifarExportError, ValueError, RecursionError):
            return None
        ours = isinstance(state, dict) and state.keys() == {"url", "validator"}
        return state if ours and all(isinstance(value, str) for value in state.values()) else None

    def _unavailable(self, reason: str, remedy: str = CHECK_NETWORK) -> Unavailable:
        size = self.size
        kept = f" ({size:,} bytes are kept, the next run goes on from there)" if size else ""
        return unavailable(self.url, f"{reason}{kept}", remedy, self.hint)


def one_download(destination: Path, *, seconds: float | None = None) -> AbstractContextManager[None]:
    """Hold the lock of `destination`. Raises `Unavailable` after `seconds` (`LOCK_SECONDS`) of waiting, OSError."""
    patience = LOCK_SECONDS if seconds is None else seconds
    busy = Unavailable(
        f"another process has been downloading {destination} for {patience:.0f} seconds.\n"
        "Wait for it or end it, then run this again."
    )
    return only_one(lock_beside(destination), busy, seconds=patience)
