#!/usr/bin/env python3
"""Is a release of cifar-export what its SHA256SUMS says it is? Needs nothing but Python 3.9 or newer.

    python -I -S verify.py PATH [--hub] [--json]

PATH is a release's folder, a network's folder or a network's .tar.gz. With --hub it was downloaded from the Hugging
Face Hub: files may be links into `blobs/` of the same cache, and what the Hub adds is left aside. This file imports
nothing else of the project: a copy of it alone works. It runs nothing of what it checks, follows no symbolic link (with
--hub it opens the blob that one names), opens no pipe or device, and writes nothing (only `extract` does). One line for
each problem; exit codes: 0 intact, 1 anything is wrong, 2 wrong usage, 3 the machine failed (a disk that cannot be
read, no memory).

"Intact, origin not checked" means: nothing was changed, added, removed or renamed since SHA256SUMS was written. Whoever
can change the files can write a new SHA256SUMS too, so compare its sha256 with one from a place that you trust, or
check the signature.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

SUMS, SIGNATURE, INDEX, CONFIG = "SHA256SUMS", "model.sig", "index.json", "config.json"
SCHEMAS = {INDEX: (1,), CONFIG: (1, 2, 3)}
"""Of the documents that are read. Others are refused: what this file does not know it cannot vouch for."""

HUB_FILE, HUB_FOLDER = ".gitattributes", ".cache/huggingface"
"""What the Hugging Face Hub adds at the top of a folder: every repository's own file, and notes on a download."""

# Far above what a release holds (a network is about 20 MB in 15 files), far below what harms a machine.
MAX_PROBLEMS = 100
MAX_TEXT_BYTES = 4 << 20
MAX_ONNX_BYTES = 64 << 20
MAX_ONNX_FIELDS = 250_000  # a network has about 5,000
MAX_ONNX_DEPTH = 100  # protobuf's own limit
MAX_FILE_BYTES = 4 << 30
MAX_FILES = 200
MAX_UNPACKED_BYTES = 1 << 30
MAX_RATIO = 100  # networks hardly compress; deflate can do a thousand
_BLOCK = 1 << 18

_LINK = "a symbolic link"
_HUB = "`--hub` leaves it aside, as the Hugging Face Hub's own"

# Names that mean the same on every system: no hidden file, no option of a command, nothing that a terminal or Windows
# reads in a way of its own.
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?<!\.)")
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_VERSION = r"[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?(\+[a-z0-9.]+)?"  # PEP 440, normalized
_MACHINE_ERRNOS = {errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Result:
    """What `verify` found; `problems` are lines of printable ASCII, `MAX_PROBLEMS` at most and one that counts more.

    `kind` is "release", "network" or "archive"; `files` and `bytes` count what was hashed and compared; `networks` and
    `version` are what the files say of themselves; `signed` is whether there is a signature, which is not looked at.
    """

    path: str
    kind: str
    version: str | None
    networks: tuple[str, ...]
    files: int
    bytes: int
    signed: bool
    problems: list[str]

    @property
    def intact(self) -> bool:
        """Nothing is wrong."""
        return not self.problems

    @property
    def verdict(self) -> str:
        """In a few words."""
        return "intact, origin not checked" if self.intact else "not intact"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": 1,
            "path": shown(self.path),
            "kind": self.kind,
            "version": None if self.version is None else shown(self.version),
            "networks": [shown(name) for name in self.networks],
            "files": self.files,
            "bytes": self.bytes,
            "signed": self.signed,
            "intact": self.intact,
            "origin": None,
            "verdict": self.verdict,
            "problems": self.problems,
        }


def verify(path: str | os.PathLike[str], threads: int | None = None, *, hub: bool = False) -> Result:
    """Check the release, network folder or network archive at `path`, hashing in `threads` (default: one a core).

    With `hub`, the folder may be a download of the Hugging Face Hub: a file may be a link to a blob (`hub_blob`), and
    at the top `HUB_FILE` and `HUB_FOLDER` are left aside.

    Whatever is wrong with it is in the result. Raises `ValueError` where `path` is none of the three, and OSError where
    there is nothing or the machine fails.
    """
    root = Path(path)
    blobs = hub_blobs(root) if hub else None  # an archive may be a link to one
    mode = os.lstat(place(root, blobs)).st_mode
    if stat.S_ISLNK(mode):
        raise ValueError(f"{shown(root)} is a symbolic link. Name what it points to.")
    if stat.S_ISDIR(mode):
        return _verify_folder(root, threads or min(16, os.cpu_count() or 1), hub)
    if not stat.S_ISREG(mode) or not root.name.endswith((".tar.gz", ".tgz")):
        raise ValueError(
            f"{shown(root)} is neither a folder nor a .tar.gz. Name a release, a network's folder or its archive."
        )
    problems = _Problems()
    packed = _read_archive(root, None, problems, blobs)
    return _result(root, "archive", packed.files, _archive_version(packed, root, problems), problems)


