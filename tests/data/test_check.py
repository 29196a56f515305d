"""Telling what stands in a data folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cifar_export.data.check
import cifar_export.data.fetch
from cifar_export.data.check import RECORDS, check
from cifar_export.data.layout import BINARY
from cifar_export.networks.zoo import CIFAR10, CIFAR100, DATASETS, DatasetSpec

from support.data_files import to_python

Write = Callable[..., DatasetSpec]


@pytest.mark.data
def test_the_real_data_sets_are_known(cifar_data: Path) -> None:
    for dataset in DATASETS.values():
        report = check(dataset, cifar_data)
        assert report.ok
        assert report.state in ("official", "reordered")
        assert report.problems == ()


@pytest.fixture
def official(tmp_path: Path, write_cifar: Write, monkeypatch: pytest.MonkeyPatch) -> DatasetSpec:
    """A tiny CIFAR-100 in tmp_path whose bytes are declared the official ones."""
    spec = write_cifar(tmp_path, CIFAR100)
    layout = BINARY["cifar100"]
    table = {}
    for split, (name,) in (("train", layout.train_files), ("test", layout.test_files)):
        raw = (tmp_path / layout.folder / name).read_bytes()
        table[name] = hashlib.sha256(raw).hexdigest()
        records = [raw[i : i + 3074] for i in range(0, len(raw), 3074)]
        of_records = hashlib.sha256(b"".join(sorted(hashlib.sha256(r).digest() for r in records))).hexdigest()
        monkeypatch.setitem(RECORDS, ("cifar100", split), of_records)
    monkeypatch.setitem(cifar_export.data.check.OFFICIAL_SHA256, "cifar100", table)
    return spec


def test_official_bytes(tmp_path: Path, official: DatasetSpec) -> None:
    report = check(official, tmp_path)
    assert (report.state, report.ok, report.layout) == ("official", True, "binary")
    assert all(file.official for file in report.files)
    document = json.loads(json.dumps(report.as_dict()))
    assert document["ok"] is True
    assert document["summary"] == "complete, the official bytes"
    assert [file["problem"] for file in document["files"]] == [None, None]


def test_another_order_of_records_is_complete(tmp_path: Path, official: DatasetSpec) -> None:
    path = tmp_path / "cifar-100-binary" / "train.bin"
    records = np.fromfile(path, np.uint8).reshape(-1, 3074)
    path.write_bytes(np.random.default_rng(1).permutation(records).tobytes())
    report = check(official, tmp_path)
    assert (report.state, report.ok) == ("reordered", True)
    assert [file.official for file in report.files] == [False, True]


def test_other_pixels_are_complete_and_not_official(tmp_path: Path, official: DatasetSpec) -> None:
    path = tmp_path / "cifar-100-binary" / "train.bin"
    raw = bytearray(path.read_bytes())
    raw[2000] ^= 1
    path.write_bytes(raw)
    report = check(official, tmp_path)
    assert (report.state, report.ok) == ("other", True)


def test_swapped_labels_of_two_images_are_noticed(tmp_path: Path, official: DatasetSpec) -> None:
    path = tmp_path / "cifar-100-binary" / "train.bin"
    records = np.fromfile(path, np.uint8).reshape(-1, 3074)
    records[[0, 1], :2] = records[[1, 0], :2]
    path.write_bytes(records.tobytes())
    assert check(official, tmp_path).state == "other"


def test_uneven_classes_are_not_complete(tmp_path: Path, official: DatasetSpec) -> None:
    path = tmp_path / "cifar-100-binary" / "test.bin"
    records = np.fromfile(path, np.uint8).reshape(-1, 3074)
    apple, worm = (records[:, 1] == label for label in (0, 99))
    records[worm] = records[apple]
    path.write_bytes(records.tobytes())
    report = check(official, tmp_path)
    assert (report.state, report.ok) == ("incomplete", False)
    assert report.problems == ("test: 2 images of apple, 1 expected, and 1 more classes differ",)


def test_missing_short_and_bad_files_are_each_named(tmp_path: Path, write_cifar: Write) -> None:
    spec = write_cifar(tmp_path, CIFAR10)
    folder = tmp_path / "cifar-10-batches-bin"
    (folder / "data_batch_1.bin").unlink()
    (folder / "data_batch_2.bin").write_bytes(b"short")
    raw = bytearray((folder / "test_batch.bin").read_bytes())
    raw[3073] = 200
    (folder / "test_batch.bin").write_bytes(raw)
    report = check(spec, tmp_path)
    assert not report.ok
    assert report.state == "incomplete"
    assert [problem.split(": ")[0] for problem in report.problems] == [
        f"cifar-10-batches-bin/{name}.bin" for name in ("data_batch_1", "data_batch_2", "test_batch")
    ]
    states = {file.path.partition("/")[2]: file.state for file in report.files}
    assert states.pop("data_batch_1.bin") == "missing"
    assert {states.pop("data_batch_2.bin"), states.pop("test_batch.bin")} == {"damaged"}
    assert set(states.values()) == {"other"}
    missing, short, label = report.problems
    assert missing.endswith(": not there")
    assert short.endswith(", 5 found")
    assert "record 1 has label 200" in label
    assert [file["problem"] is None for file in report.as_dict()["files"]] == [False, False, True, True, True, False]
    assert all("\n" not in problem for problem in report.problems)


def test_foreign_files_are_not_ok(tmp_path: Path, official: DatasetSpec) -> None:
    folder = tmp_path / "cifar-100-binary"
    (folder / "fine_label_names.txt").write_text("")  # belongs there
    (folder / ".DS_Store").write_text("")  # so do these, on a Mac
    assert check(official, tmp_path).ok
    (folder / "train2.bin").write_text("")
    (folder / "more").mkdir()
    report = check(official, tmp_path)
    assert report.complete
    assert not report.ok
    assert report.foreign == ("cifar-100-binary/more", "cifar-100-binary/train2.bin")
    assert all(path in "\n".join(report.problems) for path in report.foreign)


def test_nothing_there_is_incomplete(tmp_path: Path) -> None:
    report = check(CIFAR10, tmp_path / "none")
    assert (report.state, report.ok) == ("incomplete", False)
    assert report.problems == ("cifar-10-batches-bin: not there",)
    assert [file.problem for file in report.files] == ["not there"] * 6


def test_the_binary_version_comes_first(tmp_path: Path, write_cifar: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write_cifar(tmp_path, CIFAR10)
    to_python(tmp_path, CIFAR10, monkeypatch)
    write_cifar(tmp_path, CIFAR10)
    assert check(spec, tmp_path).layout == "binary"


def test_a_torchvision_folder_is_checked_by_md5(
    tmp_path: Path, write_cifar: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_cifar(tmp_path, CIFAR10)
    to_python(tmp_path, CIFAR10, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "batches.meta").write_text("")
    report = check(spec, tmp_path)
    assert (report.layout, report.state, report.ok) == ("python", "official", True)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(path.read_bytes() + b"x")
    report = check(spec, tmp_path)
    assert (report.state, report.ok) == ("incomplete", False)
    assert "data_batch_2: md5" in report.problems[0]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 100 * 3074 - 1), value=st.integers(0, 255))
def test_no_changed_byte_stays_official(tmp_path: Path, official: DatasetSpec, position: int, value: int) -> None:
    path = tmp_path / "cifar-100-binary" / "test.bin"
    before = path.read_bytes()
    raw = bytearray(before)
    raw[position] = value
    path.write_bytes(raw)
    state = check(official, tmp_path).state
    path.write_bytes(before)
    assert (state == "official") == (raw == before)
    assert state != "reordered"
