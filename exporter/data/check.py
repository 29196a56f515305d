"""Say what stands in a data folder: complete or not, and the official bytes, the official records, or others.

Reading needs right sizes and labels only (`reader`), so this is what tells one set of bytes from another. The official
sha256 of each file are those that public readers of the binary version carry; the CIFAR-10 ones were compared with
files rebuilt from lossless images in the official order. `RECORDS` doesn't depend on the order of records, so it also
knows a copy whose images come in another order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import InvalidInput, from_os_error
from ..networks.zoo import DatasetSpec
from .layout import BINARY, PYTHON, SPLITS, SplitName, binary_paths, image_count, python_paths
from .reader import BadFile, md5_file, read_records

State = Literal["official", "reordered", "other", "incomplete"]

STATES: dict[State, str] = {
    "official": "complete, the official bytes",
    "reordered": "complete, not the official bytes: the same records in another order",
    "other": "complete, not the official bytes: other records",
    "incomplete": "not complete",
}

FileState = Literal["official", "other", "damaged", "missing"]

OFFICIAL_SHA256: dict[str, dict[str, str]] = {
    "cifar10": {
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
    "cifar100": {
        "train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
        "test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
    },
}

RECORDS: dict[tuple[str, str], str] = {
    ("cifar10", "train"): "55a61f79a40ece2ceda9fb5f9f7078f6ea2fc4952489cef56682bcf92cfcc260",
    ("cifar10", "test"): "325704b01eb92e1e2a6215ae6a916bb7db7de054af0c496be1c7be2e0fcfbf5f",
    ("cifar100", "train"): "7077d87fc363f92dbf1245f13ba80561d7b33a96c79ad57168d49dc172aaa92b",
    ("cifar100", "test"): "96adb3db8da7632dbb350559a17b9f585fab5b17675de5fc8f6761384196b294",
}
"""sha256 of the sorted sha256 digests of a split's records (label bytes and pixels), per data set and split."""


@dataclass(frozen=True)
class FileReport:
    """One file of the layout.

    `path`: under the data folder. `state`: "official" and "other" can be read; "other" has other bytes than the
    official ones. `damage`: what is wrong with the content of one that is "damaged".
    """

    path: str
    state: FileState
    damage: str | None = None

    @property
    def official(self) -> bool:
        """Whether it has the official bytes."""
        return self.state == "official"

    @property
    def problem(self) -> str | None:
        """Why it cannot be read, in words; None where it can."""
        return "not there" if self.state == "missing" else self.damage

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {"path": self.path, "problem": self.problem, "official": self.official}


