"""One file per format. A new one is a module here and a line in `FORMATS`.

A format module has two functions: `serialize(request) -> bytes`, the whole file, equal for equal inputs whatever the
folder, the user, the date or the output's name; and `inspect(path) -> FileFacts`, what a file says of itself, read
back without running any code in it. One whose files have others beside them (`FormatSpec.beside`) has a third:
`companions(data) -> dict[str, bytes]`, their contents by the ending of their names, of what stands in the file.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InvalidInput, Unavailable
from ..networks.zoo import InputVariant
from ..runtimes import Missing
from ..system.files import require_utf8
from .choices import Choices
from .litert_choices import LITERT_PRECISIONS, LitertChoices
from .onnx_choices import ONNX_PRECISIONS, OnnxChoices, Precision
from .torch_choices import TORCH_PRECISIONS, chosen_torch

if TYPE_CHECKING:  # the table is read by --help, which stays instant
    from torch import nn

    from ..quantization.grids import Grids


@dataclass(frozen=True)
class Request:
    """What to serialize: a network in eval mode behind one of the input variants.

    `metadata` is the document of `cifar_export.formats.metadata`; `choices` are None where the format has none, `grids`
    for an int8 file.
    """

    module: nn.Module
    variant: InputVariant
    classes: int
    metadata: dict[str, Any]
    choices: Choices | None = None
    grids: Grids | None = None


@dataclass(frozen=True)
class FileFacts:
    """What an exported file says of itself. `metadata` is None where the file carries none of ours.

    `ir_version` is that of an ONNX file; `choices` are None where the format has none.
    """

    format: str
    variant: InputVariant | None
    metadata: dict[str, Any] | None
    ir_version: int | None = None
    choices: Choices | None = None

    @property
    def precision(self) -> Precision:
        """That of weights and arithmetic; files of other formats are float32."""
        return self.choices.precision if self.choices else "float32"

    @property
    def opset(self) -> int | None:
        """The opset of an ONNX file; None where it imports none."""
        return (self.choices.opset or None) if isinstance(self.choices, OnnxChoices) else None


class FormatModule(Protocol):
    """The functions of a module in this package; those with files beside theirs have `companions`, too."""

    def serialize(self, request: Request) -> bytes:
        """The whole file."""

    def inspect(self, path: Path) -> FileFacts:
        """What a file says of itself."""

    def companions(self, data: bytes) -> dict[str, bytes]:
        """What belongs beside a file with that content, by the ending of its name."""


ONE_IMAGE = "one image"
ORT_PRECISIONS: tuple[Precision, ...] = ("float32", "int8")


@dataclass(frozen=True)
class FormatSpec:
    """A line in the table: `suffix` of file names, module, and the runtime whose parity gates a new file.

    `precisions`: those that files of the format can be in. `library`: the distribution that writes it, where not every
    installation has it; the extra of setup.cfg with it is called as the format. `code`: running such a file runs what
    is written in it, so that somebody must vouch for it. `batch`: the images that a file takes at once, in words, or
    `ONE_IMAGE`. `megabytes`: of the file of cifar10_resnet20 with pixels as input, where it was measured. `beside`:
    what else is written, by the ending of its name in the place of `suffix`, and what it is.
    """

    name: str
    title: str
    suffix: str
    module: str
    gate: str
    precisions: tuple[Precision, ...] = ("float32",)
    library: str | None = None
    code: bool = False
    batch: str = "any"
    megabytes: float | None = None
    beside: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def extra(self) -> str | None:
        """The extra of setup.cfg with `library`."""
        return self.name if self.library else None

    def beside_of(self, path: Path) -> tuple[Path, ...]:
        """Where that stands which is written beside the file at `path`."""
        return tuple(path.with_name(f"{path.name.removesuffix(self.suffix)}{ending}") for ending in self.beside)

    def load(self) -> FormatModule:
        """Import the format's module, which brings torch and maybe onnx."""
        return importlib.import_module(f"{__name__}.{self.module}")


