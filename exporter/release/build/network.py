"""One network's folder in a release: exported, proved, scored, described.

Every byte depends on the weights, the tool and the versions of the libraries alone: not on the folder, the user, the
date, the number of threads or the further runtimes that were asked for. What differs from machine to machine is
returned, and stays outside the release.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...data import Split
from ...errors import GateFailed, from_os_error
from ...exporting.artifact import companions, write_file
from ...exporting.golden import Golden, golden_vectors, tolerance_in
from ...formats import FORMATS, FileFacts
from ...formats.onnx_choices import OnnxChoices, Precision
from ...formats.ports import OUTPUT, input_port
from ...formats.test_data import write_data_set
from ...gate.report import ParityReport
from ...gate.versions import versions
from ...networks.resnet import with_input
from ...networks.zoo import RELEASED_VARIANTS, InputVariant, NetworkSpec
from ...runtimes import spec_of
from ...system.files import sha256_bytes
from ...system.processor import processor_name
from ...system.torch_state import threads_at_most
from ...weights.core import Weights
from ...weights.core import build_network as build_module
from ...weights.index import BundledEntry, bundled_entries, bundled_folder
from ...weights.sources import load_weights
from ..documents.card import render_card
from ..documents.config import config_document, parity_document
from ..layout import (
    ALL_MODELS,
    CARD,
    CONFIG,
    FULL,
    FURTHER_INPUT,
    GOLDEN,
    LABELS,
    PARITY,
    REDUCED,
    WEIGHTS,
    ModelFile,
    models_with,
)
from ..required import GATED, NOTHING_MORE, Wanted
from ..sums import write_sums
from .assemble import write_json
from .further import described, further_runtimes, golden_errors, require_formats
from .gate import gate_accuracy, gate_parity, runtimes_of
from .own import ORIGIN, Prepared
from .reduced import Reduced, build_reduced

Progress = Callable[[str], None]


def build_network(
    spec: NetworkSpec,
    version: str,
    folder: Path,
    split: Split | None,
    *,
    runtimes: Sequence[str] = (),
    wanted: Wanted = NOTHING_MORE,
    opset: int | None = None,
    own: Prepared | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the bundled weights of `spec` with all that belongs to a release into the empty `folder`.

    `version`: of the release. `split`: the data set's test images; None only for `own` weights, whose accuracy nobody
    can measure here then. `runtimes`: more to pass parity than `gate.REQUIRED`. `wanted`: files to make too. `opset`:
    of the ONNX files, `formats.onnx_choices.DEFAULT_OPSET` by default. `own`: what to build from in the place of
    bundled weights.
    SHA256SUMS is written last; on any error `folder` holds a part that is good for nothing.

    Returns what was measured: errors, accuracy, seconds, versions, processor. Raises `GateFailed` where parity or
    accuracy fails, `InvalidInput` where no weights are bundled or a runtime is unknown, `Unavailable` where one cannot
    run here or the disk is full.
    """
    names = runtimes_of(runtimes)
    require_formats(wanted.formats)
    clock = _Clock(spec.name, progress)
    try:
        weights, entry = _bundled(spec, folder, own)
        with tempfile.TemporaryDirectory(prefix="cifar-export-") as scratch:
            clock.start("exporting")
            further = further_runtimes(wanted.formats)
            proving = {"float32": names, FURTHER_INPUT: tuple(dict.fromkeys((*names, *further)))}
            files, facts = _export(weights, folder, Path(scratch), proving, wanted, opset)
            reports = {}
            for variant in RELEASED_VARIANTS:
                clock.start(f"parity of {variant} input")
                must = further if variant == FURTHER_INPUT else ()
                reports[variant] = gate_parity(
                    weights, variant, files[variant], proving[variant], clock.tell, further=must
                )
        evaluation = scored = None
        if split is not None:
            clock.start("accuracy")
            evaluation = gate_accuracy(entry, weights, folder / "model.onnx", split, clock.tell)
            scored = (split, evaluation.predictions)
        more: dict[Precision, Reduced] = {}
        for precision in wanted.precisions:
            clock.start(precision)
            more[precision] = build_reduced(
                weights, entry, precision, folder, names, scored, wanted.budget, opset=opset, tell=clock.tell
            )
        clock.start("describing")
        every: dict[Precision, Weights] = {"float32": weights, **{one: made.weights for one, made in more.items()}}
        golden = _write_golden(every, folder)
        answered = golden_errors(spec.name, folder, wanted.formats, golden[FULL])
        config = config_document(
            entry,
            spec,
            version,
            facts | {REDUCED[one]: made.facts for one, made in more.items()},
            {file: held.atol for file, held in golden.items()},
            {one: made.described for one, made in more.items()},
            described(folder, wanted.formats),
        )
        parity = parity_document(entry, reports, {one: made.parity for one, made in more.items()}, wanted.formats)
        _write_documents(folder, config, parity)
        write_sums(folder)
    except OSError as error:
        raise from_os_error(error, f"write {folder}") from error
    measured = _measurements(reports, evaluation.as_dict() if evaluation else None, clock)
    return measured | {"reduced": {one: made.measured for one, made in more.items()}, "golden": answered}


