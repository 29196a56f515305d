"""What an intact release says of its files, tried out: each is loaded, read back and run on its golden vectors.

Only for what `verify` found intact, because the paths in config.json are used here. TorchScript, .pt2 and C
files are never loaded: they are code, and loading would run it.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CifarExportError, Unavailable, first_line
from ..layout import (
    CARD,
    CONFIG,
    FURTHER,
    GOLDEN,
    GOLDEN_FILES,
    INDEX,
    LABELS,
    PARITY,
    REDUCED,
    SUMS,
    WEIGHTS,
    archive_name,
    beside_further,
    further_file,
    models_of,
)
from .golden import Wrong, largest_error
from .verify import compare, extract, is_schema, parse_json, shown

PARITY_SCHEMAS = (1, 2, 3)
"""Of parity.json."""
LOOSEST = {"float32": 1e-3, "float16": 3e-2, "int8": 0.3}
"""The largest tolerance that is believed, by precision, as a part of the largest logit.

`golden.tolerance_in` makes it about 1e-5 in float32, 0.01 in float16 and up to 0.15 in int8, whose steps are so large.
"""
MAX_SECONDS = 60.0
"""For one ONNX file on eight images; a network takes a tenth of a second. Other runtimes have their own patience."""
ONNX_RUNTIME = "onnxruntime-cpu"
_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}

if TYPE_CHECKING:
    from ...formats import FileFacts

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ModelRun:
    """A file that was read back and run: its largest error over the golden vectors, and the error allowed."""

    file: str
    runtime: str
    opset: int | None
    ir_version: int | None
    images: int
    max_abs_error: float
    atol: float


@dataclass(frozen=True)
class NotRun:
    """A file in a further format that was not run, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class DeepReport:
    """The files that did as they should, those not run, and a line for each thing that is not as the release says.

    What could not be run here is no problem of the release.
    """

    models: tuple[ModelRun, ...]
    not_run: tuple[NotRun, ...]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the problems, which `verify` lists."""
        return {
            "models": [asdict(model) for model in self.models],
            "not_run": [asdict(skipped) for skipped in self.not_run],
        }


def check_deep(path: Path, kind: str, progress: Progress | None = None, *, blobs: Path | None = None) -> DeepReport:
    """Try out the release, network folder or archive (`kind`, as `verify` says) at `path`, which is intact.

    In a release each archive is unpacked and compared with its folder, too; files may be links to blobs in `blobs`
    (`hub_blob`). Needs ONNX Runtime, on the CPU. Raises
    OSError.
    """
    trial = _Trial()
    if kind == "archive":
        with tempfile.TemporaryDirectory(prefix="cifar-export-") as scratch:
            folder = Path(scratch) / "network"
            trial.problems += extract(path, folder, blobs=blobs)
            if not trial.problems:
                trial.network(folder, "")
    elif kind == "network":
        trial.network(path, "")
    else:
        index = parse_json((path / INDEX).read_bytes())
        for name, entry in index["networks"].items():
            if progress is not None:
                progress(f"trying {name}")
            trial.network(path / name, f"{name}/", entry["files"])
            archive = archive_name(name, index["version"])
            trial.problems += [f"{archive}: {line}" for line in compare(path / archive, path / name, blobs=blobs)]
    return DeepReport(tuple(trial.models), tuple(trial.not_run), tuple(trial.problems))


class _Trial:
    """Collects what was tried."""

    def __init__(self) -> None:
        self.models: list[ModelRun] = []
        self.not_run: list[NotRun] = []
        self.problems: list[str] = []

    def network(self, folder: Path, prefix: str, indexed: Mapping[str, Any] | None = None) -> None:
        """Try the files in `folder`; `prefix` stands before their names, `indexed` is what index.json says."""
        try:
            config = parse_json((folder / CONFIG).read_bytes())
            self.problems += [prefix + line for line in _document_problems(folder, config)]
            for file in sorted(_promised(config) - _files_below(folder)):
                self.problems.append(f"{prefix}{file}: missing, and `package` writes one")
            for file in sorted(file for file in _files_below(folder) if file.lower().endswith(".onnx")):
                try:
                    self.models.append(_try_model(folder, file, f"{prefix}{file}", config))
                except Wrong as wrong:
                    self.problems.append(f"{prefix}{file}: {wrong}")
            for name in sorted(config.get("further", ())):
                self._further(folder, name, prefix, config)
            for file, described in config["models"].items():
                said = None if indexed is None else {key: indexed[file].get(key) for key in described}
                if said is not None and said != described:
                    self.problems.append(f"{prefix}{file}: {INDEX} describes it otherwise than {CONFIG}")
        except FileNotFoundError as error:
            missing = Path(str(error.filename)).relative_to(folder).as_posix()
            line = f"{prefix}{shown(missing)}: missing, and `package` writes one"
            self.problems += [] if line in self.problems else [line]
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            self.problems.append(f"{prefix}{CONFIG}: not as `package` writes it ({shown(repr(error))})")

    def _further(self, folder: Path, name: str, prefix: str, config: Mapping[str, Any]) -> None:
        """Try the file in the further format `name`."""
        file = further_file(name)
        if not (folder / file).is_file():
            return  # it was missed before
        try:
            tried = _try_further(folder, name, f"{prefix}{file}", config)
        except Wrong as wrong:
            self.problems.append(f"{prefix}{file}: {wrong}")
        else:
            (self.models if isinstance(tried, ModelRun) else self.not_run).append(tried)  # type: ignore[arg-type]


def _document_problems(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Where labels.txt or parity.json say otherwise than config.json."""
    problems = []
    if (folder / LABELS).read_bytes() != "".join(f"{label}\n" for label in config["labels"]).encode():
        problems.append(f"{LABELS}: other labels than {CONFIG}")
    parity = parse_json((folder / PARITY).read_bytes())
    if not is_schema(parity, PARITY_SCHEMAS):
        known = ", ".join(map(str, PARITY_SCHEMAS[:-1])) + f" or {PARITY_SCHEMAS[-1]}"
        problems.append(f"{PARITY}: not of schema {known}. A newer cifar-export may know it")
    elif parity["passed"] is not True:
        problems.append(f"{PARITY}: does not say that parity passed")
    elif sorted(parity.get("reduced", ())) != sorted(config.get("reduced", ())):
        problems.append(f"{PARITY}: is of other reduced precisions than {CONFIG}")
    elif sorted(parity.get("further", ())) != sorted(config.get("further", ())):
        problems.append(f"{PARITY}: is of other further formats than {CONFIG}")
    elif (parity["network"], parity["weights_sha256"]) != (config["network"], config["weights"]["sha256"]):
        problems.append(f"{PARITY}: is of another network or other weights than {CONFIG}")
    return problems