def extract(
    archive: str | os.PathLike[str], destination: str | os.PathLike[str], *, blobs: Path | None = None
) -> list[str]:
    """Unpack a network's .tar.gz as the new folder `destination`, verified while it is written. Returns the problems.

    The archive may be a link to a blob in `blobs`, if that is given (`hub_blob`).
    `destination` becomes the network's folder itself. It appears by one rename, complete; with any problem, error or
    interruption nothing is left. Raises `FileExistsError` where something stands there, and OSError of the file system.
    """
    target = Path(destination)
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    staging = target.with_name(f".{os.urandom(4).hex()}.tmp.{target.name}")
    problems = _Problems()
    staging.mkdir()
    try:
        packed = _read_archive(Path(archive), staging, problems, blobs)
        _archive_version(packed, Path(archive), problems)
        if not problems:
            for name in packed.files:
                with (staging / name).open("r+b") as file:  # Windows syncs only what may be written to
                    os.fsync(file.fileno())
            staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return problems.lines()


def compare(archive: str | os.PathLike[str], folder: str | os.PathLike[str], *, blobs: Path | None = None) -> list[str]:
    """Problems of a network's .tar.gz, and what it holds otherwise than the verified `folder`. Raises OSError.

    Both may have links to blobs in `blobs`, if that is given (`hub_blob`).
    """
    problems = _Problems()
    packed = _read_archive(Path(archive), None, problems, blobs)
    if not problems:
        sums = _read_file(place(Path(folder) / SUMS, blobs), SUMS)
        if packed.top != Path(folder).name:
            problems.add(packed.top, f"the folder in it should be called {shown(Path(folder).name)}")
        # both list their files in SHA256SUMS and hold just those, so these two say it all
        if sums.sha256 is None or packed.files[SUMS].sha256 != sums.sha256:
            problems.add(Path(archive).name, "holds other files than the folder")
    return problems.lines()


def hub_blobs(path: str | os.PathLike[str]) -> Path | None:
    """The folder `blobs/` of the Hugging Face Hub's cache in which `path` is a snapshot, or in one; None elsewhere.

    A snapshot is `models--ORG--NAME/snapshots/REVISION` beside `models--ORG--NAME/blobs`.
    """
    # of which no part is a link; `path` itself may be one, an archive
    above = Path(os.path.realpath(Path(path).absolute().parent))
    for snapshots in (above, *above.parents):
        if snapshots.name == "snapshots" and re.fullmatch(r"(models|datasets|spaces)--.+", snapshots.parent.name):
            return snapshots.parent / "blobs"
    return None


def hub_blob(path: str | os.PathLike[str], blobs: Path) -> Path | None:
    """The regular file right in `blobs` to which the link at `path` leads; None for anything else.

    `blobs` is what `hub_blobs` gave. A blob that is a link itself leads elsewhere.
    """
    try:
        leads_to = Path(os.path.realpath(Path(path).parent)) / Path(path).readlink()
        blob = blobs / leads_to.name
        # were `blobs` a link, its real path would be another
        inside = os.path.realpath(leads_to.parent) == str(blobs) and _PART.fullmatch(leads_to.name)
        return blob if inside and stat.S_ISREG(os.lstat(blob).st_mode) else None
    except (OSError, ValueError):  # no link, nothing there, or bytes that no path has
        return None


def place(path: Path, blobs: Path | None) -> Path:
    """Where the file at `path` is to be read: there, or where it is a link to a blob in `blobs`, that blob."""
    return (blobs and hub_blob(path, blobs)) or path


def shown(text: object) -> str:
    """`text` as printable ASCII, not too long: a hostile name must not write to the terminal."""
    plain = ascii(str(text))[1:-1]
    return plain if len(plain) <= 200 else f"{plain[:150]}...{plain[-47:]}"


class _Problems:
    """The lines found so far; beyond `MAX_PROBLEMS` they are only counted."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._more = 0

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, name: str, what: str) -> None:
        """Note that `what` is wrong with the file `name`."""
        if len(self._lines) < MAX_PROBLEMS:
            self._lines.append(f"{shown(name)}: {what}")
        else:
            self._more += 1

    def lines(self) -> list[str]:
        """Return all of them."""
        return [*self._lines, *([f"and {self._more:,} more problems"] if self._more else [])]


@dataclass(frozen=True)
class _File:
    """A file that was read: digest, size, its content where that is to be parsed, or why it can't be accepted."""

    sha256: str | None = None
    size: int = 0
    content: bytes | None = None
    problem: str | None = None


# --- names ------------------------------------------------------------------------------------------------------------


def name_problem(name: str) -> str | None:
    """Why `name` is no relative path with forward slashes that is safe everywhere, or None."""
    parts = name.split("/")
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if ".." in parts or ".." in name.split("\\"):
        return "a path that leaves the folder"
    if len(name) > 200 or not all(_PART.fullmatch(part) and not _WINDOWS_DEVICE.fullmatch(part) for part in parts):
        return "a name that no release has"
    return None


