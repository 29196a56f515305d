"""Weights that come with the package, and weights from upstream."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_export.errors import GateFailed, InvalidInput, Unavailable
from cifar_export.networks.zoo import NETWORKS, NetworkSpec, Normalization
from cifar_export.system.download import cache_folder
from cifar_export.system.files import sha256_bytes
from cifar_export.weights.index import BundledEntry, add_to_index, bundled_entries
from cifar_export.weights.native import save_weights
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights, upstream_url

from support.paths import ROOT

if TYPE_CHECKING:
    from tests.conftest import Server

RESNET20 = NETWORKS["cifar10_resnet20"]
WEIGHTS = random_weights(RESNET20, 0)


def put(folder: Path, name: str = "cifar10_resnet20", seed: int = 0, **changes: Any) -> BundledEntry:
    """Save random weights into `folder` and return an entry for them."""
    spec = NETWORKS[name]
    weights = random_weights(spec, seed)
    file = f"{name}-{weights.sha256[:8]}.safetensors"
    save_weights(folder / file, weights)
    entry = BundledEntry(
        network=name,
        model=spec.model.name,
        dataset=spec.dataset.name,
        file=file,
        sha256=weights.sha256,
        normalization=weights.normalization,
        recipe={"name": "quick", "epochs": 30},
        seed=seed,
        metrics={"top1": 91.25, "top5": 99.5, "images": 10000},
        below_reference=True,
        provenance={"hardware": "two cores"},
    )
    return dataclasses.replace(entry, **changes)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index and weights."""
    folder = tmp_path_factory.mktemp("bundled")
    add_to_index(folder, put(folder))
    return folder


