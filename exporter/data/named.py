"""A data set by what a user calls it: its name, or the folder that it lies in."""

from __future__ import annotations

from pathlib import Path

from ..networks.zoo import DATASETS, DatasetSpec
from .folder import Progress, read_own


def dataset_named(name: str, progress: Progress | None = None) -> DatasetSpec:
    """`cifar10`, `cifar100`, or the data set of one's own in the folder `name`, which is read.

    `progress` gets (pictures decoded, all pictures). Raises `InvalidInput` for a folder that is no data set.
    """
    return DATASETS[name] if name in DATASETS else read_own(Path(name), progress).spec