def _is_utf8(name: str) -> bool:
    """Whether `name` was read from UTF-8; bytes that are none became surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


class _Names:
    """Names so far; finds those that a file system without upper and lower case takes for one, or file and folder."""

    def __init__(self) -> None:
        self._spelled: dict[str, tuple[str, bool]] = {}

    def clash(self, name: str) -> str | None:
        """Add `name`; return the other name that stands in its way somewhere, or None."""
        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            path, is_file = "/".join(parts[:end]), end == len(parts)
            before = self._spelled.setdefault(path.lower(), (path, is_file))
            if before != (path, is_file):
                return before[0]
        return None


def parse_sums(content: bytes) -> tuple[dict[str, str], list[str]]:
    """sha256 by path as a SHA256SUMS lists them, and what is wrong with its lines.

    It must be as `package` writes it: `<64 hex>  <path>`, LF, sorted, each path once.
    """
    problems = []
    if b"\r" in content:
        problems.append("has CR LF line ends, or a CR in a line")
    if not content.endswith(b"\n"):
        problems.append("is empty or its last line has no end: cut short")
    digests: dict[str, str] = {}
    before = ""
    for number, line in enumerate(content.replace(b"\r", b"").split(b"\n")[:-1], start=1):
        digest, gap, raw = line[:64], line[64:66], line[66:]
        name = raw.decode(errors="surrogateescape")
        if not _is_utf8(name):
            problems.append(f"line {number}: {shown(name)} is not UTF-8")
            continue
        if not re.fullmatch(rb"[0-9a-f]{64}", digest) or gap != b"  ":
            problems.append(f"line {number} is not `<sha256>  <path>`")
            continue
        problem = name_problem(name)
        if problem:
            problems.append(f"line {number}: {shown(name)} is {problem}")
        elif name in (SUMS, SIGNATURE):
            problems.append(f"line {number}: {name} is never listed")
        elif name in digests:
            problems.append(f"line {number}: {shown(name)} is listed twice")
        elif name < before:
            problems.append(f"line {number}: {shown(name)} is out of order")
        if not problem:
            digests.setdefault(name, digest.decode())
            before = name
    names = _Names()
    for name in (SUMS, SIGNATURE, *digests):
        clash = names.clash(name)
        if clash:
            problems.append(f"{shown(name)} and {shown(clash)} are one path on some systems")
    return digests, problems


# --- files ------------------------------------------------------------------------------------------------------------


def _read_file(path: Path, name: str) -> _File:
    """Hash the regular file at `path`, and look into it as its `name` demands. Raises OSError of the machine only."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        # looked at before it is opened (opening a device can do things), and again after (it may have been swapped)
        problem = _kind_problem(os.lstat(path))
        if problem:
            return _File(problem=problem)
        with open(path, "rb", buffering=0, opener=lambda file, _: os.open(file, flags)) as stream:
            status = os.fstat(stream.fileno())
            problem = _kind_problem(status) or _size_problem(name, status.st_size)
            if problem:
                return _File(problem=problem)
            if _is_parsed(name):
                return _inspected(name, stream.read(status.st_size + 1))
            return _hashed(stream)
    except FileNotFoundError:
        return _File(problem="missing")
    except OSError as error:
        if error.errno in _MACHINE_ERRNOS:
            raise
        swapped = error.errno == errno.ELOOP  # for a link since the look above
        return _File(problem=_LINK if swapped else f"can't be read: {error.strerror}")


def _hashed(stream: io.RawIOBase) -> _File:
    digest, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(_BLOCK))
    while count := stream.readinto(buffer):
        digest.update(buffer[:count])
        size += count
    return _File(digest.hexdigest(), size)


def _kind_problem(status: os.stat_result) -> str | None:
    """Why a file of that status is not read, or None."""
    mode = status.st_mode
    if stat.S_ISLNK(mode) or getattr(status, "st_reparse_tag", 0) == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1):
        return _LINK
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
        return f"a {kinds.get(stat.S_IFMT(mode), 'device')}, not a regular file"
    if mode & (stat.S_ISUID | stat.S_ISGID):
        return "a file that runs with its owner's rights (setuid or setgid). Copy the folder and verify the copy"
    # who holds the other name can change the file after it was verified
    return (
        "a hard link: it has another name elsewhere. Copy the folder and verify the copy"
        if status.st_nlink > 1
        else None
    )


def _is_proto(name: str) -> bool:
    """Whether that file is ONNX's, also where somebody wrote its suffix in capitals: programs open it all the same."""
    return name.lower().endswith((".onnx", ".pb"))


def _is_parsed(name: str) -> bool:
    return _is_proto(name) or name.rpartition("/")[2] in (SUMS, INDEX, CONFIG)


def _limit(name: str) -> int:
    """The most bytes that a file of that name may have."""
    if _is_proto(name):
        return MAX_ONNX_BYTES
    return MAX_TEXT_BYTES if _is_parsed(name) else MAX_FILE_BYTES


def _size_problem(name: str, size: int) -> str | None:
    return f"larger than {_limit(name) >> 20} MiB, which no such file is" if size > _limit(name) else None


def _inspected(name: str, content: bytes) -> _File:
    """The file with that content, which is kept where others need it."""
    problem = _size_problem(name, len(content))
    if not problem and name.lower().endswith(".onnx"):
        problem = onnx_problem(content)
    elif not problem and name.lower().endswith(".pb"):
        problem = onnx_problem(content, "Tensor")
    digest = hashlib.sha256(content).hexdigest()
    return _File(digest, len(content), None if _is_proto(name) else content, problem)


