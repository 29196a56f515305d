"""What can be in a .tar.gz, and around it. Each case packs a network anew, with something more or less."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from support.hostile.case import ARCHIVE, NETWORK, Case, files_below

CASES: list[Case] = []

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Entry:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info, data


def entries_of(release: Path) -> list[Entry]:
    folder = release / NETWORK
    return [entry(f"{NETWORK}/{name}", (folder / name).read_bytes()) for name in files_below(folder)]


def tar(entries: list[Entry], format: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, errors="surrogateescape") as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _write(release: Path, data: bytes) -> Path:
    path = release.parent / ARCHIVE
    path.write_bytes(data)
    return path


def _entries(name: str, says: str, change: Callable[[list[Entry]], object], format: int = tarfile.USTAR_FORMAT) -> None:
    """A case with other members."""

    def make(release: Path) -> Path:
        entries = entries_of(release)
        change(entries)
        return _write(release, gzip.compress(tar(entries, format), mtime=0))

    CASES.append(Case(f"archive_{name}", make, says))


def _bytes(name: str, says: str, change: Callable[[bytes, bytes], bytes]) -> None:
    """A case with other bytes: `change` gets the .tar.gz and the tar in it."""

    def make(release: Path) -> Path:
        plain = tar(entries_of(release))
        return _write(release, change(gzip.compress(plain, mtime=0), plain))

    CASES.append(Case(f"archive_{name}", make, says))


for _name, _says, _more in (
    ("absolute", "/etc/passwd is an absolute path", entry("/etc/passwd", b"x")),
    ("parent", f"{NETWORK}/../../x is a path that leaves the folder", entry(f"{NETWORK}/../../x", b"x")),
    ("drive", "C:x is an absolute path", entry("C:x", b"x")),
    ("backslash", "is a path that leaves the folder", entry(f"{NETWORK}\\..\\x", b"x")),
    ("dot", "is a name that no release has", entry(f"./{NETWORK}/x", b"x")),
    ("outside", "cifar10_resnet32/x is not in the one folder", entry("cifar10_resnet32/x", b"x")),
    ("beside", "x is not in the one folder", entry("x", b"x")),
    ("twice", f"{NETWORK}/config.json comes twice", entry(f"{NETWORK}/config.json", b"{}")),
    ("case", "are one path on some systems", entry(f"{NETWORK}/CONFIG.json", b"{}")),
    ("file_and_folder", "are one path on some systems", entry(f"{NETWORK}/config.json/x", b"{}")),
    ("not_utf8", r"x\udcff: its name is not UTF-8", entry(f"{NETWORK}/x\udcff", b"x")),
    ("terminal", r"x\x1b[2J is a name that no release has", entry(f"{NETWORK}/x\x1b[2J", b"x")),
    ("added", "extra: not listed in SHA256SUMS", entry(f"{NETWORK}/extra", b"x")),
    ("signature", "model.sig: not listed in SHA256SUMS", entry(f"{NETWORK}/model.sig", b"x")),
    ("symlink", "is a symbolic link, not a regular file", entry(f"{NETWORK}/x", kind=tarfile.SYMTYPE, link="/etc")),
    (
        "hard_link",
        "is a hard link, not a regular file",
        entry(f"{NETWORK}/x", kind=tarfile.LNKTYPE, link="/etc/passwd"),
    ),
    ("pipe", "is a pipe, not a regular file", entry(f"{NETWORK}/x", kind=tarfile.FIFOTYPE)),
    ("character_device", "is a device, not a regular file", entry(f"{NETWORK}/x", kind=tarfile.CHRTYPE)),
    ("block_device", "is a device, not a regular file", entry(f"{NETWORK}/x", kind=tarfile.BLKTYPE)),
    ("folder", "is a folder, not a regular file", entry(f"{NETWORK}/x", kind=tarfile.DIRTYPE)),
    ("contiguous", "is an extension of the format", entry(f"{NETWORK}/x", b"x", tarfile.CONTTYPE)),
    ("sparse", "is an extension of the format", entry(f"{NETWORK}/x", b"x", tarfile.GNUTYPE_SPARSE)),
):
    _entries(_name, _says, lambda entries, more=_more: entries.append(more))


def _as_root(entries: list[Entry]) -> None:
    entries[0][0].mode = 0o4755


_entries("setuid", "would run as another user", _as_root)
_entries("empty", "SHA256SUMS: missing", lambda entries: entries.clear())
_entries("no_sums", "SHA256SUMS: missing", lambda entries: entries.__delitem__(1))
_entries("member_missing", "missing", lambda entries: entries.pop())
_entries("gnu", "a header that is not ustar's", lambda entries: None, tarfile.GNU_FORMAT)


def _pax(entries: list[Entry]) -> None:
    entries[0][0].pax_headers = {"path": "/etc/passwd"}


_entries("pax", "is an extension of the format", _pax, tarfile.PAX_FORMAT)


def _many(entries: list[Entry]) -> None:
    entries[:] = [entry(f"{NETWORK}/{number}") for number in range(201)]


_entries("many_members", "more than 200 files", _many)


def _change(entries: list[Entry]) -> None:
    info, data = entries[-1]
    entries[-1] = (info, bytes(len(data)))


_entries("changed", "changed: its sha256 is not the one in SHA256SUMS", _change)


def _large(entries: list[Entry]) -> None:
    entries.append(entry(f"{NETWORK}/zeros", bytes(16 << 20)))


_entries("bomb", "a decompression bomb", _large)


def _header(plain: bytes, at: int, value: bytes) -> bytes:
    """The tar with another first header, whose checksum is right."""
    header = bytearray(plain[:512])
    header[at : at + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header) + plain[512:]


def _packed(plain: bytes) -> bytes:
    return gzip.compress(plain, mtime=0)


_bytes("no_gzip", "damaged", lambda _, plain: plain)
_bytes("empty_file", "damaged: it is cut short", lambda *_: b"")
_bytes("cut", "damaged: it is cut short", lambda packed, _: packed[: len(packed) // 2])
_bytes("cut_before_checksum", "damaged: it is cut short", lambda packed, _: packed[:-8])
_bytes("wrong_checksum", "damaged", lambda packed, _: packed[:-8] + bytes(4) + packed[-4:])
_bytes("trailing_garbage", "something follows the end of the compressed data", lambda packed, _: packed + b"#!/bin/sh")
_bytes("trailing_zeros", "something follows the end of the compressed data", lambda packed, _: packed + bytes(512))
_bytes("two_members", "something follows the end of the compressed data", lambda packed, _: packed + packed)
_bytes("split_in_two", "something follows the end", lambda _, plain: _packed(plain + b"x"))
_bytes("second_tar", "something follows the end of the archive", lambda _, plain: _packed(plain + plain))
_bytes("tar_cut", "damaged: it is cut short", lambda _, plain: _packed(plain[: len(plain) // 1024 * 512]))
_bytes("tar_without_end", "damaged: it is cut short", lambda _, plain: _packed(plain.rstrip(b"\0").ljust(512, b"\0")))
_bytes("no_tar", "a header that is not ustar's", lambda *_: _packed(b"hello" * 1000))
_bytes("header_checksum", "a header with a wrong checksum", lambda _, plain: _packed(b"X" + plain[1:]))
_bytes(
    "negative_size",
    "a header with a number that cannot be read",
    lambda _, p: _packed(_header(p, 124, b"-0000000001\0")),
)
_bytes(
    "base256_size",
    "a header with a number that cannot be read",
    lambda _, p: _packed(_header(p, 124, b"\x80" + bytes(11))),
)
_bytes("endless_size", "larger than", lambda _, plain: _packed(_header(plain, 124, b"77777777777\0")))
_bytes("name_after_nul", "a name that goes on after its end", lambda _, plain: _packed(_header(plain, 90, b"evil")))
_bytes(
    "link_name", "a regular file with the name of a link", lambda _, plain: _packed(_header(plain, 157, b"/etc/passwd"))
)
_bytes("zlib", "damaged", lambda _, plain: zlib.compress(plain))


def _wrong_name(release: Path) -> Path:
    path = release.parent / "cifar10_resnet56-1.0.0.tar.gz"
    path.write_bytes((release / ARCHIVE).read_bytes())
    return path


CASES.append(Case("archive_of_another_network", _wrong_name, f"holds what is called {ARCHIVE}"))


def _bomb(release: Path) -> Path:
    """Ten gigabytes in ten megabytes."""
    squeeze = zlib.compressobj(9, wbits=31)
    block = squeeze.compress(tar([entry(f"{NETWORK}/x", b"")])[:512]) + squeeze.flush(zlib.Z_FULL_FLUSH)
    zeros = squeeze.compress(bytes(16 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return _write(release, block + zeros * 640)


CASES.append(Case("archive_bomb_after_the_end", _bomb, "a decompression bomb"))
