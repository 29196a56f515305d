"""Attestations: they follow the specifications, bind the right digests, and say only what is so."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cifar_export.errors import GateFailed
from cifar_export.networks.zoo import NETWORKS
from cifar_export.release.build.assemble import assemble
from cifar_export.release.contents import FileRecord, NetworkRecord, Origin, read_network, record
from cifar_export.release.documents.attest import provenance, test_result
from cifar_export.release.layout import DEFAULT_EPOCH, PARITY, PROVENANCE, TEST_RESULT
from cifar_export.system.files import sha256_file

from support.paths import ROOT
from support.releases import COMMIT, fake_release

NAMES = ("cifar10_resnet20", "cifar100_resnet20")
ORIGIN = Origin("1.0.0", COMMIT, DEFAULT_EPOCH)
SCHEMA = json.loads((ROOT / "docs" / "schemas" / "attestation-1.json").read_text())
test_result.__test__ = False  # a function of the project, not a test


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of two networks. Not to be changed."""
    return fake_release(tmp_path_factory.mktemp("attested") / "1.0.0", NAMES)


@pytest.fixture(scope="module")
def networks(release: Path) -> list[NetworkRecord]:
    return [read_network(release / name) for name in NAMES]


@pytest.fixture(scope="module")
def archives(release: Path) -> dict[str, FileRecord]:
    return {path.name: record(path) for path in release.glob("*.tar.gz")}


def load(release: Path, name: str) -> dict[str, Any]:
    return json.loads((release / name).read_bytes())


@pytest.mark.parametrize("name", [PROVENANCE, TEST_RESULT])
def test_statements_follow_the_schema_and_the_specification(release: Path, name: str) -> None:
    document = load(release, name)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(document, SCHEMA)
    pytest.importorskip("in_toto_attestation", reason="comes with the sign extra")
    from google.protobuf.json_format import ParseDict
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
    from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

    statement = Statement.copy_from_pb(ParseDict(document, StatementMessage()))
    statement.validate()
    # a field that the specification does not have is an error here
    if name == PROVENANCE:
        found = ParseDict(document["predicate"], Provenance())
        assert found.build_definition.build_type
        assert found.run_details.builder.id
        descriptors = found.build_definition.resolved_dependencies
    else:
        found = ParseDict(document["predicate"], TestResult())
        assert found.result == "PASSED"
        descriptors = found.configuration
    assert descriptors
    for descriptor in descriptors:
        ResourceDescriptor.copy_from_pb(descriptor).validate()


@pytest.mark.parametrize("name", [PROVENANCE, TEST_RESULT])
def test_subjects_are_all_archives_and_all_files_of_the_networks(release: Path, name: str) -> None:
    subjects = {subject["name"]: subject["digest"] for subject in load(release, name)["subject"]}
    inside = [path for network in NAMES for path in (release / network).rglob("*") if path.is_file()]
    expected = [*inside, *release.glob("*.tar.gz")]
    assert len(expected) > 20
    assert subjects == {path.relative_to(release).as_posix(): {"sha256": sha256_file(path)} for path in expected}


def test_provenance_names_commit_weights_and_libraries(networks: list[NetworkRecord]) -> None:
    build = provenance(networks, {}, ORIGIN)["predicate"]["buildDefinition"]
    assert build["externalParameters"] == {
        "version": "1.0.0",
        "networks": sorted(NAMES),
        "runtimes": sorted({row["runtime"] for rows in networks[0].parity["inputs"].values() for row in rows}),
        "precisions": [],
        "formats": [],
        "source": "commit",
        "sourceDateEpoch": DEFAULT_EPOCH,
    }
    dependencies = build["resolvedDependencies"]
    assert {"name": "source", "digest": {"gitCommit": COMMIT}} in dependencies
    for network in networks:
        weights = {"sha256": network.config["weights"]["sha256"]}
        assert {"name": f"weights of {network.name}", "digest": weights} in dependencies
    torch = networks[0].config["built_with"]["torch"]
    assert {"name": "torch", "uri": f"pkg:pypi/torch@{torch}"} in dependencies