def _read_all(places: Mapping[str, Path], threads: int) -> dict[str, _File]:
    """Read files, by name, in `threads`: hashing leaves the interpreter's lock alone."""
    listed = sorted(places)
    if threads < 2:
        return {name: _read_file(places[name], name) for name in listed}
    executor = ThreadPoolExecutor(threads)
    try:
        return dict(executor.map(lambda name: (name, _read_file(places[name], name)), listed))
    finally:
        executor.shutdown(cancel_futures=True)  # after Ctrl-C or an error nobody waits for the rest


# --- a folder ---------------------------------------------------------------------------------------------------------


def _verify_folder(root: Path, threads: int, hub: bool) -> Result:
    problems = _Problems()
    blobs = hub_blobs(root) if hub else None
    sums = _read_file(place(root / SUMS, blobs), SUMS)
    if sums.content is None:
        hint = f". {_about_links(root, hub, blobs)}" if sums.problem == _LINK else ""
        problems.add(SUMS, f"{sums.problem}: nothing here can be checked{hint}")
        below = [path.name for path in root.iterdir() if re.fullmatch(_VERSION, path.name) and not path.is_symlink()]
        if below:
            problems.add(root.name, f"may hold releases. Name one of them, like {shown(max(below))}")
        return _result(root, "release", {}, None, problems)
    digests, wrong = parse_sums(sums.content)
    for line in wrong:
        problems.add(SUMS, line)
    here = _walk(root, digests, problems, hub=hub, blobs=blobs)
    for name in sorted(digests.keys() - here.keys()):
        problems.add(name, "listed in SHA256SUMS, but missing")
    files = _read_all({name: where for name, where in here.items() if where}, threads)
    _compare(files, digests, problems)
    files[SUMS] = sums
    kind = "release" if INDEX in here or INDEX in digests or CONFIG not in digests else "network"
    if kind == "network":
        if SIGNATURE in here:
            problems.add(SIGNATURE, "does not belong here: only a whole release is signed")
        # a folder that is called otherwise than any network may be someone's copy
        folder = root.name if re.fullmatch(r"cifar[0-9]+_resnet[0-9]+", root.name) else None
        return _result(root, kind, files, _check_network(files, digests, "", folder, problems), problems)
    return _result(root, kind, files, _check_release(files, digests, root.name, problems), problems)


def _about_links(root: Path, hub: bool, blobs: Path | None) -> str:
    """What to do where a link stands for a file that is listed."""
    if blobs:
        return "It leads to no file in `blobs/` of the same cache: download it again"
    if not hub and hub_blobs(root):
        return "It is in a cache of the Hugging Face Hub: verify with `--hub`"
    return "Make a copy without links, `cp -rL FOLDER COPY`, and verify the copy"


def _walk(
    root: Path, digests: Mapping[str, str], problems: _Problems, *, hub: bool, blobs: Path | None
) -> dict[str, Path | None]:
    """The listed names that stand below `root`, and where each is to be read, None for no file; else is a problem.

    Folders of which nothing is listed are not entered. With `hub`, what the Hub adds is no problem, and with `blobs` no
    link to a file in there.
    """
    expected = {
        "/".join(parts[:end]) for parts in (name.split("/") for name in digests) for end in range(1, len(parts))
    }
    if hub:
        expected.add(HUB_FOLDER.partition("/")[0])
    found: dict[str, Path | None] = {}
    folders = [""]
    for folder in folders:
        try:
            # as bytes: what a name decodes to must not depend on the locale
            with os.scandir(os.fsencode(root / folder)) as opened:
                entries = sorted(opened, key=lambda entry: entry.name)
        except OSError as error:
            if error.errno in _MACHINE_ERRNOS:
                raise
            problems.add(f"{folder}/", f"can't be read: {error.strerror}")
            continue
        for entry in entries:
            name = f"{folder}/{entry.name.decode(errors='surrogateescape')}".removeprefix("/")
            if not _is_utf8(name):
                problems.add(name, "its name is not UTF-8")
                continue
            status = entry.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            where = place(root / name, blobs)
            is_file = stat.S_ISREG(status.st_mode) or where != root / name
            if hub and ((is_folder and name == HUB_FOLDER) or (is_file and name == HUB_FILE)):
                continue
            if is_folder and name in expected:
                folders.append(name)
            elif name in digests or name in (SUMS, SIGNATURE):
                found[name] = where if is_file else None
                if not is_file:
                    problem = _kind_problem(status) or ""
                    hint = f". {_about_links(root, hub, blobs)}" if problem == _LINK else ""
                    problems.add(name, f"{problem}{hint}")
            elif is_folder:
                hint = f". {_HUB}" if f"{name}/" in HUB_FOLDER and not hub else ""
                problems.add(f"{name}/", f"a folder of which SHA256SUMS lists nothing{hint}")
            else:
                hint = f". {_HUB}" if name == HUB_FILE and not hub else ""
                problems.add(name, _kind_problem(status) or f"not listed in SHA256SUMS{hint}")
    return {name: where for name, where in found.items() if name != SUMS}


