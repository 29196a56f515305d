"""Parity and accuracy of a network in any runtime: on exports made for the occasion, or on a file that exists."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from exporter import evaluation
from exporter.data import Split
from exporter.errors import GateFailed, InvalidInput, first_line
from exporter.export import export
from exporter.files import require_file, sha256_file
from exporter.formats import FORMATS, FileFacts, format_of
from exporter.formats.metadata import contradictions, describe
from exporter.parity.bisect import bisect
from exporter.parity.check import check
from exporter.parity.inputs import input_sets
from exporter.parity.isolation import GraphIsolation
from exporter.parity.report import ParityReport
from exporter.parity.repro import save_repro
from exporter.preprocess import Pixels
from exporter.resnet import with_input
from exporter.runtimes import RUNTIMES, open_runtime, require_runtime, spec_of, why_missing
from exporter.weights import Weights, build_network
from exporter.zoo import InputVariant

Progress = Callable[[str], None]
_BISECTED = 32  # images of each failing set: a wrong node is wrong on nearly all of them


def prove(
    weights: Weights,
    *,
    variant: InputVariant | None = None,
    runtimes: Sequence[str] = (),
    file: Path | None = None,
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
    if file is not None:
        facts = _facts(file, variant, trust=trust_file)
        fitting = [name for name in names if spec_of(name).reads in (facts.format, "network")]
        for name in runtimes:
            if name not in fitting:
                require_reader(name, file, facts.format)
        chosen = facts.variant or "float32"
        problems = _contradictions(facts, weights)
        files = {facts.format: file}
        report = check(weights, chosen, files, fitting, pixels, problems=problems, isolated=True, progress=progress)
        return _bisected(report, weights, files, pixels, repro, layers, progress)

    chosen = variant or "float32"
    with tempfile.TemporaryDirectory(prefix="cifar-export-") as folder:
        files = {}
        for format_name in dict.fromkeys(spec_of(name).reads for name in names):
            if format_name != "network":
                files[format_name] = Path(folder) / f"model{FORMATS[format_name].suffix}"
                output = files[format_name]
                export(weights, format_name, variant=chosen, output=output, checked=False, progress=progress)
        report = check(weights, chosen, files, names, pixels, isolated=True, progress=progress)
        return _bisected(report, weights, files, pixels, repro, layers, progress)


def score(
    weights: Weights,
    split: Split,
    runtime: str,
    *,
    variant: InputVariant | None = None,
    file: Path | None = None,
    trust_file: bool = False,
    batch_size: int = evaluation.DEFAULT_BATCH,
    limit: int | None = None,
    progress: evaluation.Progress | None = None,
) -> evaluation.Evaluation:
    """Top-1 and top-5 of `weights` in `runtime`, on a fresh export or on `file`.

    A `file` is fed the normalization that it states itself; one that states other weights is refused (`GateFailed`),
    and so is one of another format than the runtime reads (`InvalidInput`).
    """
    require_runtime(runtime)
    if file is not None:
        facts = facts_of_export(file, weights, variant, trust=trust_file)
        require_reader(runtime, file, facts.format)
        variant = facts.variant
    chosen = variant or "float32"
    with _subject(weights, runtime, chosen, file) as subject:
        return evaluation.evaluate(
            open_runtime(runtime, subject),
            split,
            weights.normalization,
            chosen,
            batch_size=batch_size,
            limit=limit,
            classes=weights.network.dataset.classes,
            progress=progress,
        )


def facts_of_export(file: Path, weights: Weights, variant: InputVariant | None, *, trust: bool) -> FileFacts:
    """What the exported `file` says of itself. Raises `GateFailed` where it says that it is of other weights.

    Raises `InvalidInput` for a file that is not ours to run (see `require_trusted`), and for another input than
    `variant`.
    """
    facts = _facts(file, variant, trust=trust)
    problems = _contradictions(facts, weights)
    if problems:
        raise GateFailed(f"{file} is no export of these weights: {'; '.join(problems)}.")
    return facts


def require_trusted(path: Path, *, trust: bool) -> None:
    """Refuse a file that cannot be read, or is code that neither its sidecar nor the user vouches for.

    TorchScript is code, and loading a .pt2 may unpickle; an ONNX file is data. The sidecar protects against files
    damaged, mixed up or replaced since the export, not against someone who can write both.
    """
    require_file(path)
    if trust or format_of(path).name == "onnx":
        return
    how = "Pass --trust-file only if you know who made it."
    sidecar = path.with_name(f"{path.name}.json")
    try:
        described = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise InvalidInput(f"{path} is code, and no sidecar {sidecar.name} of ours vouches for it. {how}") from None
    expected = described.get("sha256") if isinstance(described, dict) else None
    if expected != sha256_file(path):
        raise InvalidInput(f"{path} is code, and not the file that its sidecar describes. {how}")


def require_reader(runtime: str, file: Path, format_name: str) -> None:
    """Raise `InvalidInput`, naming those that do, unless `runtime` reads `file`, which is of that format."""
    if spec_of(runtime).reads != format_name:
        readers = ", ".join(name for name, spec in RUNTIMES.items() if spec.reads == format_name)
        raise InvalidInput(f"{runtime} does not read {file.name}. Choose a --runtime that does: {readers}.")


def _bisected(
    report: ParityReport,
    weights: Weights,
    files: Mapping[str, Path],
    pixels: Mapping[str, Pixels],
    repro: Path | None,
    layers: bool,
    progress: Progress | None,
) -> ParityReport:
    """`report`, with the first node that diverges where a runtime of the ONNX file failed, or why it is not known."""
    failed = [row for row in report.runtimes if row.passed is False and spec_of(row.runtime).reads == "onnx"]
    wanted = bool(failed) or (layers and "onnx" in files)
    if not wanted or why_missing("onnxruntime-cpu"):
        return report
    if progress is not None:
        progress("looking for the first node that diverges" if failed else "errors through the network")
    sets = {c.inputs for row in failed for c in row.comparisons if c.problem} or set(pixels)
    images = np.concatenate([some[:_BISECTED] for name, some in pixels.items() if name in sets])
    variant: InputVariant = "uint8" if report.input == "uint8" else "float32"
    try:
        with GraphIsolation() as room:
            bisection = bisect(weights, files["onnx"], variant, images, room.run)
    except Exception as error:  # noqa: BLE001  a damaged graph breaks the search in any way; the verdict stands
        return dataclasses.replace(report, divergence_unknown=first_line(error))
    found = bisection.divergence if failed else None
    if found is not None and repro is not None:
        save_repro(weights, files["onnx"], variant, images, found, repro)
    return dataclasses.replace(report, divergence=found, layers=bisection.layers if layers else ())


@contextlib.contextmanager
def _subject(weights: Weights, runtime: str, variant: InputVariant, file: Path | None) -> Iterator[Path | nn.Module]:
    """What `runtime` opens: `file`, or a module, or a fresh export that lives as long as the block."""
    reads = spec_of(runtime).reads
    if file is not None:
        yield file
    elif reads == "network":
        yield with_input(build_network(weights), variant, weights.normalization).eval()
    else:
        with tempfile.TemporaryDirectory(prefix="cifar-export-") as folder:
            output = Path(folder) / f"model{FORMATS[reads].suffix}"
            yield export(weights, reads, variant=variant, output=output, checked=False).path


def _facts(file: Path, variant: InputVariant | None, *, trust: bool) -> FileFacts:
    """What `file` says of itself, once it is known to exist, to be ours to run and to have the input asked for."""
    spec = format_of(file)
    require_trusted(file, trust=trust)
    facts = spec.load().inspect(file)
    if facts.variant is None and spec.name != "onnx" and variant is not None:
        return FileFacts(facts.format, variant, None)  # a foreign archive does not say; its user did
    if facts.variant is None:
        hint = "Export a file with one input as documented." if spec.name == "onnx" else "Say which with --input."
        raise InvalidInput(f"{file}: its input is not known to be float32 or uint8 images. {hint}")
    if variant is not None and facts.variant != variant:
        raise InvalidInput(f"{file}: its input is {facts.variant}, not {variant}. Leave --input away.")
    return facts


def _contradictions(facts: FileFacts, weights: Weights) -> list[str]:
    if facts.metadata is None or facts.variant is None:
        return []
    return contradictions(facts.metadata, describe(weights, facts.variant, checked=True))
