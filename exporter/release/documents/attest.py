"""The attestations of a release: in-toto Statements v1 that bind claims to the sha256 of every artifact.

Statement: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md. Both are unsigned here; SHA256SUMS
lists them and the release's signature covers them. docs/schemas has their JSON schema, docs/releases.md their worth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import GateFailed
from ...networks.zoo import InputVariant
from ...runtimes import RUNTIMES
from ..contents import FileRecord, NetworkRecord, Origin
from ..layout import ALL_MODELS, CONFIG, PARITY, REDUCED, ModelFile
from ..required import JUDGE
from .sbom import package_url

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
TEST_RESULT_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
BUILD_TYPE = "urn:cifar-export:build:package:v1"
"""`cifar-export package`: docs/releases.md says what the parameters mean."""
LOCAL_BUILDER = "urn:cifar-export:builder:local"
"""A machine that nobody vouches for but who runs it: SLSA Build level 1 (https://slsa.dev/spec/v1.1/levels)."""
UNCOMMITTED = "urn:cifar-export:source:modified"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_FILES: dict[ModelFile, str] = {of: file for file, of in ALL_MODELS.items()}


def provenance(networks: Sequence[NetworkRecord], archives: Mapping[str, FileRecord], origin: Origin) -> dict[str, Any]:
    """SLSA provenance v1 of a release: from which commit, weights and libraries its artifacts were made.

    `archives`: digest by file name. It holds nothing of the machine, so two builds of one commit say the same. A
    commit that is "-dirty" or None is no digest of the source: `externalParameters.source` says so, and a verifier
    that expects "commit" there refuses it.
    """
    tools = {record.config["tool"]["name"]: record.config["tool"]["version"] for record in networks}
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "version": origin.version,
                "networks": sorted(record.name for record in networks),
                "runtimes": sorted({row["runtime"] for record in networks for _, row in _parity_rows(record)}),
                "precisions": sorted({one for record in networks for one in record.config.get("reduced", ())}),
                "formats": sorted({one for record in networks for one in record.config.get("further", ())}),
                "source": _source_state(origin.commit),
                "sourceDateEpoch": origin.epoch,
            },
            "resolvedDependencies": [*_source(origin.commit), *_weights(networks), *_libraries(networks)],
        },
        # no metadata: an invocation's id or time would differ between two builds of the same
        "runDetails": {"builder": {"id": LOCAL_BUILDER, "version": tools}},
    }
    return _statement(PROVENANCE_TYPE, _subjects(networks, archives), predicate)


def test_result(
    networks: Sequence[NetworkRecord], archives: Mapping[str, FileRecord], origin: Origin
) -> dict[str, Any]:
    """The in-toto test-result of a release: which artifact passed parity in which runtime, and its accuracy.

    Raises `GateFailed` where `parity.json` of a network says anything but passed.
    """
    del origin  # the same artifacts have passed the same tests, whatever they are called
    for record in networks:
        failed = [
            f"{row.get('runtime')} {variant}" for variant, row in _parity_rows(record) if row["passed"] is not True
        ]
        if record.parity.get("passed") is not True or failed:
            raise GateFailed(f"{record.name} did not pass parity ({', '.join(failed) or PARITY}). Package it again.")
    predicate = {
        "result": "PASSED",
        "configuration": [
            {
                "name": f"{record.name}/{name}",
                "digest": {"sha256": record.files[name].sha256},
                "mediaType": "application/json",
            }
            for record in _ordered(networks)
            for name in (CONFIG, PARITY)
        ],
        "passedTests": [test for record in _ordered(networks) for test in (*_parity(record), *_accuracy(record))],
        "warnedTests": [],
        "failedTests": [],
    }
    return _statement(TEST_RESULT_TYPE, _subjects(networks, archives), predicate)


def _statement(predicate_type: str, subjects: list[dict[str, Any]], predicate: dict[str, Any]) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def _ordered(networks: Sequence[NetworkRecord]) -> list[NetworkRecord]:
    return sorted(networks, key=lambda record: record.name)