def _compare(files: dict[str, _File], digests: Mapping[str, str], problems: _Problems) -> None:
    """Compare what was read with what is listed; nothing more is asked of a file that was changed."""
    for name, file in list(files.items()):
        if file.sha256 is not None and name in digests and file.sha256 != digests[name]:
            problems.add(name, "changed: its sha256 is not the one in SHA256SUMS")
            files[name] = _File(file.sha256, file.size)
        elif file.problem:
            problems.add(name, file.problem)


def _result(root: Path, kind: str, files: Mapping[str, _File], about: _About | None, problems: _Problems) -> Result:
    about = about or _About()
    read = [file for name, file in files.items() if file.sha256 is not None and name not in (SUMS, SIGNATURE)]
    total = sum(file.size for file in read)
    signed = SIGNATURE in files
    return Result(str(root), kind, about.version, about.networks, len(read), total, signed, problems.lines())


# --- what a release says of itself ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _About:
    """What the files say of themselves."""

    version: str | None = None
    networks: tuple[str, ...] = ()


def parse_json(content: bytes) -> Any:
    """What a JSON document says, read as every reader does: no key twice, no NaN, UTF-8. Raises `ValueError`."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key comes twice")
        return dict(pairs)

    def no_constant(text: str) -> Any:
        raise ValueError(f"{text} is not JSON")

    try:
        return json.loads(content.decode(), object_pairs_hook=once, parse_constant=no_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def is_schema(document: Mapping[str, Any], schemas: tuple[int, ...]) -> bool:
    """Whether it is of one of them: the whole number, neither `true` nor `1.0`, which are equal to 1 in Python."""
    return type(document.get("schema")) is int and document["schema"] in schemas


def _document(files: Mapping[str, _File], name: str, problems: _Problems) -> dict[str, Any] | None:
    """The JSON object in a file that was read, or None and a problem (unless it was noted that the file is no good)."""
    content = files.get(name, _File()).content
    if content is None:
        return None
    try:
        document = parse_json(content)
    except ValueError as error:
        problems.add(name, f"not a JSON document: {shown(error)}")
        return None
    known = SCHEMAS[name.rpartition("/")[2]]
    if not isinstance(document, dict) or not is_schema(document, known):
        problems.add(name, f"not of schema {' or '.join(map(str, known))}. A newer verify may know it")
        return None
    return document


def _mapping(document: Any, key: str) -> dict[str, Any]:
    """`document[key]` where that is an object, else an empty one, which the checks then find incomplete."""
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, dict) else {}


def _check_network(
    files: Mapping[str, _File], digests: Mapping[str, str], prefix: str, folder: str | None, problems: _Problems
) -> _About | None:
    """Compare a network's config.json with the files listed below `prefix`, and with the `folder` they stand in."""
    config = _document(files, prefix + CONFIG, problems)
    if config is None:
        return None
    name, version = config.get("network"), config.get("version")
    if not isinstance(name, str) or not isinstance(version, str) or not re.fullmatch(_VERSION, version):
        problems.add(prefix + CONFIG, "names no network, or no version")
        return None
    if folder is not None and name != folder:
        problems.add(prefix + CONFIG, f"describes {shown(name)}, but stands in {shown(folder)}")
    elif name != f"{config.get('dataset')}_{config.get('model')}":
        problems.add(prefix + CONFIG, f"is of {shown(name)}, but names another model or data set")
    wanted: list[Any] = list(_mapping(config, "models"))
    for model, golden in _mapping(config, "golden").items():
        where = golden.get("folder") if isinstance(golden, dict) else None
        wanted += [model, f"{where}/input_0.pb", f"{where}/output_0.pb"]
    for found in _mapping(config, "further").values():
        if isinstance(found, dict):
            beside = found.get("beside")
            wanted += [found.get("file"), *(beside if isinstance(beside, list) else [])]
    for file in dict.fromkeys(map(str, wanted)):
        if prefix + file not in digests:
            problems.add(prefix + CONFIG, f"names {shown(file)}, which SHA256SUMS does not list")
    if not wanted:
        problems.add(prefix + CONFIG, "names no models")
    if _mapping(config, "weights").get("sha256") != digests.get(f"{prefix}model.safetensors"):
        problems.add(prefix + CONFIG, "names other weights than model.safetensors")
    return _About(version, (name,))


