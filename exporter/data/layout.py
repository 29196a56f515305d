"""Where the two data sets' files lie and what a record looks like: the official layouts, as data.

Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version" and "Python version".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..networks.zoo import CIFAR10, CIFAR100, IMAGE_SIZE, DatasetSpec

SplitName = Literal["train", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "test")

PIXEL_BYTES = 3 * IMAGE_SIZE * IMAGE_SIZE
"""Bytes of one image: 1,024 red, then 1,024 green, then 1,024 blue, row by row."""


@dataclass(frozen=True)
class BinaryLayout:
    """The binary version: records of `label_limits` label bytes (the last is the class) and `PIXEL_BYTES` pixels.

    `label_limits` holds, per label byte, the number of its values.
    """

    folder: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    label_limits: tuple[int, ...]
    text_files: tuple[str, ...]

    @property
    def record_bytes(self) -> int:
        """Bytes of one record: 3,073 (CIFAR-10) or 3,074 (CIFAR-100)."""
        return len(self.label_limits) + PIXEL_BYTES

    def files(self, split: SplitName) -> tuple[str, ...]:
        """File names of `split`, in record order, without the folder."""
        return self.train_files if split == "train" else self.test_files


@dataclass(frozen=True)
class PythonLayout:
    """The Python version, as torchvision unpacks it: pickled dictionaries, with their published md5s by file name."""

    folder: str
    train_md5: dict[str, str]
    test_md5: dict[str, str]
    label_key: bytes
    other_files: tuple[str, ...]

    def files(self, split: SplitName) -> dict[str, str]:
        """md5 by file name of `split`, in record order, without the folder."""
        return self.train_md5 if split == "train" else self.test_md5


BINARY: dict[str, BinaryLayout] = {
    CIFAR10.name: BinaryLayout(
        folder="cifar-10-batches-bin",
        train_files=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        test_files=("test_batch.bin",),
        label_limits=(10,),
        text_files=("batches.meta.txt", "readme.html"),
    ),
    CIFAR100.name: BinaryLayout(
        folder="cifar-100-binary",
        train_files=("train.bin",),
        test_files=("test.bin",),
        label_limits=(20, 100),
        text_files=("coarse_label_names.txt", "fine_label_names.txt"),
    ),
}

# The md5s stand in torchvision/datasets/cifar.py (train_list, test_list).
PYTHON: dict[str, PythonLayout] = {
    CIFAR10.name: PythonLayout(
        folder="cifar-10-batches-py",
        train_md5={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test_md5={"test_batch": "40351d587109b95175f43aff81a1287e"},
        label_key=b"labels",
        other_files=("batches.meta", "readme.html"),
    ),
    CIFAR100.name: PythonLayout(
        folder="cifar-100-python",
        train_md5={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test_md5={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        label_key=b"fine_labels",
        other_files=("meta", "file.txt~"),
    ),
}


def image_count(dataset: DatasetSpec, split: SplitName) -> int:
    """Return the number of images of `split`."""
    return dataset.train_images if split == "train" else dataset.test_images


def binary_paths(data_dir: Path, dataset: DatasetSpec, split: SplitName) -> list[Path]:
    """List the binary version's files of `split` under `data_dir`, in record order, whether they exist or not."""
    layout = BINARY[dataset.name]
    return [data_dir / layout.folder / name for name in layout.files(split)]


def python_paths(data_dir: Path, dataset: DatasetSpec, split: SplitName) -> list[Path]:
    """List the Python version's files of `split` under `data_dir`, in record order, whether they exist or not."""
    layout = PYTHON[dataset.name]
    return [data_dir / layout.folder / name for name in layout.files(split)]
