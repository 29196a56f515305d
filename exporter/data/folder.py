"""A data set of one's own: a folder of pictures by label, or one of records in CIFAR-10's layout.

Pictures, as torchvision's ImageFolder has them; pictures of any size become 32×32 as `pictures` says, and those in
folders below count, too:

    DIR/train/<label>/*.png, *.jpg, *.jpeg, *.webp, *.ppm
    DIR/test/<label>/...

Records, for what is decoded already: a label byte, then 1,024 bytes each of red, green and blue, row by row:

    DIR/labels.txt (one a line, in index order)   DIR/train.bin   DIR/test.bin

Pictures are decoded once, into a file under the cache folder that holds as long as names, sizes and times of the
pictures stay; labels are in order of their folders' names.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import CifarExportError, InvalidInput, from_os_error
from ..networks.labels import read_labels, require_labels
from ..networks.zoo import DATASETS, IMAGE_SIZE, DatasetSpec, Normalization
from ..system.download import cache_folder
from ..system.files import sha256_bytes, staged
from ..system.outside import open_regular
from .layout import PIXEL_BYTES, SPLITS, SplitName
from .pictures import SUFFIXES, NotAPicture, read_picture
from .split import Split

LABELS = "labels.txt"
MAX_RECORDS_BYTES = 1 << 34  # five million images
_RECORD_LABELS = 256  # a label is a byte there
_KINDS = ", ".join(SUFFIXES)
_THREADS = 4
_SHOWN = 3  # bad pictures that an error names
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class OwnData:
    """A data set that was read: what it is, both splits, and `sha256`, which changes with any image or label."""

    spec: DatasetSpec
    splits: dict[SplitName, Split]
    sha256: str


def read_own(folder: Path, progress: Progress | None = None) -> OwnData:
    """Read the data set in `folder`; its normalization is measured from the training images.

    `progress` gets (pictures decoded, all pictures). Raises `InvalidInput` where it is no such data set, naming what is
    wrong and where.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder}: no data set of ours and no folder. {_HOW}")
    if (folder / LABELS).exists():
        if (folder / "train").is_dir() and not (folder / "train.bin").exists():
            raise InvalidInput(
                f"{folder} has pictures by label, and {LABELS}, which is for records. The labels of pictures are the "
                f"names of their folders, in order: remove {LABELS}."
            )
        labels = read_labels(folder / LABELS).labels
        splits = {split: _read_records(folder / f"{split}.bin", labels) for split in SPLITS}
    else:
        labels, files = _listed(folder)
        splits = _decoded(folder, labels, files, progress)
    mean, std = _measured(splits["train"].images)
    spec = DatasetSpec(
        name=_name_of(folder),
        title=folder.absolute().name,
        labels=labels,
        normalization=Normalization(mean, std),
        train_images=len(splits["train"].images),
        test_images=len(splits["test"].images),
        folder=folder.absolute(),
    )
    return OwnData(spec, splits, _content_sha256(labels, splits))


_HOW = (
    f"A data set of your own is a folder with train/<label>/*.png and test/<label>/*.png, "
    f"or with {LABELS}, train.bin and test.bin (docs/own-data.md)."
)


def _name_of(folder: Path) -> str:
    """Letters, digits, `-` and `_` of the folder's name: it goes into files' names."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.absolute().name).strip("-_")
    if not name:
        raise InvalidInput(f"{folder}: a data set is called as its folder. Give it a name of letters and digits.")
    return f"{name}-pictures" if name in DATASETS else name


def _listed(folder: Path) -> tuple[tuple[str, ...], dict[SplitName, list[tuple[Path, int]]]]:
    """The labels, and each split's pictures with their class, in order of name."""
    names: dict[SplitName, list[str]] = {}
    for split in SPLITS:
        try:
            names[split] = sorted(entry.name for entry in (folder / split).iterdir() if _counts(entry))
        except FileNotFoundError:
            raise InvalidInput(f"{folder}: there is no {split} folder in it. {_HOW}") from None
        except OSError as error:
            raise from_os_error(error, f"read {folder / split}") from error
    if len(names["train"]) < 2:
        found = f"{len(names['train'])} folder(s) of a label"
        raise InvalidInput(f"{folder / 'train'}: {found}, and a network tells two or more apart. {_HOW}")
    labels = require_labels(tuple(names["train"]), str(folder / "train"))
    unknown = sorted(set(names["test"]) - set(labels))
    if unknown:
        raise InvalidInput(f"{folder / 'test'}: the label {unknown[0]!r} is not in train. Give both the same labels.")
    files: dict[SplitName, list[tuple[Path, int]]] = {}
    for split in SPLITS:
        files[split] = [
            (path, index) for index, label in enumerate(labels) for path in _pictures(folder / split / label)
        ]
        if not files[split]:
            raise InvalidInput(f"{folder / split}: no pictures in its folders. Put {_KINDS} files there.")
    empty = sorted(set(range(len(labels))) - {index for _, index in files["train"]})
    if empty:
        lonely = folder / "train" / labels[empty[0]]
        raise InvalidInput(f"{lonely}: no pictures in this folder. Add {_KINDS} files, or remove it.")
    return labels, files