def _check_release(
    files: Mapping[str, _File], digests: Mapping[str, str], folder: str, problems: _Problems
) -> _About | None:
    """Compare index.json with SHA256SUMS, with the networks' own SHA256SUMS and with their config.json."""
    if INDEX not in digests:
        problems.add(INDEX, f"not listed in SHA256SUMS: neither a release nor, without {CONFIG}, a network")
    index = _document(files, INDEX, problems)
    if index is None:
        return None
    version, networks = index.get("version"), _mapping(index, "networks")
    if not isinstance(version, str) or not re.fullmatch(_VERSION, version) or not networks:
        problems.add(INDEX, "names no version, or no networks")
        return None
    if folder != version and re.fullmatch(_VERSION, folder) and "." in folder:
        problems.add(INDEX, f"is that of version {version}, but the folder is called {shown(folder)}")
    named = dict(_mapping(index, "files"))
    for network, entry in networks.items():
        named |= {f"{network}/{name}": found for name, found in _mapping(entry, "files").items()}
    _compare_index(named, files, digests, problems)
    for network, entry in networks.items():
        archive = f"{network}-{version}.tar.gz"
        if not isinstance(entry, dict) or entry.get("folder") != network or entry.get("archive") != archive:
            problems.add(
                INDEX, f"{shown(network)} has another folder or archive than {shown(network)}, {shown(archive)}"
            )
        if archive not in digests:
            problems.add(archive, "not listed in SHA256SUMS")
        _check_inner_sums(files, digests, f"{network}/", problems)
        about = _check_network(files, digests, f"{network}/", network, problems)
        if about and about.version != version:
            problems.add(f"{network}/{CONFIG}", f"is of version {shown(about.version)}, the release of {version}")
    return _About(version, tuple(networks))


def _compare_index(
    named: Mapping[str, Any], files: Mapping[str, _File], digests: Mapping[str, str], problems: _Problems
) -> None:
    """Compare the files that index.json names with those of SHA256SUMS: same names, digests and sizes."""
    for name in sorted(named.keys() - digests.keys()):
        problems.add(name, f"named in {INDEX}, but not listed in SHA256SUMS")
    for name in sorted(digests.keys() - named.keys() - {INDEX}):
        problems.add(name, f"listed in SHA256SUMS, but not named in {INDEX}")
    for name in sorted(named.keys() & digests.keys()):
        entry = named[name] if isinstance(named[name], dict) else {}
        if entry.get("sha256") != digests[name]:
            problems.add(name, f"{INDEX} has another sha256 than SHA256SUMS")
        file = files.get(name, _File())
        if file.sha256 is not None and (type(entry.get("bytes")) is not int or entry["bytes"] != file.size):
            problems.add(name, f"{INDEX} has another size")


def _check_inner_sums(files: Mapping[str, _File], digests: Mapping[str, str], prefix: str, problems: _Problems) -> None:
    """Compare a network's own SHA256SUMS with what the release lists below `prefix`."""
    content = files.get(prefix + SUMS, _File()).content
    if content is None:
        if prefix + SUMS not in digests:
            problems.add(prefix + SUMS, "not listed in SHA256SUMS")
        return  # else it was noted
    inner, wrong = parse_sums(content)
    for line in wrong:
        problems.add(prefix + SUMS, line)
    outer = {
        name.removeprefix(prefix): digest
        for name, digest in digests.items()
        if name.startswith(prefix) and name != prefix + SUMS
    }
    for name in sorted(inner.keys() | outer.keys()):
        if inner.get(name) != outer.get(name):
            problems.add(prefix + SUMS, f"disagrees with the release's about {shown(name)}")


# --- an archive -------------------------------------------------------------------------------------------------------


@dataclass
class _Packed:
    """What an archive holds: the folder at its top, and the files in it; `whole` when it was read to its end."""

    top: str = ""
    whole: bool = False
    files: dict[str, _File] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


class _Refused(Exception):
    """An archive that is not read on, and why."""


def _read_archive(path: Path, into: Path | None, problems: _Problems, blobs: Path | None = None) -> _Packed:
    """Read the archive at `path` once, checking it against the SHA256SUMS in it; write its files below `into`."""
    packed = _Packed()
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(place(path, blobs), "rb", opener=lambda file, _: os.open(file, flags)) as stream:
        try:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise _Refused("not a regular file")
            _read_members(_Unzipped(stream), into, packed)
        except (_Refused, zlib.error) as error:
            problems.add(path.name, f"damaged: {shown(error)}" if isinstance(error, zlib.error) else str(error))
            return packed
    packed.whole = True
    sums = packed.files.get(SUMS, _File())
    if sums.content is None:
        problems.add(f"{packed.top}/{SUMS}", "missing: nothing in the archive can be checked")
        return packed
    packed.digests, wrong = parse_sums(sums.content)
    for line in wrong:
        problems.add(SUMS, line)
    for name in sorted(packed.digests.keys() - packed.files.keys()):
        problems.add(name, "listed in SHA256SUMS, but missing")
    for name in sorted(packed.files.keys() - packed.digests.keys() - {SUMS}):
        problems.add(name, "not listed in SHA256SUMS")
    _compare(packed.files, packed.digests, problems)
    return packed


def _archive_version(packed: _Packed, path: Path, problems: _Problems) -> _About | None:
    """Check the network in an archive that was read, and the archive's own name where that is like a release's."""
    if not packed.whole or SUMS not in packed.files:
        return None
    if CONFIG not in packed.digests:
        problems.add(CONFIG, "not listed in SHA256SUMS: no network of a release")
    about = _check_network(packed.files, packed.digests, "", packed.top, problems)
    if about and re.fullmatch(rf"cifar[0-9]+_resnet[0-9]+-{_VERSION}\.tar\.gz", path.name):
        expected = f"{about.networks[0]}-{about.version}.tar.gz"
        if path.name != expected:
            problems.add(path.name, f"holds what is called {shown(expected)}")
    return about


