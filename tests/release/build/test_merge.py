"""Releases of single networks merge into the release of one build, byte by byte; what does not fit is refused."""

import json
from pathlib import Path

import pytest

from cifar_export.errors import GateFailed, InvalidInput
from cifar_export.networks.zoo import NETWORKS
from cifar_export.release.build.assemble import Origin, assemble
from cifar_export.release.build.merge import merge
from cifar_export.release.build.shelf import read_shelf
from cifar_export.release.check.verify import verify
from cifar_export.release.layout import DEFAULT_EPOCH
from cifar_export.release.sums import write_sums

from support.hostile.case import edit_json
from support.releases import COMMIT, fake_network, fake_release

NAMES = ("cifar10_resnet20", "cifar100_resnet20", "cifar10_resnet56")


def contents(folder: Path):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def part(folder: Path, *names: str, version="1.0.0", change=None, origin=None) -> Path:
    """A part; `change` gets each network's config before the part is assembled."""
    for name in names:
        network = fake_network(folder / version / name, name, version)
        if change is not None:
            config = json.loads((network / "config.json").read_text())
            change(config)
            (network / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
            write_sums(network)
    assemble(folder / version, origin or Origin(version, COMMIT, DEFAULT_EPOCH))
    return folder / version


def test_parts_merge_into_the_bytes_of_one_build(tmp_path):
    parts = [part(tmp_path / name, name) for name in NAMES]
    whole = fake_release(tmp_path / "whole" / "1.0.0", NAMES)
    result = merge(list(reversed(parts)), tmp_path / "merged")
    assert contents(tmp_path / "merged" / "1.0.0") == contents(whole)
    found = verify(result.path)
    assert (found.problems, found.files, found.bytes) == ([], result.files, result.bytes)
    assert set(result.networks) == set(NAMES)
    assert [entry.sha256 for entry in read_shelf(tmp_path / "merged")] == [result.sha256]
    assert (tmp_path / "merged" / "index.json").is_file()


@pytest.mark.parametrize("schema", [1, 2])
def test_parts_of_the_schemas_before_are_merged(tmp_path, schema):
    def older(config):
        config["schema"] = schema
        del config["further"]
        if schema == 1:
            del config["reduced"]
            for model in config["models"].values():
                del model["precision"]

    parts = [part(tmp_path / name, name, change=older) for name in NAMES[:2]]
    assert verify(merge(parts, tmp_path / "merged").path).problems == []


def test_measurements_are_merged_and_may_be_missing(tmp_path):
    parts = [part(tmp_path / name, name) for name in NAMES[:2]]
    document = {"schema": 1, "version": "1.0.0", "networks": {NAMES[0]: {"seconds": 3.5}}}
    (parts[0].parent / "1.0.0.measurements.json").write_text(json.dumps(document))
    merge(parts, tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "1.0.0.measurements.json").read_text()) == document


def test_the_same_network_twice_is_fine_with_the_same_bytes(tmp_path):
    parts = [part(tmp_path / "a", *NAMES[:2]), part(tmp_path / "b", NAMES[0])]
    assert set(merge(parts, tmp_path / "merged").networks) == set(NAMES[:2])


def refused(parts, output, error, match):
    with pytest.raises(error, match=match):
        merge(parts, output)
    assert not output.exists()


def test_the_same_network_with_different_bytes_is_refused(tmp_path):
    parts = [part(tmp_path / "a", *NAMES[:2]), tmp_path / "b" / "1.0.0"]
    network = fake_network(parts[1] / NAMES[0], NAMES[0])
    (network / "README.md").write_text("# another card\n")
    write_sums(network)
    assemble(parts[1], Origin("1.0.0", COMMIT, DEFAULT_EPOCH))
    refused(parts, tmp_path / "merged", GateFailed, r"cifar10_resnet20 has different bytes in .*\(README.md")


@pytest.mark.parametrize(
    ("what", "origin"),
    [
        ("commit", Origin("1.0.0", "f" * 40, DEFAULT_EPOCH)),
        ("commit", Origin("1.0.0", None, DEFAULT_EPOCH)),
        ("created", Origin("1.0.0", COMMIT, DEFAULT_EPOCH + 1)),
    ],
)
def test_parts_of_another_origin_are_refused(tmp_path, what, origin):
    parts = [part(tmp_path / "a", NAMES[0]), part(tmp_path / "b", NAMES[1], origin=origin)]
    refused(parts, tmp_path / "merged", GateFailed, f"differ in {what}")