def _counts(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _pictures(folder: Path) -> Iterator[Path]:
    """The pictures in `folder` and in the folders below it, in order of name; hidden ones do not count."""
    if not folder.is_dir():
        return
    for parent, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(parent, name)


def _decoded(
    folder: Path,
    labels: tuple[str, ...],
    files: dict[SplitName, list[tuple[Path, int]]],
    progress: Progress | None,
) -> dict[SplitName, Split]:
    """Both splits, out of the cache where that was made of these very files."""
    listing = _listing_sha256(folder, labels, files)
    cache = cache_folder() / "datasets" / f"{sha256_bytes(str(folder.absolute()).encode())[:32]}.npz"
    splits = _from_cache(cache, listing, labels)
    if splits is None:
        splits = _decode(files, progress)
        arrays = {f"{split}_{part}": getattr(splits[split], part) for split in SPLITS for part in ("images", "labels")}
        arrays |= {"listing": np.array(listing), "sha256": np.array(_content_sha256(labels, splits))}
        # a cache that cannot be written costs time, and nothing else
        with contextlib.suppress(CifarExportError, OSError), staged(cache) as path, path.open("wb") as stream:
            np.savez(stream, **arrays)
    return splits


def _from_cache(cache: Path, listing: str, labels: tuple[str, ...]) -> dict[SplitName, Split] | None:
    try:
        with cache.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            if str(held["listing"]) != listing:
                return None
            splits = {split: Split(held[f"{split}_images"], held[f"{split}_labels"]) for split in SPLITS}
            return splits if str(held["sha256"]) == _content_sha256(labels, splits) else None
    except Exception:  # noqa: BLE001  whatever is wrong with it, the pictures are there; NumPy raises what it likes
        return None


def _decode(files: dict[SplitName, list[tuple[Path, int]]], progress: Progress | None) -> dict[SplitName, Split]:
    total = sum(map(len, files.values()))
    done = 0
    bad: list[str] = []
    splits: dict[SplitName, Split] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for split, listed in files.items():
            images = np.empty((len(listed), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
            for index, found in enumerate(pool.map(_read, (path for path, _ in listed))):
                if isinstance(found, str):
                    bad.append(found)
                else:
                    images[index] = found
                done += 1
                if progress is not None:
                    progress(done, total)
            splits[split] = Split(images, np.array([index for _, index in listed], np.int64))
    if bad:
        more = f" {len(bad) - _SHOWN:,} more are like that." if len(bad) > _SHOWN else ""
        raise InvalidInput(f"{'; '.join(text.rstrip('.') for text in bad[:_SHOWN])}.{more} Mend or remove them.")
    return splits


def _read(path: Path) -> NDArray[np.uint8] | str:
    try:
        return read_picture(path)
    except NotAPicture as error:
        return str(error)


def _read_records(path: Path, labels: tuple[str, ...]) -> Split:
    if len(labels) > _RECORD_LABELS:
        raise InvalidInput(f"{path.parent / LABELS}: {len(labels)} labels, but a record has one byte for its class.")
    width = 1 + PIXEL_BYTES
    with open_regular(path, MAX_RECORDS_BYTES) as stream:
        data = np.frombuffer(stream.read(), np.uint8)
    if not len(data) or len(data) % width:
        raise InvalidInput(f"{path}: {len(data):,} bytes are no whole number of records of {width:,} bytes.")
    records = data.reshape(-1, width)
    wrong = np.flatnonzero(records[:, 0] >= len(labels))
    if len(wrong):
        first = f"record {wrong[0]:,} has label {records[wrong[0], 0]}, expected 0 to {len(labels) - 1}"
        raise InvalidInput(f"{path}: {first}. Mend the file, or name more classes in {LABELS}.")
    images = records[:, 1:].reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE).transpose(0, 2, 3, 1)
    return Split(np.ascontiguousarray(images), records[:, 0].astype(np.int64))


def _measured(images: NDArray[np.uint8]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of each channel in 0..1, to four digits; a constant channel gets a deviation of 1."""
    mean, std = [], []
    for channel in range(3):
        counts = np.bincount(images[..., channel].ravel(), minlength=256) / images[..., channel].size
        values = np.arange(256) / 255
        middle = float((counts * values).sum())
        spread = float(np.sqrt((counts * (values - middle) ** 2).sum()))
        mean.append(round(middle, 4))
        std.append(round(spread, 4) or 1.0)
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _listing_sha256(folder: Path, labels: tuple[str, ...], files: dict[SplitName, list[tuple[Path, int]]]) -> str:
    """Of names, sizes and times: what says, without reading them, that the pictures are those of before."""
    digest = hashlib.sha256("\n".join(labels).encode(errors="surrogateescape"))
    for split, listed in files.items():
        for path, _ in listed:
            try:
                found = path.stat()
            except OSError as error:
                raise from_os_error(error, f"read {path}") from error
            line = f"\n{split}\0{path.relative_to(folder)}\0{found.st_size}\0{found.st_mtime_ns}"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _content_sha256(labels: tuple[str, ...], splits: dict[SplitName, Split]) -> str:
    digest = hashlib.sha256("\n".join(labels).encode())
    for split in SPLITS:
        digest.update(f"\n{split} {len(splits[split].labels)}\n".encode())
        digest.update(splits[split].labels.astype("<i8").tobytes())
        digest.update(np.ascontiguousarray(splits[split].images).data)
    return digest.hexdigest()
