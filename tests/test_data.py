"""The data sets on disk: reading, checking and fetching them."""

from __future__ import annotations

import collections
import hashlib
import io
import json
import pickle  # noqa: TID251  # to write what the reader must read, and what it must refuse
import shutil
import struct
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import Server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cli
import exporter.data.check
import exporter.data.fetch
from exporter.data import load_split
from exporter.data.check import RECORDS, check
from exporter.data.fetch import ARCHIVES, Archive, fetch, unpack
from exporter.data.layout import BINARY, PYTHON
from exporter.errors import GateFailed, InvalidInput, Unavailable
from exporter.zoo import CIFAR10, CIFAR100, DATASETS, DatasetSpec

Write = Callable[..., DatasetSpec]
both = pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# Reading


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


# Checking


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
    monkeypatch.setitem(exporter.data.check.OFFICIAL_SHA256, "cifar100", table)
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
    missing, short, label = report.problems
    assert "not there" in missing
    assert "5 found" in short
    assert "record 1 has label 200" in label
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


# Fetching


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


@pytest.fixture
def mirror(
    tmp_path: Path, write_cifar: Write, http_server: Server, monkeypatch: pytest.MonkeyPatch
) -> tuple[DatasetSpec, dict[str, bytes]]:
    """A mirror of a tiny CIFAR-10 that has the official layout; its spec, and its files by path."""
    source = tmp_path / "source"
    spec = write_cifar(source, CIFAR10)
    files = contents(source)
    files["cifar-10-batches-bin/batches.meta.txt"] = "\n".join(CIFAR10.labels).encode()
    archive = pack(
        http_server.root / ARCHIVES["cifar10"].name, [(folder_member("cifar-10-batches-bin"), b""), *files.items()]
    )
    declare_official(archive, monkeypatch)
    monkeypatch.setenv("CIFAR_EXPORT_DATA_URL", http_server.url)
    return spec, files


