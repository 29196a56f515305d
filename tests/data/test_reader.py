"""Reading the data sets, in the binary and in the Python version."""

from __future__ import annotations

import collections
import hashlib
import pickle  # noqa: TID251  # to write what the reader must read, and what it must refuse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_export.data import load_split
from cifar_export.data.layout import BINARY, PYTHON
from cifar_export.errors import InvalidInput, Unavailable
from cifar_export.networks.zoo import CIFAR10, CIFAR100, DATASETS, DatasetSpec

from support.data_files import to_python

Write = Callable[..., DatasetSpec]
both = pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))


@pytest.mark.parametrize("dataset", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])
def test_a_record_is_labels_then_red_green_blue_planes(tmp_path: Path, dataset: DatasetSpec) -> None:
    layout = BINARY[dataset.name]
    (tmp_path / layout.folder).mkdir()
    planes = bytes([10, 20]) + bytes(1022) + bytes([30]) + bytes(1023) + bytes([50]) + bytes(1022) + bytes([60])
    labels = {"cifar10": bytes([7]), "cifar100": bytes([3, 77])}[dataset.name]
    (tmp_path / layout.folder / layout.test_files[0]).write_bytes(labels + planes)
    split = load_split(tmp_path, replace(dataset, test_images=1), "test")
    assert split.labels.tolist() == [{"cifar10": 7, "cifar100": 77}[dataset.name]]
    assert split.images[0, 0, 0].tolist() == [10, 30, 50]
    assert split.images[0, 0, 1].tolist() == [20, 0, 0]
    assert split.images[0, 31, 31].tolist() == [0, 0, 60]
    assert split.images.sum() == 10 + 20 + 30 + 50 + 60


@both
def test_arrays_have_the_promised_form(tmp_path: Path, write_cifar: Write, dataset: DatasetSpec) -> None:
    spec = write_cifar(tmp_path, dataset)
    for name, count in (("train", 200), ("test", 100)):
        split = load_split(tmp_path, spec, name)
        assert (split.images.shape, split.images.dtype) == ((count, 32, 32, 3), np.uint8)
        assert split.images.flags.c_contiguous
        assert (split.labels.shape, split.labels.dtype) == ((count,), np.int64)
        assert set(split.labels.tolist()) == set(range(dataset.classes))


def test_training_batches_come_in_their_order(tmp_path: Path, write_cifar: Write) -> None:
    spec = write_cifar(tmp_path, CIFAR10)
    raw = b"".join((tmp_path / "cifar-10-batches-bin" / f"data_batch_{i}.bin").read_bytes() for i in range(1, 6))
    records = np.frombuffer(raw, np.uint8).reshape(-1, 3073)
    split = load_split(tmp_path, spec, "train")
    assert split.labels.tolist() == records[:, 0].tolist()
    assert (split.images[:, 0, 0, 0] == records[:, 1]).all()


@pytest.mark.data
@both
def test_the_real_data_sets(cifar_data: Path, dataset: DatasetSpec) -> None:
    for name, count in (("train", 50_000), ("test", 10_000)):
        split = load_split(cifar_data, dataset, name)
        assert split.images.shape == (count, 32, 32, 3)
        assert np.bincount(split.labels).tolist() == [count // dataset.classes] * dataset.classes


@pytest.mark.data
def test_the_published_mean_and_deviation_of_cifar100(cifar_data: Path) -> None:
    # as many projects quote them, to 8 digits: wrong pixels, or planes in another order, would show
    images = load_split(cifar_data, CIFAR100, "train").images.reshape(-1, 3)
    counts = np.stack([np.bincount(images[:, c], minlength=256) for c in range(3)])
    values = np.arange(256) / 255
    mean = counts @ values / len(images)
    std = np.sqrt(counts @ values**2 / len(images) - mean**2)
    assert np.allclose(mean, [0.50707516, 0.48654887, 0.44091784], rtol=0, atol=6e-9)
    assert np.allclose(std, [0.26733429, 0.25643846, 0.27615047], rtol=0, atol=6e-9)


@both
def test_nothing_there_names_the_command(tmp_path: Path, dataset: DatasetSpec) -> None:
    with pytest.raises(Unavailable) as caught:
        load_split(tmp_path / "none", dataset, "test")
    message = str(caught.value)
    assert f"cifar-export data fetch --dataset {dataset.name} --data-dir {tmp_path / 'none'}" in message
    assert "CIFAR_DATA" in message
    assert BINARY[dataset.name].test_files[0] in message
    assert not (tmp_path / "none").exists()


def test_the_inner_folder_is_recognized(tmp_path: Path, write_cifar: Write) -> None:
    spec = write_cifar(tmp_path, CIFAR10)
    with pytest.raises(Unavailable, match="is the inner folder") as caught:
        load_split(tmp_path / "cifar-10-batches-bin", spec, "train")
    assert str(tmp_path) in str(caught.value).split("parent, ")[1]


def test_one_split_is_enough_for_itself(tmp_path: Path, write_cifar: Write) -> None:
    spec = write_cifar(tmp_path, CIFAR10)
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    assert len(load_split(tmp_path, spec, "test").labels) == 100
    with pytest.raises(Unavailable, match=r"data_batch_3\.bin is missing"):
        load_split(tmp_path, spec, "train")


@pytest.mark.parametrize("size", [0, 1, 3073 * 100 - 1, 3073 * 100 + 1, 3074 * 100])
def test_a_wrong_size_is_named(tmp_path: Path, write_cifar: Write, size: int) -> None:
    spec = write_cifar(tmp_path, CIFAR10)
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(InvalidInput, match=f"307,300 bytes expected.*{size:,} found") as caught:
        load_split(tmp_path, spec, "test")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("dataset", "column", "limit"), [(CIFAR10, 0, 10), (CIFAR100, 0, 20), (CIFAR100, 1, 100)])
