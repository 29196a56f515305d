"""Data sets: random images, and files as others would have made them: torchvision folders, archives, a mirror."""

from __future__ import annotations

import hashlib
import io
import pickle  # noqa: TID251  # to write what the reader must read, and what it must refuse
import shutil
import struct
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_export.data import Split
from cifar_export.data.fetch import ARCHIVES, Archive
from cifar_export.data.layout import BINARY, PYTHON
from cifar_export.networks.zoo import DatasetSpec

Mirror = tuple[DatasetSpec, dict[str, bytes]]
"""The data set that a mirror holds, and its files by path."""


RECORDS = {  # folder, training files, test files, label bytes
    "cifar10": ("cifar-10-batches-bin", [f"data_batch_{i}.bin" for i in range(1, 6)], ["test_batch.bin"], 1),
    "cifar100": ("cifar-100-binary", ["train.bin"], ["test.bin"], 2),
}


def write_cifar(folder: Path, dataset: DatasetSpec, *, train: int = 200, test: int = 100, seed: int = 0) -> DatasetSpec:
    """Write a seeded data set in the binary layout; the spec that comes back tells its size."""
    rng = np.random.default_rng(seed)
    name, train_files, test_files, width = RECORDS[dataset.name]
    (folder / name).mkdir(parents=True, exist_ok=True)
    for files, count in ((train_files, train), (test_files, test)):
        fine = rng.permutation(np.arange(count) % dataset.classes).astype(np.uint8)
        pixels = rng.integers(0, 256, (count, 3072), np.uint8)
        records = np.concatenate([fine[:, None] % 20, fine[:, None], pixels], 1)[:, 2 - width :]
        for file, part in zip(files, np.array_split(records, len(files)), strict=True):
            (folder / name / file).write_bytes(part.tobytes())
    return replace(dataset, train_images=train, test_images=test)


def noise(images: int, classes: int = 10) -> Split:
    """Seeded random pixels and labels."""
    rng = np.random.default_rng(0)
    return Split(rng.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8), rng.integers(0, classes, images))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def pickled(records: np.ndarray[Any, Any], dataset: DatasetSpec, python: int) -> bytes:
    """Pickle a batch (a dictionary with byte strings as keys and one array) as Python 2, the published way, or 3."""
    width = len(BINARY[dataset.name].label_limits)
    keys = [b"labels"] if width == 1 else [b"coarse_labels", b"fine_labels"]
    labels = {key: records[:, column].tolist() for column, key in enumerate(keys)}
    batch = {b"filenames": [b"leptodactylus_pentadactylus_s_000004.png"], **labels, b"data": records[:, width:].copy()}
    return python2_pickle(batch) if python == 2 else pickle.dumps(batch)


def python2_pickle(value: Any) -> bytes:
    """Protocol 2 as Python 2 and its numpy wrote it: `str` opcodes, and the module name of numpy 1."""

    def write(value: Any) -> bytes:
        if isinstance(value, bytes):
            return b"T" + struct.pack("<i", len(value)) + value
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        if isinstance(value, tuple):
            return b"(" + b"".join(map(write, value)) + b"t"
        if isinstance(value, list):
            return b"](" + b"".join(map(write, value)) + b"e"
        if isinstance(value, dict):
            return b"}(" + b"".join(write(key) + write(item) for key, item in value.items()) + b"u"
        dtype = b"cnumpy\ndtype\n" + write((b"u1", 0, 1)) + b"R(" + write(3) + write(b"|") + b"NNN"
        dtype += write(-1) + write(-1) + write(0) + b"tb"
        array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + write((0,)) + write(b"b") + b"tR"
        return array + b"(" + write(1) + write(value.shape) + dtype + b"\x89" + write(value.tobytes()) + b"tb"

    return b"\x80\x02" + write(value) + b"."


def to_python(folder: Path, dataset: DatasetSpec, monkeypatch: pytest.MonkeyPatch, python: int = 2) -> None:
    """Turn the binary version in `folder` into a torchvision folder whose md5s are the published ones."""
    layout, target = BINARY[dataset.name], PYTHON[dataset.name]
    (folder / target.folder).mkdir()
    tables = []
    for binary_files, names in ((layout.train_files, target.train_md5), (layout.test_files, target.test_md5)):
        table = {}
        for file, name in zip(binary_files, names, strict=True):
            raw = np.frombuffer((folder / layout.folder / file).read_bytes(), np.uint8)
            content = pickled(raw.reshape(-1, layout.record_bytes), dataset, python)
            (folder / target.folder / name).write_bytes(content)
            table[name] = hashlib.md5(content).hexdigest()
        tables.append(table)
    monkeypatch.setitem(PYTHON, dataset.name, replace(target, train_md5=tables[0], test_md5=tables[1]))
    shutil.rmtree(folder / layout.folder)


def pack(target: Path, members: list[tuple[tarfile.TarInfo | str, bytes]]) -> Path:
    """Write a .tar.gz of the members, in their order."""
    with tarfile.open(target, "w:gz", compresslevel=1) as tar:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return target


def folder_member(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


def declare_official(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = archive.read_bytes()
    official = Archive(archive.name, hashlib.md5(raw).hexdigest(), hashlib.sha256(raw).hexdigest())
    monkeypatch.setitem(ARCHIVES, "cifar10", official)
