"""What is run or judged: the weights of a network, or a file that was exported from them.

One way from either to a runtime that is ready: `opened`. A file is looked at before it is run.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from torch import nn

from ..errors import GateFailed, InvalidInput
from ..formats import FORMATS, FileFacts, choices_for, format_of
from ..formats.metadata import contradictions, describe
from ..formats.onnx_choices import Precision
from ..gate.isolated import IsolatedFile
from ..networks.resnet import with_input
from ..networks.zoo import InputVariant
from ..runtimes import RUNTIMES, Runtime, open_runtime, require_runtime, spec_of
from ..system.files import require_file
from ..weights.core import Weights, build_network
from .artifact import export
from .sidecar import require_vouched

_STATED = ("onnx", "ort", "litert")  # formats whose files state type and shape of what they take


class Subject:
    """A network as something that runtimes open: a torch module, an exported file, or exports made for the occasion.

    A context manager. An export is made when it is first asked for, without a gate of its own, and lives as long as
    the block; PyTorch and a file given need no block. `progress` is told which export is made.
    """

    def __init__(
        self,
        weights: Weights,
        variant: InputVariant,
        file: Path | None = None,
        progress: Callable[[str], None] | None = None,
        precision: Precision = "float32",
    ) -> None:
        self._weights, self._variant, self._file, self._progress = weights, variant, file, progress
        self._precision = precision
        self._made: dict[str, Path] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="cifar-export-")))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @functools.cached_property
    def module(self) -> nn.Module:
        """The network in eval mode behind its input variant, on the CPU in float32."""
        return with_input(build_network(self._weights), self._variant, self._weights.normalization).eval()

    def file(self, format_name: str) -> Path:
        """The file given, or an export in that format."""
        if self._file is not None:
            return self._file
        if format_name not in self._made:
            output = self._folder / f"model{FORMATS[format_name].suffix}"
            export(
                self._weights,
                format_name,
                variant=self._variant,
                choices=choices_for(format_name, self._precision),
                output=output,
                checked=False,
                progress=self._progress,
            )
            self._made[format_name] = output
        return self._made[format_name]

    def open(self, runtime: str) -> Runtime:
        """Open it in `runtime`, to be closed by the caller. Raises what `open_runtime` raises."""
        require_runtime(runtime)
        spec = spec_of(runtime)
        if spec.apart:
            return IsolatedFile(runtime, self.file(spec.reads))
        return open_runtime(runtime, self.module if spec.reads == "network" else self.file(spec.reads))


@contextlib.contextmanager
def opened(
    weights: Weights,
    runtime: str,
    variant: InputVariant,
    file: Path | None = None,
    precision: Precision = "float32",
) -> Iterator[Runtime]:
    """Yield `runtime` with a fresh export of `weights`, or with `file`; it is closed at the end of the block.

    A `file` is anyone's, so it runs in a process of its own. Raises `Unavailable` where the machine lacks the runtime,
    and what `open_runtime` raises.
    """
    if file is not None:
        with IsolatedFile(runtime, file) as ready:
            yield ready
        return
    with Subject(weights, variant, precision=precision) as subject, subject.open(runtime) as ready:
        yield ready


def facts_of_export(file: Path, weights: Weights, variant: InputVariant | None, *, trust: bool) -> FileFacts:
    """What the exported `file` says of itself. Raises `GateFailed` where it says that it is of other weights.

    Raises `InvalidInput` for a file that is not ours to run (see `require_trusted`), and for another input than
    `variant`.
    """
    facts = facts_of(file, variant, trust=trust)
    problems = contradicting(facts, weights)
    if problems:
        raise GateFailed(f"{file} is no export of these weights: {'; '.join(problems)}.")
    return facts


def require_trusted(path: Path, *, trust: bool) -> None:
    """Refuse a file that cannot be read, or is code that neither its sidecar nor the user vouches for.

    TorchScript and C are code, and loading a .pt2 may unpickle; the other files are data. The sidecar protects against
    files damaged, mixed up or replaced since the export, not against someone who can write both.
    """
    require_file(path)
    if not trust and format_of(path).code:
        require_vouched(path)


def readers(names: Iterable[str], format_name: str) -> list[str]:
    """Those of the runtimes `names` that run a file of that format, or the network itself.

    Where none of them reads it, as of formats whose readers are not asked by default, what gates the format is added.
    """
    fitting = [name for name in names if spec_of(name).reads in (format_name, "network")]
    if all(spec_of(name).reads == "network" for name in fitting):
        fitting.append(FORMATS[format_name].gate)
    return fitting


def require_reader(runtime: str, file: Path, format_name: str) -> None:
    """Raise `InvalidInput`, naming those that do, unless `runtime` reads `file`, which is of that format."""
    if spec_of(runtime).reads != format_name:
        readers = ", ".join(name for name, spec in RUNTIMES.items() if spec.reads == format_name)
        raise InvalidInput(f"{runtime} does not read {file.name}. Choose a --runtime that does: {readers}.")


def facts_of(file: Path, variant: InputVariant | None, *, trust: bool) -> FileFacts:
    """What `file` says of itself, once it is known to exist, to be ours to run and to have the input asked for."""
    spec = format_of(file)
    require_trusted(file, trust=trust)
    facts = spec.load().inspect(file)
    if facts.variant is None and spec.name not in _STATED and variant is not None:
        return FileFacts(facts.format, variant, None)  # a foreign archive does not say; its user did
    if facts.variant is None:
        hint = "Export it with such an input." if spec.name in _STATED else "Say which with --input."
        if spec.name == "onnx":
            hint = "Say --layout nchw or nhwc if it takes 32×32 images that way, else export it with such an input."
        raise InvalidInput(f"{file}: its input is not known to be images as documented. {hint}")
    if facts.metadata is None and {facts.variant, variant} == {"float32", "unit"}:
        return replace(facts, variant=variant)  # a foreign file's float images: only its user knows their range
    if variant is not None and facts.variant != variant:
        raise InvalidInput(f"{file}: its input is {facts.variant}, not {variant}. Leave --input away.")
    return facts


def precision_of(file: Path, facts: FileFacts, asked: Precision | None) -> Precision:
    """The precision that `file` says it has. Raises `InvalidInput` where another one is asked for."""
    if asked is not None and asked != facts.precision:
        raise InvalidInput(f"{file} is {facts.precision}, not {asked}. Leave --precision away.")
    return facts.precision


def contradicting(facts: FileFacts, weights: Weights) -> list[str]:
    """What the file says of itself that is not so of `weights`, one sentence each."""
    if facts.metadata is None or facts.variant is None:
        return []
    problems = contradictions(facts.metadata, describe(weights, facts.variant, checked=True))
    said = facts.metadata.get("choices")
    if facts.choices and isinstance(said, dict) and said.get("layout", facts.choices.layout) != facts.choices.layout:
        problems.append(f"metadata says layout: {said['layout']!r:.20}, the input is {facts.choices.layout}")
    grids, stated = weights.grids, facts.metadata.get("quantization")
    same_grids = grids is None or (isinstance(stated, dict) and stated.get("sha256") == grids.digest())
    if facts.precision == "int8" and not same_grids:
        problems.append("it was quantized with other grids than those of these weights")
    return problems