def test_a_label_out_of_range_is_named(
    tmp_path: Path, write_cifar: Write, dataset: DatasetSpec, column: int, limit: int
) -> None:
    spec = write_cifar(tmp_path, dataset)
    layout = BINARY[dataset.name]
    path = tmp_path / layout.folder / layout.test_files[0]
    raw = bytearray(path.read_bytes())
    raw[42 * layout.record_bytes + column] = limit
    path.write_bytes(raw)
    with pytest.raises(InvalidInput, match=f"record 42 has label {limit}, expected 0 to {limit - 1}") as caught:
        load_split(tmp_path, spec, "test")
    assert str(path) in str(caught.value)


# torchvision's folder


@pytest.mark.parametrize("python", [2, 3])
@both
def test_a_torchvision_folder_reads_alike(
    tmp_path: Path, write_cifar: Write, monkeypatch: pytest.MonkeyPatch, dataset: DatasetSpec, python: int
) -> None:
    spec = write_cifar(tmp_path, dataset)
    expected = {name: load_split(tmp_path, spec, name) for name in ("train", "test")}
    to_python(tmp_path, dataset, monkeypatch, python)
    for name, split in expected.items():
        found = load_split(tmp_path, spec, name)
        assert np.array_equal(found.images, split.images)
        assert np.array_equal(found.labels, split.labels)
        assert found.images.flags.c_contiguous


def test_the_md5s_are_those_of_torchvision() -> None:
    from torchvision.datasets import CIFAR10 as TORCHVISION_10
    from torchvision.datasets import CIFAR100 as TORCHVISION_100

    for dataset, theirs in ((CIFAR10, TORCHVISION_10), (CIFAR100, TORCHVISION_100)):
        ours = PYTHON[dataset.name]
        assert ours.folder == theirs.base_folder
        assert [list(pair) for pair in ours.train_md5.items()] == theirs.train_list
        assert [list(pair) for pair in ours.test_md5.items()] == theirs.test_list


class Harmful:
    """Unpickled in the ordinary way, this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


def test_another_pickle_is_not_even_opened(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(pickle.dumps({b"data": Harmful(tmp_path / "harm")}))
    with pytest.raises(InvalidInput, match="md5 40351d587109b95175f43aff81a1287e expected"):
        load_split(tmp_path, CIFAR10, "test")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "content",
    [
        lambda harm: Harmful(harm),
        lambda harm: {b"data": Harmful(harm), b"labels": [0]},
        lambda harm: {b"data": np.zeros((1, 3072), np.uint8), b"labels": collections.Counter()},
    ],
)
def test_even_a_published_pickle_may_build_nothing_but_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Callable[[Path], Any]
) -> None:
    folder, harm = tmp_path / "cifar-10-batches-py", tmp_path / "harm"
    folder.mkdir()
    raw = pickle.dumps(content(harm))
    (folder / "test_batch").write_bytes(raw)
    python = replace(PYTHON["cifar10"], test_md5={"test_batch": hashlib.md5(raw).hexdigest()})
    monkeypatch.setitem(PYTHON, "cifar10", python)
    with pytest.raises(InvalidInput, match="it asks for"):
        load_split(tmp_path, replace(CIFAR10, test_images=1), "test")
    assert not harm.exists()


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {b"data": np.zeros((1, 3072)), b"labels": [0]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]},
        {b"data": b"no array", b"labels": [0]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": [0, 1]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": [-1]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": ["x"]},
    ],
)
def test_a_pickle_of_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    raw = pickle.dumps(content)
    (folder / "test_batch").write_bytes(raw)
    python = replace(PYTHON["cifar10"], test_md5={"test_batch": hashlib.md5(raw).hexdigest()})
    monkeypatch.setitem(PYTHON, "cifar10", python)
    with pytest.raises(InvalidInput, match="test_batch"):
        load_split(tmp_path, replace(CIFAR10, test_images=1), "test")