def _subjects(networks: Sequence[NetworkRecord], archives: Mapping[str, FileRecord]) -> list[dict[str, Any]]:
    """Every archive, and every file of every network."""
    files = dict(archives) | {
        f"{record.name}/{name}": found for record in networks for name, found in record.files.items()
    }
    return [{"name": name, "digest": {"sha256": files[name].sha256}} for name in sorted(files)]


def _source_state(commit: str | None) -> str:
    """What `commit` is worth: "commit" names just what was built, "modified" files that changed since, or "unknown"."""
    if commit is None:
        return "unknown"
    if _COMMIT.fullmatch(commit):
        return "commit"
    return "modified" if _COMMIT.fullmatch(commit.removesuffix("-dirty")) else "unknown"


def _source(commit: str | None) -> Iterator[dict[str, Any]]:
    state = _source_state(commit)
    if state == "commit":
        yield {"name": "source", "digest": {"gitCommit": commit}}
    elif commit is not None and state == "modified":
        # no digest: that commit is not what was built
        yield {"name": "source", "uri": UNCOMMITTED, "annotations": {"basedOnCommit": commit.removesuffix("-dirty")}}


def _weights(networks: Sequence[NetworkRecord]) -> Iterator[dict[str, Any]]:
    for record in _ordered(networks):
        yield {"name": f"weights of {record.name}", "digest": {"sha256": record.config["weights"]["sha256"]}}


def _libraries(networks: Sequence[NetworkRecord]) -> Iterator[dict[str, Any]]:
    found = {
        package_url(name, version): name
        for record in networks
        for name, version in record.config["built_with"].items()
        if name != record.config["tool"]["name"]
    }
    for purl in sorted(found):
        yield {"name": found[purl], "uri": purl}


def _parity_rows(record: NetworkRecord) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was compared: an input variant of float32 files or a reduced precision, and the row of a runtime.

    Files in further formats are among the float32 ones.
    """
    for variant, rows in sorted(record.parity["inputs"].items()):
        for row in rows:
            yield variant, row
    for _, found in sorted(record.parity.get("further", {}).items()):
        for row in found["runtimes"]:
            yield found["input"], row
    for precision, found in sorted(record.parity.get("reduced", {}).items()):
        for row in found["runtimes"]:
            yield precision, row


def _file_of(runtime: str, variant: InputVariant) -> str | None:
    """The released file that `runtime` reads for that input variant, if there is one."""
    spec = RUNTIMES.get(runtime)
    return _FILES.get(ModelFile(spec.reads, variant)) if spec else None


def _parity(record: NetworkRecord) -> Iterator[str]:
    reduced: Mapping[str, str] = {str(precision): file for precision, file in REDUCED.items()}
    for what, row in _parity_rows(record):
        file = reduced.get(what) or _file_of(row["runtime"], "uint8" if what == "uint8" else "float32")
        if file:
            yield f"{record.name}/{file}: parity {row['runtime']} {what}"


def _accuracy(record: NetworkRecord) -> Iterator[str]:
    accuracy = record.config["accuracy"]
    for runtime, values in sorted(accuracy["runtimes"].items()):
        file = _file_of(runtime, "float32")
        if file:
            yield (
                f"{record.name}/{file}: accuracy {runtime} top-1 {values['top1']:.2f} % top-5 {values['top5']:.2f} % "
                f"of {accuracy['images']} test images"
            )
    for precision, found in sorted(record.config.get("reduced", {}).items()):
        measured = found["accuracy"]
        for runtime, values in sorted(measured["runtimes"].items()):
            if runtime == JUDGE:  # the others were not run for this release
                yield (
                    f"{record.name}/{found['file']}: accuracy {runtime} top-1 {values['top1']:.2f} % "
                    f"top-5 {values['top5']:.2f} % of {measured['images']} test images, at most "
                    f"{measured['budget']:.2f} points below float32 ({precision})"
                )
