"""The ML-BOM: it follows CycloneDX's schema, has every file's hash, and depends on contents alone."""

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from cifar_export.networks.zoo import NETWORKS
from cifar_export.release.contents import NetworkRecord, Origin, read_network
from cifar_export.release.documents.sbom import package_url, sbom_document
from cifar_export.release.layout import DEFAULT_EPOCH, SBOM
from cifar_export.system.files import sha256_file

from support.releases import COMMIT, fake_release

NAMES = ("cifar10_resnet20", "cifar100_resnet20")
ORIGIN = Origin("1.0.0", COMMIT, DEFAULT_EPOCH)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of two networks. Not to be changed."""
    return fake_release(tmp_path_factory.mktemp("described") / "1.0.0", NAMES)


@pytest.fixture(scope="module")
def networks(release: Path) -> list[NetworkRecord]:
    return [read_network(release / name) for name in NAMES]


@pytest.fixture(scope="module")
def document(release: Path) -> dict[str, Any]:
    """What stands in the release."""
    return json.loads((release / SBOM).read_bytes())


def of_type(document: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in document["components"] if found["type"] == kind}


def problem(document: dict[str, Any]) -> object:
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))


def test_it_follows_the_schema(document: dict[str, Any]) -> None:
    assert problem(document) is None
    assert problem(document | {"surprise": 1}) is not None  # the validator is awake


def test_eight_networks_follow_the_schema(networks: list[NetworkRecord]) -> None:
    every = [
        replace(networks[0], name=name, config=networks[0].config | {"dataset": spec.dataset.name})
        for name, spec in NETWORKS.items()
    ]
    assert problem(sbom_document(every, ORIGIN)) is None


def test_every_file_of_every_network_is_there_with_its_hash(release: Path, document: dict[str, Any]) -> None:
    models = of_type(document, "machine-learning-model")
    assert sorted(models) == sorted(NAMES)
    found = {
        part["name"]: part["hashes"]
        for model in models.values()
        for part in model["components"]
        if part["type"] == "file"
    }
    files = [path for name in NAMES for path in (release / name).rglob("*") if path.is_file()]
    assert found == {
        path.relative_to(release).as_posix(): [{"alg": "SHA-256", "content": sha256_file(path)}] for path in files
    }


def test_the_model_card_says_what_the_config_says(document: dict[str, Any], networks: list[NetworkRecord]) -> None:
    card = of_type(document, "machine-learning-model")["cifar100_resnet20"]["modelCard"]
    parameters = card["modelParameters"]
    assert parameters["task"] == "image classification"
    assert parameters["modelArchitecture"].startswith("ResNet-20")
    assert parameters["datasets"] == [{"ref": "data:cifar100"}]
    assert {"format": "image: uint8 (batch, 32, 32, 3); model-uint8.onnx"} in parameters["inputs"]
    accuracy = networks[1].config["accuracy"]["runtimes"]["onnxruntime-cpu"]
    metrics = {
        (found["type"], found["slice"]): found["value"] for found in card["quantitativeAnalysis"]["performanceMetrics"]
    }
    where = "the 10000 test images of CIFAR-100, onnxruntime-cpu"
    assert metrics["top-1 accuracy in percent", where] == f"{accuracy['top1']:.2f}"
    assert metrics["top-5 accuracy in percent", where] == f"{accuracy['top5']:.2f}"
    assert card["considerations"]["technicalLimitations"]


def test_weakness_is_told(networks: list[NetworkRecord]) -> None:
    for told in (False, True):
        accuracy = networks[0].config["accuracy"] | {"below_reference": told}
        network = replace(networks[0], config=networks[0].config | {"accuracy": accuracy})
        (model,) = of_type(sbom_document([network], ORIGIN), "machine-learning-model").values()
        limits = model["modelCard"]["considerations"]["technicalLimitations"]
        assert any("Below the published accuracy" in limit for limit in limits) is told


def test_data_sets_are_named_and_not_contained(document: dict[str, Any]) -> None:
    datasets = of_type(document, "data")
    assert sorted(datasets) == ["CIFAR-10", "CIFAR-100"]
    assert "Not contained" in datasets["CIFAR-100"]["description"]
    assert "test images are in the golden vectors" in datasets["CIFAR-10"]["description"]
    for dataset in datasets.values():
        assert "licenses" not in dataset  # their authors state none


def test_golden_images_of_cifar10_are_told_of_without_a_network_of_it(networks: list[NetworkRecord]) -> None:
    document = sbom_document(networks[1:], ORIGIN)
    assert sorted(of_type(document, "machine-learning-model")) == ["cifar100_resnet20"]
    assert sorted(of_type(document, "data")) == ["CIFAR-10", "CIFAR-100"]
    assert "data:cifar10" in document["dependencies"][0]["dependsOn"]


def test_libraries_have_purls(document: dict[str, Any], networks: list[NetworkRecord]) -> None:
    libraries = of_type(document, "library") | of_type(document, "platform")
    tool = networks[0].config["tool"]["name"]
    built_with = {name: version for name, version in networks[0].config["built_with"].items() if name != tool}
    assert {name: found["version"] for name, found in libraries.items()} == built_with
    for name, found in libraries.items():
        purl = PackageURL.from_string(found["purl"])
        assert (purl.name, purl.version) == (name, found["version"])
    assert document["metadata"]["tools"]["components"][0]["name"] == tool


@pytest.mark.parametrize(
    ("name", "version", "purl"),
    [
        ("torch", "2.15.0", "pkg:pypi/torch@2.15.0"),
        ("torch", "2.15.0+cu132", "pkg:pypi/torch@2.15.0%2Bcu132"),
        ("My_Package", "1", "pkg:pypi/my-package@1"),
        ("python", "3.11", "pkg:generic/python@3.11"),
    ],
)
def test_purls_are_normal(name: str, version: str, purl: str) -> None:
    assert package_url(name, version) == purl
    assert PackageURL.from_string(purl).to_string() == purl


def test_the_graph_is_closed(document: dict[str, Any]) -> None:
    def refs(component: dict[str, Any]) -> list[str]:
        return [component["bom-ref"], *(ref for part in component.get("components", []) for ref in refs(part))]

    every = [
        ref for component in (document["metadata"]["component"], *document["components"]) for ref in refs(component)
    ]
    assert len(every) == len(set(every))
    graph = {node["ref"]: node.get("dependsOn", []) for node in document["dependencies"]}
    assert set(graph) | {ref for targets in graph.values() for ref in targets} <= set(every)
    assert set(graph["release"]) == {"data:cifar10", *(f"model:{name}" for name in NAMES)}
    assert "data:cifar10" in graph["model:cifar10_resnet20"]
    assert any(ref.startswith("pkg:pypi/onnx@") for ref in graph["model:cifar10_resnet20"])


def test_parts_built_with_other_libraries_keep_theirs(networks: list[NetworkRecord]) -> None:
    newer = networks[1].config | {"built_with": networks[1].config["built_with"] | {"onnx": "9.9.9"}}
    document = sbom_document([networks[0], replace(networks[1], config=newer)], ORIGIN)
    assert problem(document) is None
    graph = {node["ref"]: node.get("dependsOn", []) for node in document["dependencies"]}
    assert package_url("onnx", networks[0].config["built_with"]["onnx"]) in graph["model:cifar10_resnet20"]
    assert "pkg:pypi/onnx@9.9.9" not in graph["model:cifar10_resnet20"]
    assert "pkg:pypi/onnx@9.9.9" in graph["model:cifar100_resnet20"]


def test_it_depends_on_contents_alone(release: Path, document: dict[str, Any], networks: list[NetworkRecord]) -> None:
    moved = [replace(network, folder=Path("/elsewhere")) for network in reversed(networks)]
    assert sbom_document(moved, ORIGIN) == document
    assert str(release.parent) not in json.dumps(document)
    assert document["metadata"]["timestamp"] == "1980-01-01T00:00:00Z"


def test_the_serial_number_is_that_of_the_content(document: dict[str, Any], networks: list[NetworkRecord]) -> None:
    assert uuid.UUID(document["serialNumber"].removeprefix("urn:uuid:")).version == 5
    for other in (
        sbom_document(networks, replace(ORIGIN, version="1.0.1")),
        sbom_document(networks, replace(ORIGIN, epoch=DEFAULT_EPOCH + 1)),
        sbom_document(networks[:1], ORIGIN),
    ):
        assert other["serialNumber"] != document["serialNumber"]
