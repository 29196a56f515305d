"""Finished networks, kept for the next build: whoever was interrupted does not start over.

An entry is found by the digest of everything that decides a network's bytes and verdicts, and it is believed only if
its record (names, sizes, digests, measurements) carries the right HMAC. The HMAC's key lies outside the cache, readable
by its owner alone, so that whoever can write the cache (a restored CI cache, a shared disk) cannot make up an entry.
The cache never fails a build: what is wrong with it is one note, and the network is built.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import importlib.metadata
import json
import os
import platform
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data import Split
from ...formats import FORMATS
from ...system.checkout import PACKAGE
from ...system.files import hidden_folder, remove_at_once
from ...system.folders import cache_folder, state_folder
from ...system.leftovers import clear_dead, hidden_name
from ...system.version import __version__
from ...weights.index import BundledEntry
from ..contents import record
from ..required import Wanted
from ..sums import files_below

_NETWORK = "network"
_RECORD = "entry.json"
_KEY_BYTES = 32
_MOST = 1 << 20  # bytes of a record; real ones have a few thousand
_KEPT_SECONDS = 30 * 24 * 3600
_PACKAGES = (
    *("torch", "torchvision", "numpy", "safetensors", "jinja2", "packaging"),
    *("onnx", "ml-dtypes", "protobuf"),
    *("onnxruntime", "onnxruntime-gpu", "openvino", "opencv-python-headless"),
    *(spec.library for spec in FORMATS.values() if spec.library),
)
Say = Callable[[str], None]


def cache_key(
    builder: Callable[..., Any],
    entry: BundledEntry,
    version: str,
    runtimes: Sequence[str],
    split: Split | None,
    source: str,
    wanted: Wanted,
) -> str:
    """Hex sha256 of all that decides a network's folder: weights, release version, code, libraries, machine, images.

    `source` is the `source_digest` of the code that builds it.
    """
    decides = {
        "builder": f"{builder.__module__}.{builder.__qualname__}",
        "weights": entry.as_dict(),
        "version": version,
        "runtimes": sorted(runtimes),
        "images": _digest(split) if split else None,
        "wanted": [sorted(wanted.precisions), wanted.budget, sorted(wanted.formats)],
        "tool": __version__,
        "source": source,
        "packages": {name: _installed(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "machine": [platform.system(), platform.machine()],
    }
    return hashlib.sha256(_canonical(decides)).hexdigest()


def source_digest() -> str:
    """Hex sha256 over the names and contents of this package's own files."""
    total = hashlib.sha256()
    for name in files_below(PACKAGE):
        if "__pycache__" not in name and not name.startswith("bundled/"):
            total.update(f"{record(PACKAGE / name).sha256}  {name}\n".encode())
    return total.hexdigest()


def _digest(split: Split) -> str:
    total = hashlib.sha256(split.images.tobytes())
    total.update(split.labels.tobytes())
    return total.hexdigest()


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


