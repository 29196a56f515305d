"""A release in one .tar.gz: headers and gzip members, read and unpacked by the standalone verifier."""

import gzip
import io
import shutil
import tarfile

import atheris
from harness import fuzz, memory_folder

with atheris.instrument_imports(include=["cifar_export.release.check.verify"]):
    from cifar_export.release.check import verify

FOLDER = memory_folder()


def target(data: bytes) -> None:
    archive, inside, beside = FOLDER / "a.tar.gz", FOLDER / "in", FOLDER / "beside"
    # the first byte says whether the rest is packed already: mutations of packed bytes seldom get past the checksum
    archive.write_bytes(data[1:] if data[:1] == b"\0" else gzip.compress(data[1:], 1, mtime=0))
    inside.mkdir()
    try:
        verify.verify(archive)
        verify.extract(archive, inside / "out")
    finally:
        shutil.rmtree(inside)
        if beside.exists():
            raise AssertionError("something was unpacked elsewhere")


def packed(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


PLAIN = packed(("1.0.0/SHA256SUMS", b""), ("1.0.0/index.json", b"{}"))
SEEDS = (b"\1" + PLAIN, b"\0" + gzip.compress(PLAIN, mtime=0), b"\1" + packed(("../beside", b"x")), b"\1")
fuzz("archive", target, SEEDS, (OSError, ValueError))
