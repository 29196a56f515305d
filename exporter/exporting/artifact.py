"""One artifact from start to end: weights, format, read-back, parity, rename.

A file stands under its name only after everything that was asked of it has been checked; otherwise nothing new does,
and an older file of that name is untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import GateFailed, InvalidInput
from ..formats import FORMATS, FileFacts, FormatSpec, Request, choices_for, require_library
from ..formats.choices import Choices
from ..formats.metadata import describe
from ..formats.onnx_choices import OnnxChoices, Precision
from ..formats.test_data import FOLDER as DATA_SET
from ..gate.check import check
from ..gate.inputs import few_of_each
from ..gate.report import ParityReport
from ..networks.resnet import with_input
from ..networks.zoo import InputVariant, NetworkSpec
from ..runtimes import require_runtime, spec_of
from ..runtimes.pytorch import refuse_training_mode
from ..system.files import require_utf8, sha256_file, staged_together
from ..weights.core import Weights, build_network
from .sidecar import sidecar_path, sidecar_text

EXPORTS = Path("artifacts") / "exports"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Artifact:
    """An exported file that stands under its name. `parity` is None where it was not checked.

    `beside`: what else its format has, the sidecar not included.
    """

    path: Path
    format: str
    sha256: str
    bytes: int
    input: InputVariant
    ir_version: int | None
    choices: Choices | None
    weights: Weights
    parity: ParityReport | None
    beside: tuple[Path, ...] = ()

    @property
    def opset(self) -> int | None:
        """The opset of an ONNX file."""
        return self.choices.opset if isinstance(self.choices, OnnxChoices) else None

    @property
    def precision(self) -> Precision:
        """That of weights and arithmetic; files of other formats are float32."""
        return self.choices.precision if self.choices else "float32"

    def stands(self) -> bool:
        """Whether the file of that name is still this one: several processes may export to it."""
        try:
            return sha256_file(self.path) == self.sha256
        except OSError:
            return False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": str(self.path),
            "format": self.format,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "opset": self.opset,
            "ir_version": self.ir_version,
            "choices": self.choices.as_dict() if self.choices else None,
            "input": self.input,
            "beside": [str(path) for path in self.beside],
            "weights": {
                "source": self.weights.source,
                "sha256": self.weights.sha256,
                "normalization": self.weights.normalization.as_dict(),
                "key": self.weights.key,
                "changes": list(self.weights.changes),
                "renamed": dict(self.weights.renamed),
            },
            "parity": self.parity.as_dict() if self.parity else {"passed": None, "reason": "not checked (--no-check)"},
        }


def default_path(
    network: NetworkSpec, format_name: str, variant: InputVariant, precision: Precision = "float32"
) -> Path:
    """`artifacts/exports/<dataset>_<model>[-uint8|-unit][-float16|-int8]<suffix>`, relative to the current folder."""
    suffix = "".join(f"-{one}" for one in (variant, precision) if one != "float32")
    return EXPORTS / f"{network.name}{suffix}{FORMATS[format_name].suffix}"


def export(
    weights: Weights,
    format_name: str,
    *,
    variant: InputVariant = "float32",
    choices: Choices | None = None,
    output: Path | None = None,
    checked: bool = True,
    module: nn.Module | None = None,
    golden: Path | None = None,
    accept: Callable[[Path], None] | None = None,
    progress: Progress | None = None,
) -> Artifact:
    """Export `weights` to one file with its sidecar `<file>.json`, gated by parity unless `checked` is False.

    `output` must end with the format's suffix. `choices` are for formats that have some, whose defaults they replace.
    `module` replaces the network built from `weights` (in eval mode, behind the input variant) for callers that made it
    themselves; parity holds it against `weights` all the same. `golden`: a folder that gets golden vectors
    (`golden.golden_files`); it, the file, the sidecar and what its format has beside it appear together or not at all.
    `accept` is called with the finished file under another name, and refuses it by raising.
    Raises `GateFailed` where the file is not what was asked for or parity fails, `InvalidInput` for a wrong option or
    path, `Unavailable` where the disk is full or what proves the file is not installed.
    """
    spec = FORMATS[format_name]
    path = output or default_path(weights.network, format_name, variant, choices.precision if choices else "float32")
    _check_name(path, spec)
    if choices and choices.precision not in spec.precisions:
        known = " or ".join(spec.precisions)
        raise InvalidInput(f"{spec.title} is written in {known}, not in {choices.precision}. Ask for one of these.")
    require_library(spec)
    if checked:
        require_runtime(spec.gate)
    module = module if module is not None else with_input(build_network(weights), variant, weights.normalization).eval()
    refuse_training_mode(module)
    _tell(progress, f"exporting to {spec.title}")
    beside, more = spec.beside_of(path), () if golden is None else golden_paths(format_name, golden)
    with staged_together(path, sidecar_path(path), *beside, *more) as (temporary, temporary_sidecar, *others):
        facts = write_file(temporary, weights, format_name, variant, module, choices=choices, checked=checked)
        report = None
        if checked:
            files = {format_name: temporary}
            report = check(
                weights,
                variant,
                files,
                [spec.gate],
                few_of_each(),
                isolated=spec_of(spec.gate).apart,
                full_batch=True,
                precision=facts.precision,
                progress=progress,
            )
            if not report.passed:
                raise GateFailed(
                    f"parity failed: {'; '.join(report.failures).rstrip('.')}. Nothing was written to {path}."
                )
        if accept is not None:
            accept(temporary)
        size, sha256 = temporary.stat().st_size, sha256_file(temporary)
        artifact = Artifact(
            path, format_name, sha256, size, variant, facts.ir_version, facts.choices, weights, report, beside
        )
        for other, content in zip(others, companions(spec, temporary), strict=False):
            other.write_bytes(content)
        text = sidecar_text(facts, weights.network.dataset.classes, sha256=sha256, size=size)
        temporary_sidecar.write_text(text, encoding="utf-8")
        if golden is not None:
            from .golden import golden_files

            _tell(progress, "golden vectors")
            contents = golden_files(artifact, golden, temporary.read_bytes())
            for place, other in zip(more, others[len(beside) :], strict=True):
                other.write_bytes(contents.pop(place))
    return artifact


def write_file(
    path: Path,
    weights: Weights,
    format_name: str,
    variant: InputVariant,
    module: nn.Module,
    *,
    choices: Choices | None,
    checked: bool,
) -> FileFacts:
    """Write the one file of that format, without a sidecar and without parity, and read back what it says of itself.

    `checked` goes into its metadata: the caller, who gave it a name that nobody takes for a finished file, either
    proves it or removes it. Raises `GateFailed` where the file is not what was asked for, and OSError.
    """
    choices = choices or choices_for(format_name)
    metadata = describe(weights, variant, checked=checked, choices=choices)
    module_of_format = FORMATS[format_name].load()
    path.write_bytes(
        module_of_format.serialize(
            Request(module, variant, weights.network.dataset.classes, metadata, choices, weights.grids)
        )
    )
    facts = module_of_format.inspect(path)
    if facts.variant != variant or facts.metadata != metadata:
        raise GateFailed("the file does not say of itself what was asked for. Nothing was written.")
    return facts


def companions(spec: FormatSpec, path: Path) -> list[bytes]:
    """What belongs beside the file at `path`, in the order of `FormatSpec.beside`."""
    contents = spec.load().companions(path.read_bytes()) if spec.beside else {}
    return [contents[ending] for ending in spec.beside]


def golden_paths(format_name: str, folder: Path) -> tuple[Path, ...]:
    """The files that `golden.golden_files` makes of an artifact of that format."""
    beside = ("model.onnx", "data.json") if format_name == "onnx" else ()
    tensors = (f"{DATA_SET}/{kind}_0.pb" for kind in ("input", "output"))
    return tuple(folder / name for name in (*beside, *tensors))


def _check_name(path: Path, spec: FormatSpec) -> None:
    require_utf8(path)
    if not path.name.endswith(spec.suffix) or path.name == spec.suffix:
        raise InvalidInput(f"{path}: the file's name must end with {spec.suffix} ({spec.title}).")


def _tell(progress: Progress | None, what: str) -> None:
    if progress is not None:
        progress(what)