FORMATS: dict[str, FormatSpec] = {
    spec.name: spec
    for spec in (
        FormatSpec(
            "onnx",
            "ONNX",
            ".onnx",
            "onnx",
            "onnxruntime-cpu",
            ONNX_PRECISIONS,
            batch="any, or one size",
            megabytes=1.10,
        ),
        FormatSpec(
            "torchscript",
            "TorchScript",
            ".torchscript.pt",
            "torchscript",
            "torchscript",
            TORCH_PRECISIONS,
            code=True,
            megabytes=1.19,
        ),
        FormatSpec(
            "torch-export",
            "torch.export",
            ".pt2",
            "torch_export",
            "torch-export",
            TORCH_PRECISIONS,
            code=True,
            megabytes=1.28,
        ),
        FormatSpec(
            "openvino", "OpenVINO IR", ".openvino.zip", "openvino_ir", "openvino-ir", library="openvino", megabytes=1.24
        ),
        FormatSpec(
            "ort",
            "ONNX Runtime's own format",
            ".ort",
            "ort",
            "onnxruntime-ort",
            ORT_PRECISIONS,
            megabytes=1.12,
            beside={".required_operators.config": "the operators that a build of ONNX Runtime needs to run it"},
        ),
        FormatSpec(
            "c", "C source", ".c", "c_source", "c", library="emx-onnx-cgen", code=True, batch=ONE_IMAGE, megabytes=5.09
        ),
        FormatSpec(
            "litert",
            "LiteRT",
            ".tflite",
            "litert",
            "litert",
            LITERT_PRECISIONS,
            library="ai-edge-litert",
            batch="one size",
            megabytes=1.10,
        ),
        FormatSpec(
            "executorch",
            "ExecuTorch",
            ".pte",
            "executorch",
            "executorch",
            library="executorch",
            code=True,
            batch="1 to 64",
        ),
    )
}


def missing_library(spec: FormatSpec) -> Missing | None:
    """What is missing to write files of that format; None where nothing is."""
    if spec.library and importlib.util.find_spec(spec.library.replace("-", "_")) is None:
        return Missing(f"{spec.library} is not installed", f"`pip install 'cifar-export[{spec.extra}]'`.")
    return None


def require_library(spec: FormatSpec) -> None:
    """Raise `Unavailable` with the fix where what writes files of that format is not installed."""
    missing = missing_library(spec)
    if missing is not None:
        raise Unavailable(str(missing))


def format_of(path: Path) -> FormatSpec:
    """The format of an exported file, by its suffix. Raises `InvalidInput` for others and a name not in UTF-8."""
    require_utf8(path)
    for spec in FORMATS.values():
        if path.name.endswith(spec.suffix):
            return spec
    known = ", ".join(spec.suffix for spec in FORMATS.values())
    raise InvalidInput(f"{path}: not an exported file by its name. Known suffixes: {known}.")


def proving_runtime(file: Path | None, precision: Precision = "float32") -> str:
    """The runtime whose parity gates `file`; without one, that of the first format which has the precision.

    Raises `InvalidInput` for a file that is not exported by its name.
    """
    if file is not None:
        return format_of(file).gate
    return next(spec.gate for spec in FORMATS.values() if precision in spec.precisions)


def choices_for(format_name: str, precision: Precision = "float32") -> Choices | None:
    """How a file of that format is written where nothing but its precision is asked for; None where it has no choices.

    Raises `InvalidInput` for a precision that the format does not have.
    """
    spec = FORMATS[format_name]
    if precision not in spec.precisions:
        raise InvalidInput(f"no {spec.title} files in {precision}. Known: {', '.join(spec.precisions)}.")
    made: dict[str, Callable[[Precision], Choices | None]] = {
        "onnx": lambda one: OnnxChoices(precision=one),
        "ort": lambda one: OnnxChoices(precision=one),
        "litert": lambda one: LitertChoices(precision=one),
        "torchscript": chosen_torch,
        "torch-export": chosen_torch,
    }
    return made[format_name](precision) if format_name in made else None