@pytest.fixture
def bundle(bundled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose bundled weights are these."""
    monkeypatch.setattr("cifar_export.weights.sources.bundled_folder", lambda: bundled)
    return bundled


def test_bundled_weights_carry_what_the_index_knows(bundle: Path) -> None:
    weights = load_weights(RESNET20)
    assert (weights.source, weights.sha256) == ("bundled", WEIGHTS.sha256)
    assert weights.normalization == RESNET20.dataset.normalization
    assert weights.metrics == {"top1": 91.25, "top5": 99.5, "images": 10000}
    assert weights.recipe == {"name": "quick", "epochs": 30}
    assert torch.equal(weights.state["fc.weight"], WEIGHTS.state["fc.weight"])
    other = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert load_weights(RESNET20, "bundled", other).normalization == other


def test_what_is_not_bundled_says_what_else_there_is(bundle: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no weights of cifar100_resnet56 are bundled yet\.\n.*--weights upstream"):
        load_weights(NETWORKS["cifar100_resnet56"])


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_in_a_bundled_file_is_detected(bundled: Path, data: st.DataObject) -> None:
    path = bundled / bundled_entries(bundled)["cifar10_resnet20"].file
    whole = path.read_bytes()
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    try:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
        with (
            mock.patch("cifar_export.weights.sources.bundled_folder", return_value=bundled),
            pytest.raises(Unavailable, match="bundled weights of cifar10_resnet20 are damaged"),
        ):
            load_weights(RESNET20)
    finally:
        path.write_bytes(whole)


def test_a_missing_or_swapped_bundled_file_is_the_installations_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_export.weights.sources.bundled_folder", lambda: tmp_path)
    add_to_index(tmp_path, put(tmp_path))
    entry = bundled_entries(tmp_path)["cifar10_resnet20"]
    (tmp_path / entry.file).unlink()
    with pytest.raises(Unavailable, match=r"damaged: no file .*safetensors.*\n.*Install cifar-export again"):
        load_weights(RESNET20)
    # a right sha256 does not make it the right network
    other = put(tmp_path, "cifar10_resnet32")
    add_to_index(tmp_path, put(tmp_path, file=other.file, sha256=other.sha256))
    with pytest.raises(Unavailable, match="holds cifar10_resnet32, not cifar10_resnet20"):
        load_weights(RESNET20)


def test_the_index_replaces_sorts_and_deletes_what_is_superseded(tmp_path: Path) -> None:
    entries = [put(tmp_path, name) for name in ("cifar100_resnet20", "cifar10_resnet32", "cifar10_resnet20")]
    for entry in entries:
        add_to_index(tmp_path, entry)
    assert list(bundled_entries(tmp_path)) == ["cifar10_resnet20", "cifar10_resnet32", "cifar100_resnet20"]
    better = put(tmp_path, "cifar10_resnet32", seed=1, metrics={"top1": 93.5, "top5": 99.75}, below_reference=False)
    add_to_index(tmp_path, better)
    found = bundled_entries(tmp_path)
    assert found["cifar10_resnet32"] == better
    assert (found["cifar10_resnet32"].top1, found["cifar10_resnet32"].top5) == (93.5, 99.75)
    assert {path.name for path in tmp_path.iterdir()} == {"index.json"} | {entry.file for entry in found.values()}
    before = (tmp_path / "index.json").read_bytes()
    add_to_index(tmp_path, better)  # again: nothing changes, and its file stays
    assert (tmp_path / "index.json").read_bytes() == before
    assert (tmp_path / better.file).is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "its sha256 is"),
        ({"sha256": "short"}, "wrong sha256"),
        ({"file": "../outside.safetensors"}, "wrong file"),
        ({"file": "absent.safetensors"}, "cannot read .*absent"),
        ({"dataset": "cifar100"}, "wrong dataset"),
        ({"model": "resnet56"}, "wrong model"),
        ({"network": "cifar10_resnet18"}, "no known network"),
        ({"metrics": {"top1": 91.0}}, "wrong metrics"),
        ({"metrics": {"top1": 910.0, "top5": 99.0}}, "wrong metrics"),
        ({"metrics": {"top1": 91.0, "top5": 99.0, "images": 0}}, "wrong metrics"),
        ({"seed": True}, "wrong seed"),
        ({"plan": "../plan.json"}, "wrong plan"),
        ({"runs_evaluated": 0}, "wrong runs_evaluated"),
        ({"normalization": Normalization((0.5, 0.5, 0.5), (0.0, 0.5, 0.5))}, "normalization has a std of 0"),
    ],
)
def test_an_inconsistent_entry_does_not_get_into_the_index(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    add_to_index(tmp_path, put(tmp_path))
    before = (tmp_path / "index.json").read_bytes()
    with pytest.raises(InvalidInput, match=message):
        add_to_index(tmp_path, put(tmp_path, **changes))
    assert (tmp_path / "index.json").read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 3, "weights": []}',
        '{"schema": 1}',
        '{"schema": 1, "weights": [7]}',
        '{"schema": 1, "weights": [{"network": "cifar10_resnet20"}]}',
        "[" * 100_000,
        "twice",
        "interval",
    ],
)
def test_a_damaged_index_is_the_installations_fault(text: str, tmp_path: Path) -> None:
    if text == "twice":
        entry = put(tmp_path).as_dict()
        text = json.dumps({"schema": 2, "weights": [entry | {"top1_interval": [90.68, 91.79]}] * 2})
    if text == "interval":
        text = json.dumps({"schema": 2, "weights": [put(tmp_path).as_dict() | {"top1_interval": [91.0, 91.5]}]})
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(Unavailable, match=r"index of bundled weights .*index\.json can't be used: "):
        bundled_entries(tmp_path)
    with pytest.raises(Unavailable, match="No such file"):
        bundled_entries(tmp_path / "absent")


def test_the_index_records_plan_runs_and_interval_and_one_of_schema_1_is_read(tmp_path: Path) -> None:
    entry = put(tmp_path, plan="cifar10_resnet20-quick-30-seed0.json", runs_evaluated=2)
    add_to_index(tmp_path, entry)
    document = json.loads((tmp_path / "index.json").read_text())
    (line,) = document["weights"]
    assert (document["schema"], line["plan"], line["runs_evaluated"]) == (2, entry.plan, 2)
    assert line["top1_interval"] == [90.68, 91.79]  # Wilson's 95 % of 9,125 in 10,000
    assert bundled_entries(tmp_path)[entry.network] == entry
    for key in ("plan", "runs_evaluated", "top1_interval"):
        del line[key]
    (tmp_path / "index.json").write_text(json.dumps({"schema": 1, "weights": [line]}))
    assert bundled_entries(tmp_path)[entry.network] == dataclasses.replace(entry, plan=None, runs_evaluated=None)


def test_the_tracked_index_is_sound() -> None:
    folder = ROOT / "artifacts" / "weights"
    for name, entry in bundled_entries().items():
        weights = load_weights(NETWORKS[name])
        assert weights.sha256 == entry.sha256
        assert entry.below_reference == (entry.top1 < NETWORKS[name].reference.top1)
        assert entry.file == f"{name}-{entry.sha256[:8]}.safetensors"
    assert {path.name for path in folder.glob("*.safetensors")} == {entry.file for entry in bundled_entries().values()}


def test_an_installed_package_finds_its_weights_from_anywhere_without_torch(tmp_path: Path) -> None:
    """A wheel puts `artifacts/weights` into the package as `cifar_export/bundled`."""
    site = tmp_path / "site"
    shutil.copytree(ROOT / "exporter", site / "cifar_export", ignore=shutil.ignore_patterns("__pycache__"))
    (site / "cifar_export" / "bundled").mkdir()
    add_to_index(site / "cifar_export" / "bundled", put(site / "cifar_export" / "bundled", "cifar100_resnet44"))
    program = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from cifar_export.weights.index import bundled_entries, bundled_folder\n"
        "print(bundled_folder(), list(bundled_entries()), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-I", "-c", program]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert output.split(maxsplit=1) == [str(site / "cifar_export" / "bundled"), "['cifar100_resnet44'] False\n"]


@pytest.fixture
def upstream(http_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NetworkSpec:
    """A network whose upstream file is on the local server."""
    torch.save(WEIGHTS.state, http_server.root / "file")
    digest = sha256_bytes((http_server.root / "file").read_bytes())
    spec = dataclasses.replace(RESNET20, upstream_sha256=digest[:8])
    (http_server.root / "file").rename(http_server.root / spec.upstream_file)
    monkeypatch.setenv("CIFAR_EXPORT_UPSTREAM_URL", http_server.url)
    monkeypatch.setenv("CIFAR_EXPORT_CACHE", str(tmp_path / "cache"))
    return spec


def test_upstream_is_downloaded_once_and_then_read_from_the_cache(upstream: NetworkSpec, http_server: Server) -> None:
    seen: list[tuple[int, int | None]] = []
    first = load_weights(upstream, "upstream", progress=lambda done, total: seen.append((done, total)))
    assert first.source == "upstream"
    assert first.sha256.startswith(upstream.upstream_sha256)
    assert first.normalization.std == (0.2023, 0.1994, 0.2010)
    assert torch.equal(first.state["fc.weight"], WEIGHTS.state["fc.weight"])
    assert seen[-1][0] == seen[-1][1] == (http_server.root / upstream.upstream_file).stat().st_size
    again = load_weights(upstream, "upstream")
    assert again.sha256 == first.sha256
    assert [path for path, _ in http_server.requests] == [f"/{upstream.upstream_file}"]


def test_upstream_cifar100_has_its_own_std(upstream: NetworkSpec, http_server: Server) -> None:
    spec = NETWORKS["cifar100_resnet20"]
    torch.save(random_weights(spec, 0).state, http_server.root / "file")
    spec = dataclasses.replace(spec, upstream_sha256=sha256_bytes((http_server.root / "file").read_bytes()))
    (http_server.root / "file").rename(http_server.root / spec.upstream_file)
    assert load_weights(spec, "upstream").normalization.std == (0.2673, 0.2564, 0.2761)


def test_a_poisoned_cache_entry_is_replaced(upstream: NetworkSpec, http_server: Server) -> None:
    cached = cache_folder() / "upstream" / upstream.upstream_file
    cached.parent.mkdir(parents=True)
    torch.save(random_weights(RESNET20, 666).state, cached)
    weights = load_weights(upstream, "upstream")
    assert torch.equal(weights.state["fc.weight"], WEIGHTS.state["fc.weight"])
    assert sha256_bytes(cached.read_bytes()).startswith(upstream.upstream_sha256)
    assert len(http_server.requests) == 1


def test_a_poisoned_cache_entry_is_never_used_offline(upstream: NetworkSpec, http_server: Server) -> None:
    cached = cache_folder() / "upstream" / upstream.upstream_file
    cached.parent.mkdir(parents=True)
    torch.save(random_weights(RESNET20, 666).state, cached)
    (http_server.root / upstream.upstream_file).unlink()
    with pytest.raises(Unavailable, match="HTTP status 404"):
        load_weights(upstream, "upstream")


def test_another_file_at_the_server_is_refused(upstream: NetworkSpec, http_server: Server) -> None:
    torch.save(random_weights(RESNET20, 666).state, http_server.root / upstream.upstream_file)
    with pytest.raises(GateFailed, match=f"sha256 {upstream.upstream_sha256} expected"):
        load_weights(upstream, "upstream")
    assert not (cache_folder() / "upstream" / upstream.upstream_file).exists()


def test_without_a_network_there_is_one_clear_cause_and_a_way_out(
    upstream: NetworkSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_EXPORT_UPSTREAM_URL", "http://127.0.0.1:1/nothing")
    with pytest.raises(Unavailable) as caught:
        load_weights(upstream, "upstream")
    assert str(caught.value).count("\n") == 1
    assert "refused" in str(caught.value)
    assert str(cache_folder() / "upstream" / upstream.upstream_file) in str(caught.value)


def test_where_upstream_and_its_cache_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CIFAR_EXPORT_UPSTREAM_URL", "CIFAR_EXPORT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    base = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download/resnet/"
    assert upstream_url(NETWORKS["cifar100_resnet56"]) == base + "cifar100_resnet56-f2eff4c8.pt"
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "cifar-export"
    monkeypatch.setenv("CIFAR_EXPORT_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