def _promised(config: Mapping[str, Any]) -> set[str]:
    """What is in the folder of such a network; of files of later versions nothing is known."""
    for key, what, known in (("reduced", "precision", set(REDUCED)), ("further", "format", set(FURTHER))):
        unknown = sorted(shown(name) for name in set(config.get(key, ())) - known)
        if unknown:
            raise ValueError(f"no {what} {', '.join(unknown)} is known")
    models = models_of(config)
    beside = {name for further in config.get("further", ()) for name in beside_further(further)}
    golden = {f"{GOLDEN[file]}/{tensor}" for file in models if file in GOLDEN for tensor in GOLDEN_FILES}
    return {WEIGHTS, CONFIG, LABELS, PARITY, CARD, SUMS, *models, *beside, *golden}


def _files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _try_model(folder: Path, file: str, name: str, config: Mapping[str, Any]) -> ModelRun:
    """Read an ONNX file back and run it on its golden vectors. Raises `Wrong`."""
    facts, golden = _read_back(folder, file, "onnx", config)
    images, logits = (_read_tensor(folder / golden["folder"] / tensor) for tensor in GOLDEN_FILES)
    allowed = _tolerance(golden, logits, facts.precision)
    worst = _run((folder / file).read_bytes(), config["models"][file], images, logits, allowed)
    return ModelRun(name, ONNX_RUNTIME, facts.opset, facts.ir_version, len(images), worst, allowed)


def _try_further(folder: Path, format_name: str, name: str, config: Mapping[str, Any]) -> ModelRun | NotRun:
    """Read a file in a further format back, and run it on its golden vectors where that is possible. Raises `Wrong`.

    It runs in a process of its own, because not every runtime ends in time or survives what strangers give it.
    """
    from ...exporting.artifact import companions
    from ...formats import FORMATS
    from ...gate.isolated import IsolatedFile
    from ...runtimes import why_missing

    spec, file = FORMATS[format_name], further_file(format_name)
    try:
        facts, golden = _read_back(folder, file, format_name, config)
    except Unavailable as error:  # what reads such a file is what runs it
        return NotRun(name, str(why_missing(spec.gate) or shown(first_line(error))))
    said = config["further"][format_name]
    beside = sorted(beside_further(format_name))
    size = (folder / file).stat().st_size
    expected = {"file": file, "bytes": size, "runtime": spec.gate, "beside": beside}
    if said != expected:
        raise Wrong(f"{CONFIG} says of it {shown(said)}, not {expected}")
    try:
        beside_it = zip(spec.beside_of(folder / file), companions(spec, folder / file), strict=True)
    except ValueError as error:
        raise Wrong(f"is damaged: {shown(first_line(error))}") from error
    for place, content in beside_it:
        if place.is_file() and (place.stat().st_size != len(content) or place.read_bytes() != content):
            raise Wrong(f"{place.name} beside it is of another file")
    images, logits = (_read_tensor(folder / golden["folder"] / tensor) for tensor in GOLDEN_FILES)
    allowed = _tolerance(golden, logits, facts.precision)
    if spec.code:
        return NotRun(name, "it is code, and nothing here runs a stranger's")
    missing = why_missing(spec.gate)
    if missing is not None:
        return NotRun(name, str(missing))
    try:
        with IsolatedFile(spec.gate, folder / file) as runtime:
            worst = largest_error(runtime.logits(images), logits, allowed)
    except Unavailable as error:
        return NotRun(name, shown(first_line(error)))
    except CifarExportError as error:
        raise Wrong(shown(first_line(error))) from error
    return ModelRun(name, spec.gate, facts.opset, facts.ir_version, len(images), worst, allowed)


