"""Archives whose bytes depend on their files and one date only: tar in ustar format, gzip with a bare header."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from .sums import files_below

_LEVEL = 9


def write_archive(folder: Path, prefix: str, path: Path, epoch: int) -> None:
    """Pack the files below `folder`, as `prefix`/..., into the .tar.gz file `path`.

    Files are sorted, owned by 0:0 without a name, mode 0644, dated `epoch` (seconds since 1970). There are no entries
    for folders. Raises OSError.
    """
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", _LEVEL, raw, mtime=epoch) as zipped,
        tarfile.open(mode="w", fileobj=zipped, format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in files_below(folder):
            data = (folder / name).read_bytes()
            info = tarfile.TarInfo(f"{prefix}/{name}")
            info.size, info.mtime, info.mode = len(data), epoch, 0o644
            archive.addfile(info, io.BytesIO(data))