def _read_members(stream: _Unzipped, into: Path | None, packed: _Packed) -> None:
    """Read all members, up to the end of the stream. Raises `_Refused` at the first that is not as it must be."""
    names = _Names()
    for path, size in _headers(stream):
        top, _, name = path.partition("/")
        if not name or top != (packed.top or top):
            raise _Refused(f"{shown(path)} is not in the one folder {shown(packed.top or 'of a network')}")
        if name in packed.files:
            raise _Refused(f"{shown(path)} comes twice")
        clash = names.clash(path)
        if clash:
            raise _Refused(f"{shown(path)} and {shown(clash)} are one path on some systems")
        if len(packed.files) >= MAX_FILES:
            raise _Refused(f"more than {MAX_FILES:,} files, which no release has")
        problem = _size_problem(name, size)
        if problem:
            raise _Refused(f"{shown(path)}: {problem}")
        packed.top = top
        packed.files[name] = _read_member(stream, name, size, into)


def _read_member(stream: _Unzipped, name: str, size: int, into: Path | None) -> _File:
    digest = hashlib.sha256()
    kept: list[bytes] = []
    with contextlib.ExitStack() as stack:
        output: BinaryIO | None = None
        if into is not None:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            output = stack.enter_context((into / name).open("xb"))
        for part in stream.parts(size):
            digest.update(part)
            if output:
                output.write(part)
            if _is_parsed(name):
                kept.append(part)
    stream.read(-size % 512)
    return _inspected(name, b"".join(kept)) if _is_parsed(name) else _File(digest.hexdigest(), size)


_TAR_TYPES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder",
    b"6": "a pipe",
}


def _headers(stream: _Unzipped) -> Iterator[tuple[str, int]]:
    """Path and size of each member of a tar in plain ustar format; the caller reads the content in between.

    Not by `tarfile`: it knows many formats and mends much, and what two readers read differently hides things.
    """
    while True:
        header = stream.read(512)
        if header == bytes(512):
            if not stream.rest_is_blank():
                raise _Refused("something follows the end of the archive")
            return
        if header[257:265] != b"ustar\x0000":
            raise _Refused("a header that is not ustar's: not as `package` writes archives")
        checksum = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if _octal(header[148:156]) != checksum:
            raise _Refused("damaged: a header with a wrong checksum")
        raw = b"/".join(part for part in (header[345:500].rstrip(b"\0"), header[:100].rstrip(b"\0")) if part)
        path = raw.decode(errors="surrogateescape")
        if not _is_utf8(path):
            raise _Refused(f"{shown(path)}: its name is not UTF-8")
        kind = header[156:157]
        if kind != b"0":
            raise _Refused(f"{shown(path)} is {_TAR_TYPES.get(kind, 'an extension of the format')}, not a regular file")
        problem = "a name that goes on after its end" if b"\0" in raw else name_problem(path)
        if problem:
            raise _Refused(f"{shown(path)} is {problem}")
        if _octal(header[100:108]) & 0o7000:
            raise _Refused(f"{shown(path)} would run as another user (set-user-ID, set-group-ID or sticky)")
        if header[157:257].strip(b"\0"):
            raise _Refused(f"{shown(path)} is a regular file with the name of a link")
        yield path, _octal(header[124:136])


def _octal(text: bytes) -> int:
    if not re.fullmatch(rb"[0-7]{1,11}[ \0]{1,2}", text):
        raise _Refused("damaged: a header with a number that cannot be read")
    return int(text.rstrip(b" \0"), 8)


class _Unzipped:
    """A gzip file with one member, unpacked while it is read. Raises `_Refused` for anything else, and `zlib.error`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._inflate = zlib.decompressobj(wbits=31)
        self._buffer = b""
        self._packed = self._unpacked = 0

    def parts(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes in pieces."""
        while size:
            part = self.read(min(size, _BLOCK))
            size -= len(part)
            yield part

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        pieces = [self._buffer]
        have = len(self._buffer)
        while have < size:
            piece = self._more()
            if not piece:
                raise _Refused("damaged: it is cut short")
            pieces.append(piece)
            have += len(piece)
        data = b"".join(pieces)
        self._buffer = data[size:]
        return data[:size]

    def rest_is_blank(self) -> bool:
        """Read all that is left: whether it is zeros. Checks that the file ends there too."""
        blank = not self._buffer.strip(b"\0")
        while piece := self._more():
            blank = blank and not piece.strip(b"\0")
        if not self._inflate.eof:
            raise _Refused("damaged: it is cut short")
        if self._inflate.unused_data or self._stream.read(1):
            raise _Refused("something follows the end of the compressed data")
        return blank

    def _more(self) -> bytes:
        """The next piece, or nothing at the end of the compressed data and where the file ends before it."""
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail
            if not packed:
                packed = self._stream.read(_BLOCK)
                self._packed += len(packed)
            piece = self._inflate.decompress(packed, _BLOCK)
            self._unpacked += len(piece)
            if self._unpacked > min(MAX_UNPACKED_BYTES, MAX_RATIO * self._packed + _BLOCK * 4):
                raise _Refused("a decompression bomb: it unpacks to far more than a network")
            if piece or not packed:
                return piece
        return b""