@pytest.mark.parametrize(
    ("commit", "state"),
    [
        (COMMIT, "commit"),
        ("a" * 64, "commit"),
        (f"{COMMIT}-dirty", "modified"),
        (None, "unknown"),
        ("", "unknown"),
        ("main", "unknown"),
        (COMMIT[:12], "unknown"),
        (COMMIT.upper(), "unknown"),
        ("main-dirty", "unknown"),
    ],
)
def test_only_a_clean_commit_is_a_digest_of_the_source(
    commit: str | None, state: str, networks: list[NetworkRecord]
) -> None:
    document = provenance(networks, {}, replace(ORIGIN, commit=commit))
    jsonschema.validate(document, SCHEMA)
    build = document["predicate"]["buildDefinition"]
    assert build["externalParameters"]["source"] == state
    digests = [found["digest"] for found in build["resolvedDependencies"] if "digest" in found]
    assert [digest for digest in digests if "gitCommit" in digest] == (
        [{"gitCommit": commit}] if state == "commit" else []
    )
    if state == "modified":
        (source,) = [found for found in build["resolvedDependencies"] if found["name"] == "source"]
        assert source["annotations"] == {"basedOnCommit": COMMIT}


def test_tests_are_named_for_files_of_the_release(release: Path, networks: list[NetworkRecord]) -> None:
    document = load(release, TEST_RESULT)
    tests = document["predicate"]["passedTests"]
    assert "cifar10_resnet20/model.onnx: parity onnxruntime-cpu float32" in tests
    assert "cifar100_resnet20/model-uint8.onnx: parity onnxruntime-cpu uint8" in tests
    assert "cifar10_resnet20/model.pt2: parity torch-export float32" in tests
    top = networks[0].config["accuracy"]
    assert (
        f"{NAMES[0]}/model.onnx: accuracy onnxruntime-cpu top-1 {top['top1']:.2f} % top-5 {top['top5']:.2f} % "
        f"of {top['images']} test images"
    ) in tests
    subjects = {subject["name"] for subject in document["subject"]}
    assert {test.partition(":")[0] for test in tests} <= subjects


def test_the_test_result_binds_what_was_compared(release: Path) -> None:
    bound = {
        found["name"]: found["digest"]["sha256"] for found in load(release, TEST_RESULT)["predicate"]["configuration"]
    }
    assert bound == {
        f"{network}/{name}": sha256_file(release / network / name)
        for network in NAMES
        for name in ("config.json", PARITY)
    }


@pytest.mark.parametrize("verdict", [False, None, "yes", 1])
def test_a_failure_is_never_attested(verdict: object, networks: list[NetworkRecord]) -> None:
    parity = networks[0].parity
    rows = [
        {**row, "passed": verdict} if row["runtime"] == "onnxruntime-cpu" else row for row in parity["inputs"]["uint8"]
    ]
    for changed in (
        {**parity, "passed": verdict},
        {**parity, "inputs": {**parity["inputs"], "uint8": rows}},
    ):
        with pytest.raises(GateFailed, match="cifar10_resnet20 did not pass parity"):
            test_result([replace(networks[0], parity=changed), networks[1]], {}, ORIGIN)


def test_they_depend_on_contents_alone(
    release: Path, networks: list[NetworkRecord], archives: dict[str, FileRecord]
) -> None:
    """Not on the order of the networks, nor on the folder they stand in."""
    moved = [replace(network, folder=Path("/elsewhere")) for network in reversed(networks)]
    backwards = dict(reversed(archives.items()))
    assert provenance(moved, backwards, ORIGIN) == load(release, PROVENANCE)
    assert test_result(moved, backwards, ORIGIN) == load(release, TEST_RESULT)
    for name in (PROVENANCE, TEST_RESULT):
        assert str(release.parent) not in (release / name).read_text()


@pytest.mark.parametrize(
    "spoil", [{"built_with": []}, {"weights": {}}, {"accuracy": None}, {"models": {"model.onnx": 1}}]
)
def test_a_network_of_another_shape_is_one_line(spoil: dict[str, Any], tmp_path: Path) -> None:
    release = fake_release(tmp_path / "1.0.0", NAMES[:1])
    path = release / NAMES[0] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | spoil))
    with pytest.raises(GateFailed, match="is not described as this version does it"):
        assemble(release, ORIGIN)


def test_every_network_of_the_zoo_fits(networks: list[NetworkRecord]) -> None:
    every = [replace(networks[0], name=name) for name in NETWORKS]
    jsonschema.validate(provenance(every, {}, ORIGIN), SCHEMA)
    jsonschema.validate(test_result(every, {}, ORIGIN), SCHEMA)
