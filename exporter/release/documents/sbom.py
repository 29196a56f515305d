"""`sbom.cdx.json`: a CycloneDX 1.6 ML-BOM of what a release contains, was trained on and was made with.

Schema: https://cyclonedx.org/docs/1.6/json/. The tests validate against it. Version 1.6 rather than a later one because
it has all that is said here, and more tools read it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ...networks.zoo import DATASETS
from ..contents import FileRecord, NetworkRecord, title_of
from ..layout import CARD, CONFIG, FURTHER, LABELS, PARITY, SUMS, WEIGHTS, beside_further

if TYPE_CHECKING:
    from ..contents import Origin

LICENSE = "BSD-3-Clause"
"""Of the tool, the networks' code and the weights: the project's LICENSE."""
PICTURED = "cifar10"
"""The data set of the few test images among the golden vectors of every network (exporter/golden.py)."""
DATASET_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "cifar-export sbom")
_MIME = {
    ".json": "application/json",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".onnx": "application/octet-stream",
    ".ort": "application/octet-stream",
    ".pb": "application/octet-stream",
    ".safetensors": "application/octet-stream",
    ".pt": "application/zip",
    ".pt2": "application/zip",
    ".zip": "application/zip",
    ".c": "text/x-c",
}
_WHAT = {
    WEIGHTS: "the weights",
    CONFIG: "input, normalization, labels, accuracy and formats",
    LABELS: "the classes, in the order of the logits",
    PARITY: "what was compared with PyTorch in float64, and the verdicts",
    CARD: "the model card",
    SUMS: "sha256 of the other files in the folder",
    **{file: said for name in FURTHER for file, said in beside_further(name).items()},
}


def sbom_document(networks: Sequence[NetworkRecord], origin: Origin) -> dict[str, Any]:
    """The ML-BOM of a release of `networks`.

    It depends on nothing else: the serial number is derived from the content, the time is `origin`'s.
    """
    records = sorted(networks, key=lambda record: record.name)
    libraries = {ref: library for record in records for ref, library in _libraries(record).items()}
    datasets = sorted({str(record.config["dataset"]) for record in records} | {PICTURED})
    tools = sorted({(record.config["tool"]["name"], record.config["tool"]["version"]) for record in records})
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": origin.created,
            "lifecycles": [{"phase": "build"}],
            "tools": {
                "components": [
                    {"type": "application", "name": name, "version": version, "licenses": _licenses()}
                    for name, version in tools
                ]
            },
            "component": {
                "type": "data",
                "bom-ref": "release",
                "name": "cifar-export release",
                "version": origin.version,
                "description": "Image classifiers for CIFAR-10 and CIFAR-100 in several formats, each proved equal.",
                "licenses": _licenses(),
                "properties": _properties({"commit": origin.commit or "unknown"}),
            },
        },
        "components": [
            *(_model(record, origin) for record in records),
            *(_dataset(name) for name in datasets),
            *(libraries[ref] for ref in sorted(libraries)),
        ],
        "dependencies": [
            {"ref": "release", "dependsOn": [*(_model_ref(record.name) for record in records), _dataset_ref(PICTURED)]},
            *(
                {
                    "ref": _model_ref(record.name),
                    "dependsOn": [_dataset_ref(record.config["dataset"]), *sorted(_libraries(record))],
                }
                for record in records
            ),
            *({"ref": ref} for ref in (*map(_dataset_ref, datasets), *sorted(libraries))),
        ],
        "compositions": [
            {"aggregate": "complete", "assemblies": [_model_ref(record.name) for record in records]},
            # the libraries' own dependencies are not listed
            {"aggregate": "incomplete", "dependencies": [_model_ref(record.name) for record in records]},
        ],
    }
    content = json.dumps(document, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return document | {"serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}"}


def package_url(name: str, version: str) -> str:
    """The purl of something in a network's `built_with`: a package of PyPI, or the Python interpreter."""
    kind = "generic" if name == "python" else "pypi"
    # names on PyPI are case-insensitive, and _ is -: https://github.com/package-url/purl-spec (pypi)
    return f"pkg:{kind}/{quote(name.lower().replace('_', '-'))}@{quote(version, safe='')}"


def _model_ref(name: str) -> str:
    return f"model:{name}"


def _dataset_ref(name: str) -> str:
    return f"data:{name}"


def license_of(config: dict[str, Any]) -> str | None:
    """SPDX expression of the weights' license; None where they are somebody's own and nobody said."""
    origin = config["weights"].get("origin")
    return origin["license"] if origin else LICENSE


def _licenses(license: str | None = LICENSE) -> list[dict[str, Any]]:
    if license is None:
        return [{"license": {"name": "not stated"}}]
    return [{"license": {"id": license}}] if license == LICENSE else [{"expression": license}]


def _properties(values: dict[str, object]) -> list[dict[str, str]]:
    return [{"name": f"cifar-export:{name}", "value": str(value)} for name, value in sorted(values.items())]


def _model(record: NetworkRecord, origin: Origin) -> dict[str, Any]:
    config = record.config
    return {
        "type": "machine-learning-model",
        "bom-ref": _model_ref(record.name),
        "name": record.name,
        "version": origin.version,
        "description": f"ResNet-{record.depth} for 32×32 images, trained on {title_of(config['dataset'])}.",
        "licenses": _licenses(license_of(config)),
        "modelCard": _model_card(record),
        "externalReferences": [
            {"type": "model-card", "url": f"{record.name}/{CARD}", "hashes": _hashes(record.files[CARD])}
        ],
        "properties": _properties(
            {
                "weights:sha256": config["weights"]["sha256"],
                "weights:source": config["weights"]["source"],
                "normalization:mean": config["normalization"]["mean"],
                "normalization:std": config["normalization"]["std"],
            }
        ),
        "components": [_file(record, name) for name in sorted(record.files)],
    }


