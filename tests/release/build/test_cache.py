"""Finished networks in the cache: found again, never believed without proof, never in the way of a build."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_export.data import Split
from cifar_export.release.build.cache import NetworkCache, cache_key, source_digest
from cifar_export.release.required import NOTHING_MORE, Wanted
from cifar_export.weights.index import bundled_entries

from support.releases import fake_network

NAME = "cifar10_resnet20"
KEY = "ab" * 32
MEASURED = {"seconds": 1.25, "runtimes": {"pytorch": 1e-6}}
SPLIT = Split(np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.int64))


def contents(folder: Path):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def said():
    return []


@pytest.fixture
def store(tmp_path, said):
    return NetworkCache(said.append, tmp_path / "cache", tmp_path / "state" / "cache.key")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return fake_network(tmp_path_factory.mktemp("built") / NAME, NAME)


@pytest.fixture
def entry(store, network, tmp_path):
    store.store(KEY, network, MEASURED)
    return tmp_path / "cache" / KEY


def test_what_was_stored_comes_back_byte_by_byte(store, entry, network, tmp_path, said):
    assert store.fetch(KEY, NAME, tmp_path / "copy") == MEASURED
    assert contents(tmp_path / "copy") == contents(network)
    assert store.fetch("cd" * 32, NAME, tmp_path / "other") is None
    assert said == []


def test_nothing_but_whole_entries_and_the_key_stand_in_the_cache(entry, tmp_path):
    assert [path.name for path in entry.parent.iterdir()] == [KEY]
    assert (tmp_path / "state" / "cache.key").stat().st_mode & 0o777 == 0o600


def rewrite(entry, change):
    path = entry / "entry.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def swap(entry):
    """Weights of another, with sums and record made to fit: only the HMAC can tell."""
    network = entry / "network"
    shutil.rmtree(network)
    fake_network(network, "cifar10_resnet56")
    from cifar_export.release.contents import record
    from cifar_export.release.sums import files_below

    files = {name: record(network / name).as_dict() for name in files_below(network)}
    rewrite(entry, lambda document: document["record"].update(files=files))


def link_outside(entry):
    (entry / "network" / "labels.txt").unlink()
    (entry / "network" / "labels.txt").symlink_to("/etc/hostname")


def pipe(entry):
    (entry / "network" / "labels.txt").unlink()
    os.mkfifo(entry / "network" / "labels.txt")


def flip(entry):
    path = entry / "network" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


POISON = {
    "a flipped bit": flip,
    "another network, sums and record to match": swap,
    "a truncated file": lambda entry: os.truncate(entry / "network" / "model.pt2", 10),
    "a grown file": lambda entry: (entry / "network" / "model.pt2").write_bytes(bytes(1 << 20)),
    "a missing file": lambda entry: (entry / "network" / "README.md").unlink(),
    "a link": link_outside,
    "a pipe": pipe,
    "a link as folder": lambda entry: ((entry / "network").rename(entry / "n"), (entry / "network").symlink_to("/etc")),
    "other measurements": lambda entry: rewrite(entry, lambda document: document["record"].update(measurements={})),
    "an upward name": lambda entry: rewrite(entry, lambda d: d["record"]["files"].update({"../x": {}})),
    "no HMAC": lambda entry: rewrite(entry, lambda document: document.pop("hmac")),
    "an HMAC that is no text": lambda entry: rewrite(entry, lambda document: document.update(hmac=7)),
    "an HMAC beyond ASCII": lambda entry: rewrite(entry, lambda document: document.update(hmac="\u00e9" * 64)),
    "no record": lambda entry: (entry / "entry.json").unlink(),
    "a record that is no JSON": lambda entry: (entry / "entry.json").write_text("{"),
    "a deep record": lambda entry: (entry / "entry.json").write_text("[" * 100_000),
    "a huge record": lambda entry: (entry / "entry.json").write_bytes(b" " * (1 << 21)),
    "a file": lambda entry: (shutil.rmtree(entry), entry.write_text("x")),
    "a link elsewhere": lambda entry: (
        entry.rename(entry.with_name("real")),
        entry.symlink_to(entry.with_name("real")),
    ),
}


@pytest.mark.parametrize("poison", POISON)
def test_a_poisoned_entry_is_dropped_with_one_note_and_built_again(poison, store, entry, network, tmp_path, said):
    POISON[poison](entry)
    assert store.fetch(KEY, NAME, tmp_path / "copy") is None
    assert not (tmp_path / "copy").exists()
    assert len(said) == 1
    assert said[0].startswith(f"note: the cached {NAME} cannot be used (")
    assert not os.path.lexists(entry)
    store.store(KEY, network, MEASURED)
    assert store.fetch(KEY, NAME, tmp_path / "copy") == MEASURED
    assert len(said) == 1


def test_an_entry_under_another_key_is_refused(store, entry, tmp_path, said):
    other = entry.with_name("cd" * 32)
    entry.rename(other)
    assert store.fetch(other.name, NAME, tmp_path / "copy") is None
    assert "it belongs to another network" in said[0]


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_no_flipped_bit_is_believed(network, tmp_path_factory, data):
    root = tmp_path_factory.mktemp("flip")
    store = NetworkCache(lambda line: None, root / "cache", root / "key")
    store.store(KEY, network, MEASURED)
    path = data.draw(st.sampled_from(sorted(path for path in (root / "cache").rglob("*") if path.is_file())))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    before = json.loads((root / "cache" / KEY / "entry.json").read_text())
    path.write_bytes(content)
    found = store.fetch(KEY, NAME, root / "copy")
    if found is not None:  # a bit of the record's own white space: what it says is the same
        assert path.name == "entry.json"
        assert json.loads(content) == before
        assert contents(root / "copy") == contents(network)


@pytest.mark.parametrize("damage", ["another", "short", "open to others", "open to the group", "a link", "gone"])
def test_a_key_that_others_could_know_voids_the_cache(damage, store, entry, network, tmp_path, said):
    key = tmp_path / "state" / "cache.key"
    if damage == "another":
        key.write_bytes(bytes(32))
    elif damage == "short":
        key.write_bytes(b"x")
    elif damage == "open to others":
        key.chmod(0o644)
    elif damage == "open to the group":
        key.chmod(0o640)
    else:
        key.rename(key.with_name("moved"))
        if damage == "a link":
            key.symlink_to(key.with_name("moved"))
    assert store.fetch(KEY, NAME, tmp_path / "copy") is None
    assert "was not written by this user" in said[0]
    store.store(KEY, network, MEASURED)
    assert store.fetch(KEY, NAME, tmp_path / "copy") == MEASURED
    assert key.stat().st_mode & 0o777 == 0o600
    assert not key.is_symlink()


@pytest.mark.parametrize("place", ["cache", "state"])
def test_a_cache_that_cannot_be_written_is_a_note(place, store, network, tmp_path, said):
    (tmp_path / place).write_text("a file where the folder should be")
    store.store(KEY, network, MEASURED)
    assert [line.startswith(f"note: {NAME} cannot be cached (") for line in said] == [True]


def test_a_full_disk_is_a_note_and_leaves_nothing(store, network, tmp_path, said, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cifar_export.release.build.cache.shutil.copyfile", full)
    store.store(KEY, network, MEASURED)
    assert said == [f"note: {NAME} cannot be cached (No space left on device); the build goes on."]
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_place_that_cannot_be_written_costs_no_entry(store, entry, network, tmp_path, said):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        store.fetch(KEY, NAME, tmp_path / "file" / "copy")
    assert store.fetch(KEY, NAME, tmp_path / "copy") == MEASURED
    assert said == []


def test_of_two_that_finish_the_same_the_first_stays(store, entry, network, tmp_path, said):
    before = contents(entry)
    store.store(KEY, network, {"seconds": 9.0})
    assert contents(entry) == before
    assert said == []


def test_what_nobody_used_in_a_month_is_forgotten_and_leftovers_after_a_day(store, entry, network, tmp_path):
    cache = entry.parent
    for name, days in (("old" * 8, 31), ("young" * 8, 29), (".aaaa.tmp", 2), (".bbbb.tmp", 0)):
        (cache / name).mkdir()
        past = (cache / name).stat().st_mtime - days * 24 * 3600
        os.utime(cache / name, (past, past))
    store.store("cd" * 32, network, MEASURED)
    assert {path.name for path in cache.iterdir()} == {KEY, "cd" * 32, "young" * 8, ".bbbb.tmp"}


def builder():
    """Stands for the function that builds."""


def test_the_key_changes_with_all_that_decides_the_bytes(monkeypatch):
    entry = bundled_entries()[NAME]
    key = cache_key(builder, entry, "1.0.0", (), SPLIT, "source", NOTHING_MORE)
    assert key == cache_key(builder, entry, "1.0.0", (), SPLIT, "source", NOTHING_MORE)
    pixels = SPLIT.images.copy()
    pixels[0, 0, 0, 0] = 1
    others = [
        cache_key(builder, dataclasses.replace(entry, sha256="0" * 64), "1.0.0", (), SPLIT, "source", NOTHING_MORE),
        cache_key(
            builder,
            dataclasses.replace(entry, metrics={"top1": 1.0, "top5": 2.0}),
            "1.0.0",
            (),
            SPLIT,
            "source",
            NOTHING_MORE,
        ),
        cache_key(builder, entry, "1.0.1", (), SPLIT, "source", NOTHING_MORE),
        cache_key(builder, entry, "1.0.0", ("openvino",), SPLIT, "source", NOTHING_MORE),
        cache_key(builder, entry, "1.0.0", (), Split(pixels, SPLIT.labels), "source", NOTHING_MORE),
        cache_key(builder, entry, "1.0.0", (), SPLIT, "source", Wanted(("int8",))),
        cache_key(builder, entry, "1.0.0", (), SPLIT, "source", Wanted(("int8",), 1.0)),
        cache_key(builder, entry, "1.0.0", (), SPLIT, "source", Wanted(formats=("c",))),
        cache_key(builder, entry, "1.0.0", (), SPLIT, "source", Wanted(formats=("c", "openvino"))),
        cache_key(test_no_flipped_bit_is_believed, entry, "1.0.0", (), SPLIT, "source", NOTHING_MORE),
    ]
    others.append(cache_key(builder, entry, "1.0.0", (), SPLIT, "other source", NOTHING_MORE))
    with monkeypatch.context() as patch:
        patch.setattr("cifar_export.release.build.cache._installed", lambda package: "0")
        others.append(cache_key(builder, entry, "1.0.0", (), SPLIT, "source", NOTHING_MORE))
    assert len({key, *others}) == len(others) + 1


def test_the_source_is_what_the_files_of_the_package_are(tmp_path, monkeypatch):
    for name in ("__init__.py", "release/cache.py", "release/card.j2"):
        (tmp_path / "exporter" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "exporter" / name).write_text(name)
    monkeypatch.setattr("cifar_export.release.build.cache.PACKAGE", tmp_path / "exporter")
    before = source_digest()
    (tmp_path / "exporter" / "__pycache__").mkdir()
    (tmp_path / "exporter" / "__pycache__" / "x.pyc").write_text("")
    assert source_digest() == before
    (tmp_path / "exporter" / "release" / "card.j2").write_text("changed")
    assert source_digest() != before
