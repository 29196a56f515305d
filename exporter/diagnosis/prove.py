"""Parity of a network in every runtime: on exports made for the occasion, or on a file that exists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import InvalidInput, first_line
from ..exporting.precision import prepared
from ..exporting.subject import Subject, contradicting, facts_of, precision_of, readers, require_reader
from ..formats.onnx_choices import Precision
from ..gate.check import check
from ..gate.inputs import input_sets
from ..gate.isolation import GraphIsolation
from ..gate.report import ParityReport
from ..networks.preprocess import Pixels
from ..networks.zoo import INPUT_VARIANTS, InputVariant
from ..runtimes import RUNTIMES, require_precision, require_runtime, spec_of, why_missing
from ..weights.core import Weights
from .locate import locate
from .locate_half import locate_half
from .locate_int8 import locate_int8
from .repro import save_repro

Progress = Callable[[str], None]
_SATURATES = (
    "each node of the file alone is right, but its weights have 8 bits, and processors without VNNI add their products "
    "in 16 bits that saturate. Export it with --weight-bits 7"
)
_SEARCHES = {"float32": locate, "float16": locate_half, "int8": locate_int8}
_SEARCHED = 32  # images of each failing set: a wrong node is wrong on nearly all of them


def prove(
    weights: Weights,
    *,
    variant: InputVariant | None = None,
    runtimes: Sequence[str] = (),
    file: Path | None = None,
    precision: Precision | None = None,
    trust_file: bool = False,
    more_pixels: Mapping[str, Pixels] | None = None,
    repro: Path | None = None,
    layers: bool = False,
    progress: Progress | None = None,
) -> ParityReport:
    """Parity of every runtime (or of those named) on fresh exports of `weights`, or on one exported `file`.

    Fresh exports live in a temporary folder. With `file`, the runtimes are those that read its format, the input
    variant is the file's own, and its metadata must be that of `weights`. `more_pixels`: further named sets of uint8
    images. A runtime that is missing is a row; one that was named and is missing raises `Unavailable`. Where an ONNX
    runtime fails, the report names the first node that diverges, and the folder `repro` gets that node as a model with
    its test data. With `layers` it also has the error of every value of the ONNX graph, if one was compared.
    """
    pixels = {**input_sets(), **(more_pixels or {})}
    names = list(runtimes) or [name for name, spec in RUNTIMES.items() if spec.by_default]
    for name in runtimes:
        require_runtime(name)
    if all(spec_of(name).reads == "network" for name in names):
        raise InvalidInput(
            f"{', '.join(names)} is what others are measured by. Name a --runtime that reads a file too."
        )
    if not any(spec_of(name).gated for name in names):
        raise InvalidInput(
            f"{', '.join(names)} would only be reported, nothing proved. Name a --runtime that is gated too."
        )
    chosen: InputVariant = variant or "float32"
    reduced: Precision = precision or "float32"
    problems: list[str] = []
    if file is not None:
        facts = facts_of(file, variant, trust=trust_file)
        fitting = readers(names, facts.format)
        for name in runtimes:
            if name not in fitting:
                require_reader(name, file, facts.format)
        reduced = precision_of(file, facts, precision)
        weights = prepared(weights, reduced, progress=progress)
        chosen, names, problems = facts.variant or chosen, fitting, contradicting(facts, weights)
    else:
        weights = prepared(weights, reduced, progress=progress)
    names = _able(names, reduced, named=bool(runtimes))
    with Subject(weights, chosen, file, progress, reduced) as subject:
        # a format whose runtimes are all missing may have no exporter here either: OpenVINO writes its own files
        formats = dict.fromkeys(spec_of(name).reads for name in names if why_missing(name) is None)
        files = {format_name: subject.file(format_name) for format_name in formats if format_name != "network"}
        report = check(
            weights,
            chosen,
            files,
            names,
            pixels,
            problems=problems,
            isolated=True,
            precision=reduced,
            progress=progress,
        )
        return _located(report, weights, files, pixels, repro, layers, progress)


def _able(names: Sequence[str], precision: Precision, *, named: bool) -> list[str]:
    """Those of the runtimes `names` that run files in that precision. Raises `InvalidInput` for one that was named."""
    for name in names if named else ():
        require_precision(name, precision)
    return [name for name in names if precision in spec_of(name).precisions]


def _located(
    report: ParityReport,
    weights: Weights,
    files: Mapping[str, Path],
    pixels: Mapping[str, Pixels],
    repro: Path | None,
    layers: bool,
    progress: Progress | None,
) -> ParityReport:
    """`report`, with the first node that diverges where a runtime of the ONNX file failed, or why it is not known."""
    failed = [row for row in report.runtimes if row.state == "failed" and spec_of(row.runtime).reads == "onnx"]
    wanted = bool(failed) or (report.precision == "float32" and layers and "onnx" in files)
    if not wanted or why_missing("onnxruntime-cpu"):
        return report
    if progress is not None:
        progress("looking for the first node that diverges" if failed else "errors through the network")
    sets = {c.inputs for row in failed for c in row.comparisons if c.problem} or set(pixels)
    images = np.concatenate([some[:_SEARCHED] for name, some in pixels.items() if name in sets])
    variant = next(known for known in INPUT_VARIANTS if known == report.input)
    try:
        with GraphIsolation() as room:
            located = _SEARCHES[report.precision](weights, files["onnx"], variant, images, room.run)
    except Exception as error:  # noqa: BLE001  a damaged graph breaks the search in any way; the verdict stands
        return dataclasses.replace(report, divergence_unknown=first_line(error))
    found = located.divergence if failed else None
    if found is None and weights.grids is not None and weights.grids.weight_bits == 8 and report.precision == "int8":
        return dataclasses.replace(report, problems=(*report.problems, _SATURATES))
    if found is not None and repro is not None and report.precision == "float32":
        save_repro(weights, files["onnx"], variant, images, found, repro)
    return dataclasses.replace(report, divergence=found, layers=located.layers if layers else ())