def _file(record: NetworkRecord, name: str) -> dict[str, Any]:
    found = record.files[name]
    model = record.config["models"].get(name)
    golden = "golden vectors, inputs" if "/input_" in name else "golden vectors, logits"
    what = f"{model['format']}, {model['input']} input" if model else _WHAT.get(name, golden)
    suffix = "." + name.rpartition(".")[2]
    return {
        "type": "file",
        "bom-ref": f"file:{record.name}/{name}",
        "name": f"{record.name}/{name}",
        "description": what,
        "mime-type": _MIME.get(suffix, "text/plain"),
        "hashes": _hashes(found),
        "properties": _properties({"bytes": found.bytes}),
    }


def _hashes(found: FileRecord) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": found.sha256}]


def _model_card(record: NetworkRecord) -> dict[str, Any]:
    config = record.config
    models: dict[str, Any] = config["models"]
    images, title = config["accuracy"]["images"], title_of(config["dataset"])
    limits = [
        f"32×32 images of the {len(config['labels'])} classes of {title}; other images get one of these "
        "classes too, often with a large logit.",
        "Logits are not calibrated probabilities.",
        "Not tested against distribution shift or adversarial images.",
    ]
    if config["accuracy"].get("below_reference"):
        limits.append("Below the published accuracy of this architecture on this data set.")
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "image classification",
            "architectureFamily": "convolutional neural network",
            "modelArchitecture": f"ResNet-{record.depth} for CIFAR, projection shortcuts (He et al. 2016, 4.2)",
            "datasets": [{"ref": _dataset_ref(config["dataset"])}],
            "inputs": [{"format": text} for text in _ports(models, "inputs")],
            "outputs": [{"format": text} for text in _ports(models, "outputs")],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {
                    "type": f"{metric} accuracy in percent",
                    "value": f"{values[key]:.2f}",
                    "slice": f"the {images} test images of {title}, {runtime}",
                }
                for runtime, values in sorted(config["accuracy"]["runtimes"].items())
                for key, metric in (("top1", "top-1"), ("top5", "top-5"))
            ]
        },
        "considerations": {
            "users": ["People who try, compare or teach exports and runtimes on a small, proved network."],
            "useCases": [_USE if config["dataset"] in DATASETS else "What whoever made these weights meant them for."],
            "technicalLimitations": limits,
            "performanceTradeoffs": [
                "The uint8 input normalizes inside the graph; the float32 input must be normalized with this network's "
                "own mean and standard deviation, or accuracy is lost."
            ],
            **({"ethicalConsiderations": [_OF_CIFAR]} if config["dataset"] in DATASETS else {}),
        },
    }


_USE = "Benchmarks of runtimes and converters, teaching, research on CIFAR."
_OF_CIFAR = {
    "name": "CIFAR is a subset of Tiny Images, collected from the web without asking the people pictured; Tiny Images "
    "was withdrawn in 2020 for offensive labels.",
    "mitigationStrategy": "No decision about people should rest on this network. The release contains no training "
    "images.",
}


def _ports(models: dict[str, Any], side: str) -> Iterable[str]:
    """Each port once, as `image: uint8 (batch, 32, 32, 3); model-uint8.onnx`."""
    files: dict[str, list[str]] = {}
    for file, model in sorted(models.items()):
        for port in model[side]:
            shape = ", ".join(map(str, port["shape"]))
            files.setdefault(f"{port['name']}: {port['dtype']} ({shape})", []).append(file)
    return [f"{port}; {', '.join(names)}" for port, names in sorted(files.items())]


def _dataset(name: str) -> dict[str, Any]:
    if name not in DATASETS:
        said = "Of whoever made the release, who says no more of it here. Not contained in the release."
        return {
            "type": "data",
            "bom-ref": _dataset_ref(name),
            "name": name,
            "scope": "excluded",
            "description": said,
            "data": [{"type": "dataset", "name": name}],
        }
    spec = DATASETS[name]
    contained = (
        "A few test images are in the golden vectors, else not contained" if name == PICTURED else "Not contained"
    )
    return {
        "type": "data",
        "bom-ref": _dataset_ref(name),
        "name": spec.title,
        "scope": "excluded",
        "description": f"{contained} in the release. Its authors publish it for research and state no license.",
        "data": [
            {
                "type": "dataset",
                "name": spec.title,
                "contents": {"url": DATASET_PAGE},
                "description": f"{spec.train_images} training and {spec.test_images} test images, 32×32, "
                f"{spec.classes} classes. Trained on the former, evaluated on the latter.",
            }
        ],
        "externalReferences": [{"type": "website", "url": DATASET_PAGE}],
    }


def _libraries(record: NetworkRecord) -> dict[str, dict[str, Any]]:
    """What the network was built with, by reference; a purl is one."""
    found = {}
    for name, version in record.config["built_with"].items():
        if name == record.config["tool"]["name"]:
            continue  # among the tools
        purl = package_url(name, version)
        found[purl] = {
            "type": "platform" if name == "python" else "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            "scope": "excluded",  # used to build, not contained
        }
    return found
