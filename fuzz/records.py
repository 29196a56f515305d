"""A data set of one's own, and CIFAR's: labels and records."""

import atheris
from harness import fuzz, memory_folder

with atheris.instrument_imports(include=["cifar_export.data"]):
    from cifar_export.data.folder import read_own
    from cifar_export.data.reader import read_records

from cifar_export.errors import CifarExportError
from cifar_export.networks.zoo import CIFAR100

FOLDER = memory_folder() / "mine"
FOLDER.mkdir()


def target(data: bytes) -> None:
    labels, _, records = data.partition(b"\0\0")
    (FOLDER / "labels.txt").write_bytes(labels)
    for name in ("train.bin", "test.bin"):
        (FOLDER / name).write_bytes(records)
    read_records(FOLDER / "train.bin", CIFAR100, 1) if len(labels) % 2 else read_own(FOLDER)


RECORD = bytes(3073)
SEEDS = (b"a\nb\0\0" + RECORD, b"a\nbc\0\0" + RECORD * 2, b"ab\0\0" + RECORD + b"\0")
fuzz("records", target, SEEDS, (CifarExportError,))
