"""`config.json` and `parity.json` of a network: what was released, and what it passed.

Both depend on the weights, the tool and the libraries alone, never on the machine: docs/releases.md has them key by
key.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from packaging.version import Version

from ...formats import FORMATS, FileFacts
from ...formats.onnx_choices import Precision
from ...formats.ports import described_ports
from ...gate.compare import MULTIPLE, ULPS, YARDSTICK_LIMIT_ULPS
from ...gate.inputs import BATCH_SIZES, input_sets
from ...gate.report import ParityReport
from ...gate.standard import HALF_MULTIPLE
from ...networks.zoo import IMAGE_SIZE, RELEASED_VARIANTS, InputVariant, NetworkSpec
from ...runtimes import spec_of
from ...system.version import __version__
from ...weights.index import BundledEntry
from ..contents import CONFIG_SCHEMA
from ..layout import FULL, FURTHER_INPUT, GOLDEN, further_file, models_with
from ..required import JUDGE, REQUIRED, YARDSTICK

PARITY_SCHEMA = 3
_LIBRARIES = ("torch", "onnx")
_LARGEST, _MEAN = spec_of(JUDGE).int8_units
_REDUCED_RULES: dict[Precision, dict[str, float]] = {  # docs/precision.md
    "float16": {"multiple": HALF_MULTIPLE},
    "int8": {"largest_units": _LARGEST, "mean_units": _MEAN},
}


def config_document(
    entry: BundledEntry,
    spec: NetworkSpec,
    version: str,
    facts: Mapping[str, FileFacts],
    tolerances: Mapping[str, float],
    reduced: Mapping[Precision, Mapping[str, Any]] | None = None,
    further: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """`config.json` of the network `spec`, of whose weights `entry` says what is known.

    `facts`: of every model file; `tolerances`: of the golden vectors; `reduced` and `further`: what is said of the
    files in reduced precision and in further formats, if there are some.
    """
    origin = entry.provenance.get("origin")
    models = models_with(reduced or (), further or ())
    return {
        "schema": CONFIG_SCHEMA,
        "network": spec.name,
        "model": spec.model.name,
        "dataset": spec.dataset.name,
        "version": version,
        "tool": {"name": "cifar-export", "version": __version__},
        "image": {"width": IMAGE_SIZE, "height": IMAGE_SIZE, "channels": "RGB"},
        "labels": list(spec.dataset.labels),
        "normalization": entry.normalization.as_dict(),
        "weights": {
            "sha256": entry.sha256,
            "source": "file" if origin else "bundled",
            **({"origin": origin} if origin else {}),
            "recipe": entry.recipe,
            "seed": entry.seed,
            # the log is no part of a release
            "training": {key: value for key, value in entry.provenance.items() if key not in ("log", "origin")}
            | ({"plan": entry.plan, "runs_evaluated": entry.runs_evaluated} if entry.plan else {}),
        },
        "accuracy": own_accuracy(entry) if origin else _accuracy(entry, spec),
        "models": {
            file: {
                "format": made.format,
                "input": made.input,
                "precision": made.precision,
                "opset": facts[file].opset,
                "ir_version": facts[file].ir_version,
                **described_ports(made.input, spec.dataset.classes),
            }
            for file, made in models.items()
        },
        "golden": {
            file: {"folder": GOLDEN[held], "atol": tolerances[held], "rtol": 0.0}
            for file, held in _golden_of(models, further or ()).items()
        },
        "reduced": dict(reduced or {}),
        "further": dict(further or {}),
        "built_with": built_with(further or ()),
    }


def _golden_of(models: Iterable[str], further: Iterable[str]) -> dict[str, str]:
    """The ONNX file whose golden vectors each file has, by file."""
    return {file: file for file in models if file in GOLDEN} | {further_file(name): FULL for name in further}


def parity_document(
    entry: BundledEntry,
    reports: Mapping[InputVariant, ParityReport],
    reduced: Mapping[Precision, ParityReport] | None = None,
    further: Iterable[str] = (),
) -> dict[str, Any]:
    """`parity.json`: verdicts, rule and counts of the runtimes that every network must pass.

    `reports` must have passed, and those of files in `reduced` precision; the runtimes of `further` formats are in the
    former. What was measured differs from machine to
    machine and is not in here.
    """
    more = reduced or {}
    return {
        "schema": PARITY_SCHEMA,
        "passed": all(report.passed for report in (*(reports[one] for one in RELEASED_VARIANTS), *more.values())),
        "network": entry.network,
        "weights_sha256": entry.sha256,
        "reference": "PyTorch float64, CPU",
        "rule": {
            "yardstick": YARDSTICK,
            "multiple": MULTIPLE,
            "ulps": ULPS,
            "yardstick_limit_ulps": YARDSTICK_LIMIT_ULPS,
        },
        "batch_sizes": list(BATCH_SIZES),
        "image_sets": {
            name: {"images": len(pixels), "sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}
            for name, pixels in input_sets().items()
        },
        "inputs": {variant: list(_rows(reports[variant], REQUIRED)) for variant in RELEASED_VARIANTS},
        "reduced": {
            precision: {
                "reference": report.reference,
                "rule": _REDUCED_RULES[precision],
                "runtimes": list(_rows(report, (JUDGE,))),
            }
            for precision, report in more.items()
        },
        "further": {
            name: {"input": FURTHER_INPUT, "runtimes": list(_rows(reports[FURTHER_INPUT], (FORMATS[name].gate,)))}
            for name in further
        },
    }


def built_with(formats: Iterable[str] = ()) -> dict[str, str]:
    """Versions of what the bytes and the verdicts come from: Python's minor, and public versions of libraries.

    `formats`: the further ones that there are files in.
    """
    import onnxruntime  # by its module: the distribution has several names

    libraries = (*_LIBRARIES, *(spec.library for spec in map(FORMATS.__getitem__, formats) if spec.library))
    found = {name: importlib.metadata.version(name) for name in libraries} | {"onnxruntime": onnxruntime.__version__}
    return {
        "cifar-export": __version__,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        # without what follows a plus: the same release for another accelerator
        **{name: Version(version).public for name, version in found.items()},
    }


def _accuracy(entry: BundledEntry, spec: NetworkSpec) -> dict[str, Any]:
    runtimes = {JUDGE: {"top1": entry.top1, "top5": entry.top5}}
    if {"pytorch_top1", "pytorch_top5"} <= set(entry.metrics):
        runtimes["pytorch"] = {key: entry.metrics[f"pytorch_{key}"] for key in ("top1", "top5")}
    reference = spec.reference
    return {
        "top1": entry.top1,
        "top5": entry.top5,
        "images": entry.metrics.get("images", spec.dataset.test_images),
        "below_reference": entry.below_reference,
        "reference": {"top1": reference.top1, "top5": reference.top5} if reference else None,
        "runtimes": runtimes,
    }


def own_accuracy(entry: BundledEntry) -> dict[str, Any]:
    """Of somebody's own weights: nothing was published, and figures may be stated by their file alone, or unknown."""
    found = {key: entry.metrics.get(key) for key in ("top1", "top5", "images", "source")}
    measured = found["source"] == "measured"
    runtimes = {JUDGE: {key: found[key] for key in ("top1", "top5")}} if measured else {}
    return {**found, "below_reference": False, "reference": None, "runtimes": runtimes}


def _rows(report: ParityReport, runtimes: Sequence[str]) -> Iterable[dict[str, Any]]:
    results = {result.runtime: result for result in report.runtimes}
    for name in runtimes:
        role = "yardstick" if name == YARDSTICK else "gated"
        yield {
            "runtime": name,
            "role": role,
            "passed": results[name].state in ("passed", "yardstick"),
            "images": results[name].images,
        }