def _bundled(spec: NetworkSpec, folder: Path, own: Prepared | None) -> tuple[Weights, BundledEntry]:
    """The weights and what is known of them, once their file stands in `folder` byte by byte."""
    if own is None:
        weights, entry = load_weights(spec), bundled_entries()[spec.name]
        file = bundled_folder() / entry.file
    else:
        entry, file = own.entry, own.file
        weights = replace(load_weights(spec, str(file)), changes=tuple(entry.provenance[ORIGIN]["changes"]))
    data = file.read_bytes()
    if sha256_bytes(data) != weights.sha256:
        raise GateFailed(f"the bundled weights of {spec.name} were changed while they were read. Run it again.")
    (folder / WEIGHTS).write_bytes(data)
    return weights, entry


def _export(
    weights: Weights,
    folder: Path,
    scratch: Path,
    runtimes: Mapping[InputVariant, Sequence[str]],
    wanted: Wanted,
    opset: int | None,
) -> tuple[dict[InputVariant, dict[str, Path]], dict[str, FileFacts]]:
    """Write the model files to `folder`, and to `scratch` what is only needed to prove both input variants.

    `runtimes`: those that must pass, by input variant. Returns paths by variant and format, and what each file of the
    release says of itself.
    """
    released = {made: file for file, made in models_with((), wanted.formats).items()}
    files: dict[InputVariant, dict[str, Path]] = {}
    facts = {}
    for variant in RELEASED_VARIANTS:
        module = with_input(build_module(weights), variant, weights.normalization).eval()
        files[variant] = {}
        for format_name in dict.fromkeys(spec_of(name).reads for name in (*GATED, *runtimes[variant])):
            if format_name == "network":
                continue
            file = released.get(ModelFile(format_name, variant))
            path = folder / file if file else scratch / f"{variant}{FORMATS[format_name].suffix}"
            asked = OnnxChoices(opset=opset) if opset and format_name == "onnx" else None
            found = write_file(path, weights, format_name, variant, module, choices=asked, checked=True)
            files[variant][format_name] = path
            if file:
                facts[file] = found
                spec = FORMATS[format_name]
                for place, content in zip(spec.beside_of(path), companions(spec, path), strict=True):
                    place.write_bytes(content)
    return files, facts


def _write_golden(weights: Mapping[Precision, Weights], folder: Path) -> dict[str, Golden]:
    """Write the golden vectors of the ONNX files in those precisions; those of each."""
    golden = {}
    for file, place in GOLDEN.items():
        _, variant, precision = ALL_MODELS[file]
        if precision not in weights:
            continue
        with threads_at_most(1):  # the order of summation is part of the bytes
            images, logits = golden_vectors(weights[precision], variant, precision)
            atol = tolerance_in(precision, weights[precision], variant, logits)
        golden[file] = Golden(images, logits, atol)
        write_data_set((folder / place).parent, {input_port(variant).name: images}, {OUTPUT: logits})
    return golden


def _write_documents(folder: Path, config: dict[str, Any], parity: dict[str, Any]) -> None:
    write_json(folder / CONFIG, config)
    write_json(folder / PARITY, parity)
    labels = "".join(f"{label}\n" for label in config["labels"])
    (folder / LABELS).write_text(labels, encoding="utf-8", newline="\n")
    (folder / CARD).write_text(render_card(config, parity), encoding="utf-8", newline="\n")


class _Clock:
    """Tells what begins, and adds up the seconds of each step: by the wall and of the processor."""

    def __init__(self, name: str, progress: Progress | None) -> None:
        self._name, self._progress = name, progress
        self._step = ""
        self._steps: dict[str, tuple[float, float]] = {}

    def start(self, step: str) -> None:
        """Begin `step`, which ends the one before."""
        self._steps[step] = (time.perf_counter(), time.process_time())
        self._step = f"{self._name}: {step}"
        if self._progress is not None:
            self._progress(self._step)

    def tell(self, detail: str) -> None:
        """Say how far the step is."""
        if self._progress is not None:
            self._progress(f"{self._step}, {detail}")

    def seconds(self) -> dict[str, dict[str, float]]:
        """Seconds of each step; the last one ends now."""
        ends = [*list(self._steps.values())[1:], (time.perf_counter(), time.process_time())]
        return {
            step: {"wall": round(end[0] - begin[0], 3), "cpu": round(end[1] - begin[1], 3)}
            for (step, begin), end in zip(self._steps.items(), ends, strict=True)
        }


def _measurements(
    reports: dict[InputVariant, ParityReport], evaluation: dict[str, Any] | None, clock: _Clock
) -> dict[str, Any]:
    """What this build measured on this machine, for JSON."""
    return {
        "parity": {variant: report.as_dict() for variant, report in reports.items()},
        "accuracy": evaluation,
        "seconds": clock.seconds(),
        "versions": versions(),
        "processor": processor_name(),
        "system": platform.system(),
        "threads": torch.get_num_threads(),
    }
