"""Read CIFAR into arrays: from the official binary version, or from a torchvision folder that is already there.

Sizes and label ranges are checked, checksums are not: the same images in another record order train and evaluate
alike (`cifar_export.data.check` tells the official bytes from others).
"""

from __future__ import annotations

import hashlib
import io
import pickle  # noqa: TID251  # only published bytes get here, through an unpickler that knows four names; see _Unpickler
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput, Unavailable, from_os_error
from ..networks.zoo import IMAGE_SIZE, DatasetSpec
from ..system.outside import open_regular, read_regular
from .folder import read_own
from .layout import BINARY, PIXEL_BYTES, PYTHON, SplitName, binary_paths, image_count, python_paths
from .split import Split

MAX_PICKLE_BYTES = 1 << 28
"""Of a file of torchvision's folder; the largest has 155 million."""
Labels = NDArray[np.integer[Any]]


class BadFile(InvalidInput):
    """A file of a data set that cannot be used: `problem` says why, without its name and the next step."""

    def __init__(self, path: Path, dataset: DatasetSpec, problem: str) -> None:
        fetch = f"cifar-export data fetch --dataset {dataset.name} --data-dir {path.parent.parent}"
        super().__init__(f"{path}: {problem}.\nGet the binary version: {fetch}")
        self.problem = problem


def load_split(data_dir: Path, dataset: DatasetSpec, split: SplitName) -> Split:
    """Load the whole `split` of `dataset` from `data_dir`, in record order.

    `data_dir` holds the binary version (`cifar-10-batches-bin`, `cifar-100-binary`) or, where that is not complete,
    torchvision's folder (`cifar-10-batches-py`, `cifar-100-python`). Raises `Unavailable` when neither is there, and
    `InvalidInput` naming the file when one has a wrong size, a label out of range, or is not the published pickle, and
    for a data set known by its labels alone. A data set of one's own is read from its own folder, see `folder`.
    """
    if dataset.folder is not None:
        return read_own(dataset.folder).splits[split]
    if dataset.name not in BINARY:
        raise InvalidInput(
            f"there are no images of {dataset.name}, only its labels, so no accuracy can be measured here. "
            "Name the folder of its pictures with --dataset."
        )
    read_file: Callable[[Path, DatasetSpec, int], tuple[Labels, NDArray[np.uint8]]]
    paths, read_file = binary_paths(data_dir, dataset, split), _read_binary
    missing = [path for path in paths if not path.is_file()]
    if missing:
        paths, read_file = python_paths(data_dir, dataset, split), _read_python
        if not all(path.is_file() for path in paths):
            raise Unavailable(_how_to_get(data_dir, dataset, missing[0]))
    count = image_count(dataset, split)
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    labels = np.empty(count, np.int64)
    part = count // len(paths)
    for index, path in enumerate(paths):
        where = slice(index * part, (index + 1) * part)
        try:
            labels[where], pixels = read_file(path, dataset, part)
        except OSError as error:
            raise from_os_error(error, f"read {path}") from error
        images[where] = pixels.reshape(part, 3, IMAGE_SIZE, IMAGE_SIZE).transpose(0, 2, 3, 1)
    return Split(images, labels)


def read_records(path: Path, dataset: DatasetSpec, count: int) -> NDArray[np.uint8]:
    """Read the `count` records of the binary file at `path`: uint8 (count, label bytes + 3,072), checked.

    Raises `BadFile` when its size is another or a label is out of range, and OSError.
    """
    layout = BINARY[dataset.name]
    expected, found = count * layout.record_bytes, path.stat().st_size
    if found != expected:
        problem = f"{expected:,} bytes expected ({count:,} records of {layout.record_bytes:,}), {found:,} found"
        raise BadFile(path, dataset, problem)
    records = np.fromfile(path, np.uint8).reshape(count, layout.record_bytes)
    for column, limit in enumerate(layout.label_limits):
        _check_labels(path, dataset, records[:, column], limit)
    return records


def md5_file(path: Path) -> str:
    """Return the hex md5 of the file at `path`. Raises `InvalidInput` for what is no such file at all, and OSError."""
    with open_regular(path, MAX_PICKLE_BYTES) as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _check_labels(path: Path, dataset: DatasetSpec, labels: Labels, limit: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= limit))
    if len(wrong):
        first = f"record {wrong[0]:,} has label {labels[wrong[0]]}, expected 0 to {limit - 1}"
        raise BadFile(path, dataset, f"{first} ({len(wrong):,} such records)")


def _read_binary(path: Path, dataset: DatasetSpec, count: int) -> tuple[Labels, NDArray[np.uint8]]:
    records = read_records(path, dataset, count)
    width = len(BINARY[dataset.name].label_limits)
    return records[:, width - 1], records[:, width:]


def _read_python(path: Path, dataset: DatasetSpec, count: int) -> tuple[Labels, NDArray[np.uint8]]:
    layout = PYTHON[dataset.name]
    published = (layout.train_md5 | layout.test_md5)[path.name]
    data = read_regular(path, MAX_PICKLE_BYTES)  # once, so that the bytes that were checked are those that are read
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != published:
        problem = f"md5 {published} expected, {found} found ({len(data):,} bytes), and other pickles are not read"
        raise BadFile(path, dataset, problem)
    try:
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        pixels, labels = content[b"data"], np.asarray(content[layout.label_key], np.int64)
    except (pickle.UnpicklingError, KeyError, TypeError, ValueError, EOFError) as error:
        raise BadFile(path, dataset, f"not a CIFAR batch: {error}") from error
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (count, PIXEL_BYTES):
        raise BadFile(path, dataset, f"uint8 pixels ({count}, {PIXEL_BYTES}) expected")
    if labels.shape != (count,):
        raise BadFile(path, dataset, f"{count:,} labels expected, {labels.size:,} found")
    _check_labels(path, dataset, labels, dataset.classes)
    return labels, pixels


class _Unpickler(pickle.Unpickler):
    """Knows the names that an array of bytes needs, and nothing else.

    Two locks: only bytes whose md5 torchvision publishes come here, and of those only what builds arrays is carried
    out. The md5 alone would do for files nobody forged; the names alone still let a hostile file drive numpy.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


# numpy 1 and 2 call the module `numpy.core` and `numpy._core`; the published files were written with the former.
_reconstruct = np.empty(0).__reduce__()[0]
_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def _how_to_get(data_dir: Path, dataset: DatasetSpec, missing: Path) -> str:
    if (data_dir / missing.name).is_file():
        return f"no {missing}: {data_dir} is the inner folder. Give its parent, {data_dir.absolute().parent}."
    return (
        f"no {dataset.title} in {data_dir}: {missing} is missing.\n"
        f"Get it: cifar-export data fetch --dataset {dataset.name} --data-dir {data_dir} "
        "(or point --data-dir or CIFAR_DATA to where it lies)."
    )