def test_parts_of_another_version_are_refused(tmp_path):
    origin = Origin("1.0.1", COMMIT, DEFAULT_EPOCH)
    parts = [part(tmp_path / "a", NAMES[0]), part(tmp_path / "b", NAMES[1], version="1.0.1", origin=origin)]
    refused(parts, tmp_path / "merged", GateFailed, "differ in version")


@pytest.mark.parametrize(("what", "key"), [("tool", "version"), ("built_with", "torch")])
def test_parts_of_other_tools_are_refused(tmp_path, what, key):
    parts = [
        part(tmp_path / "a", NAMES[0]),
        part(tmp_path / "b", NAMES[1], change=lambda c: c[what].update({key: "9"})),
    ]
    refused(parts, tmp_path / "merged", GateFailed, f"differ in {what}")


def test_a_part_that_does_not_verify_is_refused_by_its_name(tmp_path):
    parts = [part(tmp_path / name, name) for name in NAMES[:2]]
    weights = parts[1] / NAMES[1] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    refused(parts, tmp_path / "merged", GateFailed, "cifar100_resnet20/1.0.0 does not verify")


def test_what_is_no_release_is_refused(tmp_path):
    network = part(tmp_path / "a", NAMES[0]) / NAMES[0]
    refused([network], tmp_path / "merged", InvalidInput, "is not a release folder, but one network")
    refused([tmp_path / "nothing"], tmp_path / "merged", InvalidInput, "nothing")
    refused([tmp_path / "a"], tmp_path / "merged", (InvalidInput, GateFailed), "a")


def test_damaged_measurements_are_refused(tmp_path):
    release = part(tmp_path / "a", NAMES[0])
    (release.parent / "1.0.0.measurements.json").write_text("[]")
    refused([release], tmp_path / "merged", InvalidInput, "measurements.json is damaged")


@pytest.mark.parametrize("version", ["01.0", "1.0.0+a..b"])
def test_a_version_that_is_not_written_as_package_does_is_refused(tmp_path, version):
    release = part(tmp_path / "a", NAMES[0], version=version)
    refused([release], tmp_path / "merged", GateFailed, "lacks what a merge needs")


@pytest.mark.parametrize("year", [1960, 2200])
def test_a_date_that_no_archive_can_hold_is_refused(tmp_path, year):
    release = part(tmp_path / "a", NAMES[0])
    edit_json(release / "index.json", lambda index: index.update(created=f"{year}-01-01T00:00:00Z"))
    write_sums(release)
    refused([release], tmp_path / "merged", GateFailed, f"created {year}")


def test_measurements_that_could_not_be_written_again_are_refused(tmp_path):
    release = part(tmp_path / "a", NAMES[0])
    (release.parent / "1.0.0.measurements.json").write_text('{"networks": {"cifar10_resnet20": {"seconds": NaN}}}')
    refused([release], tmp_path / "merged", InvalidInput, "measurements.json is damaged")


def test_a_release_that_exists_is_never_overwritten(tmp_path):
    parts = [part(tmp_path / name, name) for name in NAMES[:2]]
    merge(parts[:1], tmp_path / "merged")
    before = contents(tmp_path / "merged")
    with pytest.raises(InvalidInput, match="never overwritten"):
        merge(parts, tmp_path / "merged")
    assert contents(tmp_path / "merged") == before


def test_the_command_prints_one_json_document(tmp_path, run):
    parts = [part(tmp_path / name, name) for name in NAMES[:2]]
    result = run("merge", *parts, "--output", tmp_path / "merged", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["networks"] == [name for name in NETWORKS if name in NAMES[:2]]
    assert document["path"] == str(tmp_path / "merged" / "1.0.0")
    again = run("merge", *parts, "--output", tmp_path / "merged")
    assert (again.exit_code, again.stdout) == (2, "")


def test_a_summary_for_people(tmp_path, run):
    result = run("merge", part(tmp_path / "a", *NAMES), "--output", tmp_path / "merged")
    assert result.exit_code == 0, result.output
    assert "what to pin" in result.stdout
    assert all(name in result.stdout for name in NAMES)