def declare_official(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = archive.read_bytes()
    official = Archive(archive.name, hashlib.md5(raw).hexdigest(), hashlib.sha256(raw).hexdigest())
    monkeypatch.setitem(ARCHIVES, "cifar10", official)


Mirror = tuple[DatasetSpec, dict[str, bytes]]


def test_fetch_brings_the_whole_data_set(tmp_path: Path, mirror: Mirror, http_server: Server) -> None:
    spec, files = mirror
    seen: list[tuple[int, int | None]] = []
    report = fetch(spec, tmp_path / "data", progress=lambda done, total: seen.append((done, total)))
    assert report.fetched
    assert report.as_dict()["fetched"] is True
    assert report.as_dict()["ok"] is True
    assert contents(tmp_path / "data") == files  # and nothing else: no archive, no temporary files
    assert seen[-1][0] == seen[-1][1] == (http_server.root / ARCHIVES["cifar10"].name).stat().st_size
    assert len(load_split(tmp_path / "data", spec, "train").labels) == 200


def test_fetch_leaves_alone_what_is_complete(tmp_path: Path, mirror: Mirror, http_server: Server) -> None:
    spec, _ = mirror
    fetch(spec, tmp_path / "data")
    http_server.requests.clear()
    path = tmp_path / "data" / "cifar-10-batches-bin" / "test_batch.bin"
    records = np.fromfile(path, np.uint8).reshape(-1, 3073)
    path.write_bytes(records[::-1].tobytes())  # another record order is complete, too
    before = contents(tmp_path / "data")
    report = fetch(spec, tmp_path / "data")
    assert not report.fetched
    assert http_server.requests == []
    assert contents(tmp_path / "data") == before


def test_fetch_leaves_a_torchvision_folder_alone(
    tmp_path: Path, write_cifar: Write, http_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_cifar(tmp_path / "data", CIFAR10)
    to_python(tmp_path / "data", CIFAR10, monkeypatch)
    report = fetch(spec, tmp_path / "data", url=http_server.url)
    assert (report.fetched, report.data.layout) == (False, "python")
    assert http_server.requests == []


def test_fetch_repairs_and_keeps_foreign_files(tmp_path: Path, mirror: Mirror) -> None:
    spec, files = mirror
    folder = tmp_path / "data" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "test_batch.bin").write_bytes(b"short")
    (folder / "mine.txt").write_bytes(b"mine")
    report = fetch(spec, tmp_path / "data")
    assert report.fetched
    assert contents(tmp_path / "data") == {**files, "cifar-10-batches-bin/mine.txt": b"mine"}
    assert report.data.foreign == ("cifar-10-batches-bin/mine.txt",)


def test_an_archive_that_lies_there_is_used_and_kept(tmp_path: Path, mirror: Mirror, http_server: Server) -> None:
    spec, files = mirror
    (tmp_path / "data").mkdir()
    name = ARCHIVES["cifar10"].name
    shutil.copy(http_server.root / name, tmp_path / "data" / name)
    fetch(spec, tmp_path / "data", url="https://no.such.host.invalid/")
    assert contents(tmp_path / "data").keys() == {*files, name}


def test_fetch_goes_on_after_an_interruption(tmp_path: Path, mirror: Mirror, http_server: Server) -> None:
    spec, files = mirror

    def interrupt(done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(spec, tmp_path / "data", progress=interrupt)
    kept = contents(tmp_path / "data")[f"{ARCHIVES['cifar10'].name}.part"]
    fetch(spec, tmp_path / "data")
    assert http_server.ranges_asked == [None, f"bytes={len(kept)}-"]
    assert contents(tmp_path / "data") == files


def test_a_mirror_with_other_bytes_is_refused(tmp_path: Path, mirror: Mirror, http_server: Server) -> None:
    spec, _ = mirror
    archive = http_server.root / ARCHIVES["cifar10"].name
    raw = bytearray(archive.read_bytes())
    raw[len(raw) // 2] ^= 1
    archive.write_bytes(raw)
    with pytest.raises(GateFailed, match="sha256"):
        fetch(spec, tmp_path / "data")
    assert contents(tmp_path / "data") == {}


def test_the_published_md5_is_checked_as_well(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, _ = mirror
    monkeypatch.setitem(ARCHIVES, "cifar10", replace(ARCHIVES["cifar10"], md5="0" * 32))
    with pytest.raises(GateFailed, match="md5 0000"):
        fetch(spec, tmp_path / "data")


def test_offline_says_what_else_can_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.download.BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(Unavailable, match=r"no\.such\.host\.invalid") as caught:
        fetch(CIFAR100, tmp_path, url="https://no.such.host.invalid/~kriz")
    assert "https://no.such.host.invalid/~kriz/cifar-100-binary.tar.gz" in str(caught.value)
    assert f"put cifar-100-binary.tar.gz into {tmp_path}" in str(caught.value)
    assert "CIFAR_EXPORT_DATA_URL" in str(caught.value)


def test_the_published_digests() -> None:
    """As https://www.cs.toronto.edu/~kriz/cifar.html states them."""
    assert ARCHIVES["cifar10"].md5 == "c32a1d4ab5d03f1284b67883e8d87530"
    assert ARCHIVES["cifar100"].md5 == "03b5dce01913d631647c71ecec9e9cb8"
    assert exporter.data.fetch.OFFICIAL_URL == "https://www.cs.toronto.edu/~kriz/"


# Archives that want to do harm: the digest would stop them, and unpacking does not rely on it


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.devmajor, info.devminor = kind, 1, 3
    return info


TEST = "cifar-10-batches-bin/test_batch.bin"


@pytest.mark.parametrize(
    "member",
    [
        ("../escaped", b"x"),
        ("/tmp/escaped", b"x"),
        ("cifar-10-batches-bin/../../escaped", b"x"),
        ("cifar-10-batches-bin/..", b"x"),
        ("cifar-10-batches-bin/deeper/test_batch.bin", b"x"),
        ("elsewhere/test_batch.bin", b"x"),
        ("test_batch.bin", b"x"),
        (folder_member("elsewhere"), b""),
        (folder_member("cifar-10-batches-bin/.."), b""),
        (link(TEST, "/etc/hostname", tarfile.SYMTYPE), b""),
        (link("cifar-10-batches-bin", "/tmp", tarfile.SYMTYPE), b""),
        (link(TEST, "/etc/hostname", tarfile.LNKTYPE), b""),
        (special(TEST, tarfile.CHRTYPE), b""),
        (special(TEST, tarfile.BLKTYPE), b""),
        (special(TEST, tarfile.FIFOTYPE), b""),
        ("cifar-10-batches-bin/batches.meta.txt", bytes(1 << 17)),
        ("cifar-10-batches-bin/unknown.bin", bytes(1 << 17)),
        (TEST, bytes(307_299)),
        (TEST, bytes(307_301)),
    ],
    ids=lambda member: f"{getattr(member[0], 'name', member[0])}",
)
@pytest.mark.parametrize("first", [True, False])
def test_a_hostile_archive_changes_nothing(
    tmp_path: Path, mirror: Mirror, member: tuple[tarfile.TarInfo | str, bytes], first: bool
) -> None:
    spec, files = mirror
    others = [(name, content) for name, content in files.items() if name != TEST]
    members = [member, *others] if first else [*others, member]
    archive = pack(tmp_path / "hostile.tar.gz", members)
    data = tmp_path / "data"
    data.mkdir()
    before = contents(tmp_path)
    with pytest.raises(InvalidInput, match="is not the official archive"):
        unpack(archive, spec, data)
    assert list(data.iterdir()) == []
    assert contents(tmp_path) == before


def test_a_member_that_comes_twice_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    spec, files = mirror
    archive = pack(tmp_path / "twice.tar.gz", [*files.items(), (TEST, bytes(307_300))])
    with pytest.raises(InvalidInput, match="comes twice"):
        unpack(archive, spec, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_an_endless_archive_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    spec, files = mirror
    many = [(f"cifar-10-batches-bin/{i}", b"") for i in range(100)]
    archive = pack(tmp_path / "many.tar.gz", [*many, *files.items()])
    with pytest.raises(InvalidInput, match="more than 64 members"):
        unpack(archive, spec, tmp_path / "data")


def test_a_small_unknown_file_is_passed_over(tmp_path: Path, mirror: Mirror) -> None:
    spec, files = mirror
    archive = pack(tmp_path / "more.tar.gz", [("cifar-10-batches-bin/notes", b"x"), *files.items()])
    unpack(archive, spec, tmp_path / "data")
    assert contents(tmp_path / "data") == files


@pytest.mark.parametrize("missing", [TEST, "cifar-10-batches-bin/data_batch_5.bin"])
def test_an_archive_that_lacks_a_file(tmp_path: Path, mirror: Mirror, missing: str) -> None:
    spec, files = mirror
    archive = pack(tmp_path / "less.tar.gz", [item for item in files.items() if item[0] != missing])
    with pytest.raises(InvalidInput, match=f"{Path(missing).name} missing"):
        unpack(archive, spec, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999])
def test_a_truncated_archive(tmp_path: Path, mirror: Mirror, http_server: Server, keep: float) -> None:
    spec, _ = mirror
    raw = (http_server.root / ARCHIVES["cifar10"].name).read_bytes()
    archive = tmp_path / "short.tar.gz"
    archive.write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(InvalidInput, match="is damaged"):
        unpack(archive, spec, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_something_else_than_an_archive(tmp_path: Path) -> None:
    (tmp_path / "page.tar.gz").write_bytes(b"<html>please log in</html>" * 100)
    with pytest.raises(InvalidInput, match="is damaged"):
        unpack(tmp_path / "page.tar.gz", CIFAR10, tmp_path / "data")


def test_a_full_disk_while_unpacking_leaves_the_old_files(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    spec, files = mirror
    folder = tmp_path / "data" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "test_batch.bin").write_bytes(b"short")

    def full(source: Any, target: Any) -> None:
        target.write(source.read(1000))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", full)
        with pytest.raises(Unavailable, match="No space left on device"):
            fetch(spec, tmp_path / "data")
    name = ARCHIVES["cifar10"].name
    assert contents(tmp_path / "data").keys() == {"cifar-10-batches-bin/test_batch.bin", name}  # no second download
    assert (folder / "test_batch.bin").read_bytes() == b"short"
    fetch(spec, tmp_path / "data", url="https://no.such.host.invalid/")
    assert files.items() <= contents(tmp_path / "data").items()


def test_a_data_folder_that_is_a_file(tmp_path: Path, mirror: Mirror) -> None:
    spec, _ = mirror
    (tmp_path / "taken").write_text("")
    with pytest.raises(InvalidInput, match="taken"):
        fetch(spec, tmp_path / "taken")


# Commands


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `cifar-export data ...` in this process."""
    monkeypatch.delenv("CIFAR_DATA", raising=False)
    return lambda *args: CliRunner().invoke(cli.main, ["data", *map(str, args)])


@pytest.fixture
def tiny(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> DatasetSpec:
    """The mirror's data set, known to commands as cifar10."""
    monkeypatch.setitem(DATASETS, "cifar10", mirror[0])
    return mirror[0]


def test_fetch_then_check_by_command(tmp_path: Path, tiny: DatasetSpec, run: Callable[..., Result]) -> None:
    options = ("--dataset", "cifar10", "--data-dir", tmp_path / "data")
    first, second = (json.loads(run("fetch", *options, "--json").stdout)["datasets"] for _ in range(2))
    assert [report["fetched"] for report in (*first, *second)] == [True, False]
    assert "already there; complete" in run("fetch", *options).stdout
    checked = run("check", *options, "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["ok"] is True
    assert json.loads(checked.stdout)["datasets"][0]["state"] == "other"
    assert "complete, not the official bytes" in run("check", *options).stdout


def test_check_ends_with_1_and_the_next_step(tmp_path: Path, tiny: DatasetSpec, run: Callable[..., Result]) -> None:
    options = ("--dataset", "cifar10", "--data-dir", tmp_path / "data")
    run("fetch", *options)
    (tmp_path / "data" / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    result = run("check", *options)
    assert result.exit_code == 1
    assert "error: cifar-10-batches-bin/test_batch.bin: not there" in result.stderr
    assert f"cifar-export data fetch --dataset cifar10 --data-dir {tmp_path / 'data'}" in result.stderr
    document = json.loads(run("check", *options, "--json").stdout)
    assert (document["ok"], document["datasets"][0]["state"]) == (False, "incomplete")


def test_check_covers_both_data_sets_unless_told(tmp_path: Path, run: Callable[..., Result]) -> None:
    result = run("check", "--data-dir", tmp_path, "--json")
    assert result.exit_code == 1
    assert [report["dataset"] for report in json.loads(result.stdout)["datasets"]] == ["cifar10", "cifar100"]


def test_the_folder_comes_from_the_environment_or_is_data(
    tmp_path: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(run("check", "--json").stdout)["datasets"][0]["data_dir"] == "data"
    monkeypatch.setenv("CIFAR_DATA", str(tmp_path / "elsewhere"))
    assert json.loads(run("check", "--json").stdout)["datasets"][0]["data_dir"] == str(tmp_path / "elsewhere")


def test_fetch_offline_ends_with_3(tmp_path: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.download.BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("CIFAR_EXPORT_DATA_URL", "https://no.such.host.invalid")
    result = run("fetch", "--data-dir", tmp_path)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.startswith("error: cannot download https://no.such.host.invalid/cifar-10-binary.tar.gz")
    assert len(result.stderr.splitlines()) == 2


def test_ctrl_c_while_fetching_says_that_the_part_is_kept(
    tmp_path: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("exporter.data.fetch.fetch", interrupt)
    result = run("fetch", "--data-dir", tmp_path)
    assert result.exit_code == 130
    assert "is kept" in result.stderr