def _read_back(
    folder: Path, file: str, format_name: str, config: Mapping[str, Any]
) -> tuple[FileFacts, Mapping[str, Any]]:
    """What a file says of itself, and what config.json says of its golden vectors.

    Raises `Wrong` where the file says otherwise of itself than config.json, `Unavailable` where nothing here reads it.
    """
    from ...formats import FORMATS
    from ...formats.metadata import PARITY_PASSED, contradictions

    described, golden = config["models"].get(file), config["golden"].get(file)
    if described is None or golden is None:
        raise Wrong(f"{CONFIG} does not describe it")
    try:
        facts = FORMATS[format_name].load().inspect(folder / file)
    except Unavailable:
        raise
    except CifarExportError as error:
        raise Wrong(shown(error)) from error
    expected = {**config, **config["normalization"], "weights_sha256": config["weights"]["sha256"]}
    wrong = contradictions(facts.metadata or {}, expected)
    wrong += [
        f"{what} is {shown(found)}, {CONFIG} says {shown(said)}"
        for what, found, said in (
            ("format", facts.format, described["format"]),
            ("opset", facts.opset, described["opset"]),
            ("IR version", facts.ir_version, described["ir_version"]),
            ("input variant", facts.variant, described["input"]),
            ("precision", facts.precision, described.get("precision", "float32")),
            ("parity", (facts.metadata or {}).get("parity"), PARITY_PASSED),
        )
        if found != said
    ]
    if wrong:
        raise Wrong(shown("; ".join(wrong)))
    return facts, golden


def _tolerance(golden: Mapping[str, Any], logits: NDArray[Any], precision: str) -> float:
    """The largest absolute error allowed."""
    atol = golden["atol"]
    largest = float(np.abs(logits).max(initial=0.0))
    loosest = LOOSEST[precision] * largest
    if type(atol) not in (int, float) or not 0 <= atol <= loosest or golden.get("rtol", 0.0) != 0.0:
        raise Wrong(f"a tolerance of {shown(atol)} for logits up to {largest:g} is too large to show anything")
    return float(atol)


def _run(
    model: bytes, described: Mapping[str, Any], images: NDArray[Any], logits: NDArray[Any], allowed: float
) -> float:
    """The largest error of `model` on `images`, if it has the ports that are described and is as good as allowed."""
    import onnxruntime as ort

    from ...runtimes.onnxruntime import CPU, start

    try:
        session = start(ort, model, CPU, {})
        for what, found in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
            ports = [
                {"name": port.name, "dtype": _DTYPES.get(port.type, port.type), "shape": port.shape} for port in found
            ]
            if ports != described[what]:
                raise Wrong(f"its {what} are {shown(ports)}, not those of {CONFIG}")
        with _limited(ort.RunOptions()) as options:
            result = session.run(None, {described["inputs"][0]["name"]: images}, options)[0]
    except Wrong:
        raise
    except Exception as error:  # onnxruntime's errors share no base class
        raise Wrong(f"ONNX Runtime can't run it: {shown(first_line(error))}") from error
    return largest_error(result, logits, allowed)


@contextlib.contextmanager
def _limited(options: Any) -> Iterator[Any]:
    """Make a run with `options` end: a graph can hold a loop that does not."""
    timer = threading.Timer(MAX_SECONDS, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()


def _read_tensor(path: Path) -> NDArray[Any]:
    """A stored tensor, as `verify` accepted it: none with data in other files."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        values: NDArray[Any] = onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise Wrong(f"its golden vector {path.name} can't be read: {shown(first_line(error))}") from error
    if not values.size:
        raise Wrong(f"its golden vector {path.name} is empty")
    return values