# --- ONNX -------------------------------------------------------------------------------------------------------------

# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: the fields through which a message reaches a TensorProto
_ONNX: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Training": {1: "Graph", 2: "Graph"},
    "Tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of TensorProto


def onnx_problem(content: bytes, root: str = "Model") -> str | None:
    """Why an ONNX file ("Model") or a stored tensor ("Tensor") is damaged or takes data from other files, or None.

    https://protobuf.dev/programming-guides/encoding/: only the frame is read, and only down to the tensors.
    """
    todo = [(root, 0, len(content), 0)]
    count = 0
    graphs = 0
    try:
        while todo:
            kind, at, end, depth = todo.pop()
            graphs += kind == "Graph"
            if depth > MAX_ONNX_DEPTH:
                raise _Refused("nested too deep")
            while at < end:
                count += 1
                if count > MAX_ONNX_FIELDS:
                    raise _Refused("too intricate")
                number, wire, start, at = _field(content, at, end)
                if kind == "Tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and start != at)):
                    return "takes data from another file (external data)"
                if number in _ONNX[kind]:
                    if wire != 2:
                        raise _Refused("a message that cannot be read")
                    todo.append((_ONNX[kind][number], start, at, depth + 1))
    except _Refused as error:
        return f"damaged, or not an ONNX file: {error}"
    return "damaged, or not an ONNX file: there is no graph in it" if root == "Model" and not graphs else None


def _field(content: bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """Number and wire type of the field at `at`, and where its content starts and ends. A zero has no content."""
    key, at = _varint(content, at, end)
    number, wire = key >> 3, key & 7
    if wire == 0:
        value, after = _varint(content, at, end)
        at, stop = (at, after) if value else (after, after)
    elif wire == 2:
        size, at = _varint(content, at, end)
        stop = at + size
    elif wire in (1, 5):
        stop = at + (8 if wire == 1 else 4)
    else:
        raise _Refused("a field of no known kind")
    if not 0 < number < 1 << 29 or stop > end:
        raise _Refused("a field that does not fit")
    return number, wire, at, stop


def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Refused("a number without an end")


# --- the command line -------------------------------------------------------------------------------------------------


def describe(result: Result, verdict: str | None = None) -> str:
    """Return the last line of a report: the verdict (default: the result's), and on what."""
    count = len(result.networks)
    said = [result.kind, *(result.networks if result.kind != "release" else []), result.version]
    if result.kind == "release" and count:
        said.append(f"of {count} {'network' if count == 1 else 'networks'}")
    about = shown(" ".join(filter(None, said)))
    facts = [about, f"{result.files:,} files", f"{result.bytes:,} bytes"]
    if result.signed:
        facts.append("with a signature")
    if not result.intact:
        facts.insert(1, "1 problem" if len(result.problems) == 1 else f"{len(result.problems):,} problems")
    return f"{shown(result.path)}: {verdict or result.verdict} ({', '.join(facts)})"


def main(arguments: list[str] | None = None) -> int:
    """Check what the command line names; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="verify.py",
        description="Check a release of cifar-export against its SHA256SUMS. "
        "Exit codes: 0 intact, 1 anything is wrong, 2 wrong usage, 3 the machine failed.",
    )
    parser.add_argument("path", metavar="PATH", help="a release's folder, a network's folder or a network's .tar.gz")
    parser.add_argument("--hub", action="store_true", help="the folder was downloaded from the Hugging Face Hub")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args(arguments)
    try:
        result = verify(options.path, hub=options.hub)
    except (OSError, ValueError, MemoryError) as error:
        return _failed(error, as_json=options.json)
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    text = json.dumps(result.as_dict(), indent=1) if options.json else "\n".join([*result.problems, describe(result)])
    return _say(text, 0 if result.intact else 1)


def _failed(error: Exception, *, as_json: bool) -> int:
    """Say why there is no result."""
    usage = isinstance(error, ValueError) or (
        isinstance(error, OSError) and error.errno not in _MACHINE_ERRNOS
    )  # an embedded NUL in a path is a ValueError too
    reason = str(error) if isinstance(error, ValueError) else getattr(error, "strerror", None) or "out of memory"
    name = getattr(error, "filename", None)
    line = f"{shown(os.fsdecode(name))}: {reason}" if name is not None else reason
    code = 2 if usage else 3
    _complain(f"error: {line}")
    return _say(json.dumps({"error": line, "exit_code": code}, indent=1), code) if as_json else code


def _say(text: str, code: int) -> int:
    """Print; no reader, or one that went away (`| head`), changes nothing; a full disk makes the exit code 3."""
    if sys.stdout is None:  # closed by the caller
        return code
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        # what is left goes nowhere, or the interpreter tries again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            _complain(f"error: can't print: {error.strerror}")
            return 3
    return code


def _complain(line: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # closed, or to nowhere: the exit code says it too
        sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