class NetworkCache:
    """The cache in `folder` (default: `networks` in the user's cache folder), its HMAC key in `key_file`."""

    def __init__(self, say: Say, folder: Path | None = None, key_file: Path | None = None) -> None:
        self._say = say
        self._folder = folder or cache_folder() / "networks"
        self._key_file = key_file or state_folder() / "cache.key"
        clear_dead(self._key_file)

    def fetch(self, key: str, name: str, folder: Path) -> dict[str, Any] | None:
        """Copy the network of `key` into the new `folder`, every byte checked; its measurements, or None.

        A wrong entry is dropped with a note that calls it `name`. Raises OSError where `folder` cannot be written.
        """
        entry = self._folder / key
        try:
            if not os.path.lexists(entry):
                return None
            clear_dead(entry)
            contents, measured = self._load(entry, key)
        except (OSError, ValueError, RecursionError) as error:
            self._say(f"note: the cached {name} cannot be used ({_reason(error)}); it is built again.")
            self._drop(entry)
            return None
        with contextlib.suppress(OSError):
            os.utime(entry)  # used: it is kept for longer
        for file, data in contents.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(data)
        return measured

    def _load(self, entry: Path, key: str) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The files (some 20 MB) and measurements of `entry`. Raises OSError, ValueError, RecursionError if wrong."""
        if not stat.S_ISDIR(entry.lstat().st_mode):
            raise ValueError("its entry is not a folder")
        document = json.loads(_read(entry / _RECORD, _MOST))
        body = document.get("record") if isinstance(document, dict) else None
        mac = document.get("hmac") if isinstance(document, dict) else None
        if (
            not isinstance(body, dict)
            or not isinstance(mac, str)
            or not hmac.compare_digest(mac.encode(), self._mac(body).encode())
        ):
            raise ValueError("its record was not written by this user")
        if body.get("key") != key:
            raise ValueError("it belongs to another network")
        # From here on the record is one of ours: its shape is known.
        contents = {}
        for name, facts in body["files"].items():
            contents[name] = _read(entry / _NETWORK / name, facts["bytes"])
            if hashlib.sha256(contents[name]).hexdigest() != facts["sha256"]:
                raise ValueError(f"{name} has changed")
        return contents, body["measurements"]

    def store(self, key: str, folder: Path, measurements: Mapping[str, Any]) -> None:
        """Keep a copy of the finished network in `folder`. Failing to is a note."""
        entry = self._folder / key
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._prune()
            with hidden_folder(entry) as temporary:  # not put on the disk first: what is read is checked, every byte
                files = {}
                for name in files_below(folder):
                    files[name] = record(folder / name).as_dict()
                    (temporary / _NETWORK / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(folder / name, temporary / _NETWORK / name)
                body = {"key": key, "files": files, "measurements": dict(measurements)}
                document = {"record": body, "hmac": self._mac(body)}
                (temporary / _RECORD).write_text(json.dumps(document, indent=1), encoding="utf-8")
                temporary.rename(entry)
        except (OSError, ValueError) as error:
            if not (entry / _RECORD).is_file():  # else another process was first, with the same
                self._say(f"note: {folder.name} cannot be cached ({_reason(error)}); the build goes on.")

    def _prune(self) -> None:
        """Forget what nobody asked for in a month, and what a killed process left a day ago."""
        now = time.time()
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                age = now - path.lstat().st_mtime
                if age > (_KEPT_SECONDS if not path.name.startswith(".") else 24 * 3600):
                    self._drop(path)

    def _drop(self, entry: Path) -> None:
        with contextlib.suppress(OSError):
            remove_at_once(entry)

    def _mac(self, body: Mapping[str, Any]) -> str:
        return hmac.new(self._secret(), _canonical(body), "sha256").hexdigest()

    def _secret(self) -> bytes:
        """The key; one that others could have read or written is replaced, which voids all entries."""
        for _ in range(2):
            with contextlib.suppress(OSError, ValueError):
                return self._read_secret()
            self._make_secret()
        return self._read_secret()

    def _read_secret(self) -> bytes:
        facts = self._key_file.lstat()
        if not stat.S_ISREG(facts.st_mode) or (
            os.name == "posix" and (facts.st_mode & 0o077 or facts.st_uid != os.geteuid())
        ):
            raise ValueError(f"{self._key_file} is open to others than this user")
        data = _read(self._key_file, _KEY_BYTES)
        if len(data) != _KEY_BYTES:
            raise ValueError(f"{self._key_file} is damaged")
        return data

    def _make_secret(self) -> None:
        self._key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = hidden_name(self._key_file)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(_KEY_BYTES))
            if os.path.lexists(self._key_file):
                temporary.replace(self._key_file)
            else:
                with contextlib.suppress(FileExistsError):  # another process was first: its key counts
                    os.link(temporary, self._key_file)
        finally:
            temporary.unlink(missing_ok=True)


def _read(path: Path, most: int) -> bytes:
    """Read a regular file of at most `most` bytes: no link is followed, no pipe waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as stream:
        facts = os.fstat(stream.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > most:
            raise ValueError(f"{path.name} is not a file of that size")
        return stream.read(most + 1)


def _reason(error: BaseException) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