@dataclass(frozen=True)
class DataReport:
    """What stands in `data_dir` of one data set.

    `layout` is the one that was looked at: "binary", or "python" where only torchvision's folder is complete; `folder`
    is its name under `data_dir`. `foreign` are the files in it that don't belong there. `uneven` has a line for each
    split with another number of images of a class than there should be.
    """

    dataset: str
    data_dir: Path
    layout: Literal["binary", "python"]
    folder: str
    state: State
    files: tuple[FileReport, ...]
    foreign: tuple[str, ...]
    uneven: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong, a line each."""
        lines = [f"{file.path}: {file.problem}" for file in self.files if file.problem]
        if all(file.state == "missing" for file in self.files):
            lines = [f"{self.folder}: not there"]
        return (*lines, *(f"{path}: does not belong here" for path in self.foreign), *self.uneven)

    @property
    def complete(self) -> bool:
        """Whether every image is there and can be read."""
        return self.state != "incomplete"

    @property
    def ok(self) -> bool:
        """Whether it is complete and nothing foreign lies beside it."""
        return self.complete and not self.foreign

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "dataset": self.dataset,
            "data_dir": str(self.data_dir),
            "layout": self.layout,
            "ok": self.ok,
            "state": self.state,
            "summary": STATES[self.state],
            "files": [file.as_dict() for file in self.files],
            "foreign": list(self.foreign),
            "problems": list(self.problems),
        }


def check(dataset: DatasetSpec, data_dir: Path) -> DataReport:
    """Look at everything that `data_dir` holds of `dataset`: about a second; nothing is changed.

    Missing and short files, labels out of range, wrong numbers of images per class and foreign files are reported, not
    raised. Raises `InvalidInput` or `Unavailable` for what the file system refuses.
    """
    try:
        if _only_python_is_there(dataset, data_dir):
            return _check_python(dataset, data_dir)
        return _check_binary(dataset, data_dir)
    except OSError as error:
        raise from_os_error(error, f"read {error.filename or data_dir}") from error


def _only_python_is_there(dataset: DatasetSpec, data_dir: Path) -> bool:
    binary = [path for split in SPLITS for path in binary_paths(data_dir, dataset, split)]
    python = [path for split in SPLITS for path in python_paths(data_dir, dataset, split)]
    return not all(path.is_file() for path in binary) and all(path.is_file() for path in python)


def _check_binary(dataset: DatasetSpec, data_dir: Path) -> DataReport:
    layout = BINARY[dataset.name]
    files: list[FileReport] = []
    uneven: list[str] = []
    states: list[State] = []
    for split in SPLITS:
        state, reports, wrong = _check_split(dataset, data_dir, split)
        states.append(state)
        files += reports
        uneven += [wrong] if wrong is not None else []
    known = {*layout.train_files, *layout.test_files, *layout.text_files}
    foreign = _foreign(data_dir, layout.folder, known)
    worst = max(states, key=list(STATES).index)
    return DataReport(dataset.name, data_dir, "binary", layout.folder, worst, tuple(files), foreign, tuple(uneven))


def _check_split(dataset: DatasetSpec, data_dir: Path, split: SplitName) -> tuple[State, list[FileReport], str | None]:
    """The state of a binary split, its files, and what is wrong with the numbers of images per class, if anything."""
    layout = BINARY[dataset.name]
    paths = binary_paths(data_dir, dataset, split)
    images = image_count(dataset, split)
    per_class = np.zeros(dataset.classes, np.int64)
    digests: list[bytes] = []
    files: list[FileReport] = []
    for path in paths:
        name = f"{layout.folder}/{path.name}"
        try:
            records = read_records(path, dataset, images // len(paths))
            per_class += np.bincount(records[:, len(layout.label_limits) - 1], minlength=dataset.classes)
            digests += [hashlib.sha256(record).digest() for record in records]
            official = hashlib.sha256(records.data).hexdigest() == OFFICIAL_SHA256[dataset.name][path.name]
            files.append(FileReport(name, "official" if official else "other"))
        except FileNotFoundError:
            files.append(FileReport(name, "missing"))
        except BadFile as error:
            files.append(FileReport(name, "damaged", error.problem))
    if any(file.problem for file in files):
        return "incomplete", files, None
    expected = images // dataset.classes
    wrong = np.flatnonzero(per_class != expected)
    if len(wrong):
        label, found = dataset.labels[wrong[0]], per_class[wrong[0]]
        more = f", and {len(wrong) - 1} more classes differ" if len(wrong) > 1 else ""
        return "incomplete", files, f"{split}: {found:,} images of {label}, {expected:,} expected{more}"
    if all(file.official for file in files):
        return "official", files, None
    same = hashlib.sha256(b"".join(sorted(digests))).hexdigest() == RECORDS[dataset.name, split]
    return ("reordered" if same else "other"), files, None


def _check_python(dataset: DatasetSpec, data_dir: Path) -> DataReport:
    """Check torchvision's folder: by the md5 of its files alone, for no others are ever read."""
    layout = PYTHON[dataset.name]
    files = []
    for name, expected in (layout.train_md5 | layout.test_md5).items():
        path = f"{layout.folder}/{name}"
        try:
            found = md5_file(data_dir / layout.folder / name)
        except InvalidInput as error:
            files.append(FileReport(path, "damaged", str(error)))
            continue
        if found == expected:
            files.append(FileReport(path, "official"))
        else:
            files.append(FileReport(path, "damaged", f"md5 {expected} expected, {found} found"))
    state: State = "official" if all(file.official for file in files) else "incomplete"
    known = {*layout.train_md5, *layout.test_md5, *layout.other_files}
    foreign = _foreign(data_dir, layout.folder, known)
    return DataReport(dataset.name, data_dir, "python", layout.folder, state, tuple(files), foreign)


def _foreign(data_dir: Path, folder: str, known: set[str]) -> tuple[str, ...]:
    """List what else lies in the folder; names with a leading dot are the file manager's."""
    if not (data_dir / folder).is_dir():
        return ()
    names = {path.name for path in (data_dir / folder).iterdir() if not path.name.startswith(".")}
    return tuple(f"{folder}/{name}" for name in sorted(names - known))
