"""The commands `data fetch` and `data check`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cifar_export import __main__ as cli
from cifar_export.networks.zoo import DATASETS, DatasetSpec

from support.data_files import Mirror


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
    monkeypatch.setattr("cifar_export.system.http.BACKOFF_SECONDS", 0.0)
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

    monkeypatch.setattr("cifar_export.data.fetch.fetch", interrupt)
    result = run("fetch", "--data-dir", tmp_path)
    assert result.exit_code == 130
    assert "is kept" in result.stderr
