"""What an intact release says of its ONNX files, tried out: each is loaded, read back and run on its golden vectors.

Only for what `verify` found intact, because the paths in config.json are used here. TorchScript and .pt2 files are
never loaded: they are code, and loading would run it.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CifarExportError, first_line
from ..layout import (
    CARD,
    CONFIG,
    GOLDEN,
    GOLDEN_FILES,
    INDEX,
    LABELS,
    PARITY,
    REDUCED,
    SUMS,
    WEIGHTS,
    archive_name,
    models_of,
)
from .verify import compare, extract, is_schema, parse_json, shown

PARITY_SCHEMAS = (1, 2)
"""Of parity.json."""
LOOSEST = {"float32": 1e-3, "float16": 3e-2, "int8": 0.3}
"""The largest tolerance that is believed, by precision, as a part of the largest logit.

`golden.tolerance_in` makes it about 1e-5 in float32, 0.01 in float16 and up to 0.15 in int8, whose steps are so large.
"""
MAX_SECONDS = 60.0
"""For one ONNX file on eight images; a network takes a tenth of a second."""
_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ModelRun:
    """An ONNX file that was read back and run: its largest error over the golden vectors, and the error allowed."""

    file: str
    opset: int | None
    ir_version: int | None
    images: int
    max_abs_error: float
    atol: float


@dataclass(frozen=True)
class DeepReport:
    """The ONNX files that did as they should, and a line for each thing that is not as the release says."""

    models: tuple[ModelRun, ...]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the problems, which `verify` lists."""
        return {"models": [asdict(model) for model in self.models]}


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
    return DeepReport(tuple(trial.models), tuple(trial.problems))


class _Wrong(Exception):
    """Something is not as the release says."""


class _Trial:
    """Collects what was tried."""

    def __init__(self) -> None:
        self.models: list[ModelRun] = []
        self.problems: list[str] = []

    def network(self, folder: Path, prefix: str, indexed: Mapping[str, Any] | None = None) -> None:
        """Try the ONNX files in `folder`; `prefix` stands before their names, `indexed` is what index.json says."""
        try:
            config = parse_json((folder / CONFIG).read_bytes())
            self.problems += [prefix + line for line in _document_problems(folder, config)]
            for file in sorted(_promised(config) - _files_below(folder)):
                self.problems.append(f"{prefix}{file}: missing, and `package` writes one")
            for file in sorted(file for file in _files_below(folder) if file.lower().endswith(".onnx")):
                try:
                    self.models.append(_try_model(folder, file, f"{prefix}{file}", config))
                except _Wrong as wrong:
                    self.problems.append(f"{prefix}{file}: {wrong}")
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


def _document_problems(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Where labels.txt or parity.json say otherwise than config.json."""
    problems = []
    if (folder / LABELS).read_bytes() != "".join(f"{label}\n" for label in config["labels"]).encode():
        problems.append(f"{LABELS}: other labels than {CONFIG}")
    parity = parse_json((folder / PARITY).read_bytes())
    if not is_schema(parity, PARITY_SCHEMAS):
        known = " or ".join(map(str, PARITY_SCHEMAS))
        problems.append(f"{PARITY}: not of schema {known}. A newer cifar-export may know it")
    elif parity["passed"] is not True:
        problems.append(f"{PARITY}: does not say that parity passed")
    elif sorted(parity.get("reduced", ())) != sorted(config.get("reduced", ())):
        problems.append(f"{PARITY}: is of other reduced precisions than {CONFIG}")
    elif (parity["network"], parity["weights_sha256"]) != (config["network"], config["weights"]["sha256"]):
        problems.append(f"{PARITY}: is of another network or other weights than {CONFIG}")
    return problems


def _promised(config: Mapping[str, Any]) -> set[str]:
    """What is in the folder of such a network; of files of later versions nothing is known."""
    unknown = sorted(shown(name) for name in set(config.get("reduced", ())) - set(REDUCED))
    if unknown:
        raise ValueError(f"no precision {', '.join(unknown)} is known")
    models = models_of(config)
    golden = {f"{GOLDEN[file]}/{tensor}" for file in models if file in GOLDEN for tensor in GOLDEN_FILES}
    return {WEIGHTS, CONFIG, LABELS, PARITY, CARD, SUMS, *models, *golden}


def _files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _try_model(folder: Path, file: str, name: str, config: Mapping[str, Any]) -> ModelRun:
    """Read an ONNX file back and run it on its golden vectors. Raises `_Wrong`."""
    from ...formats import onnx as onnx_format
    from ...formats.metadata import PARITY_PASSED, contradictions

    described, golden = config["models"].get(file), config["golden"].get(file)
    if described is None or golden is None:
        raise _Wrong(f"{CONFIG} does not describe it")
    try:
        facts = onnx_format.inspect(folder / file)
    except CifarExportError as error:
        raise _Wrong(shown(error)) from error
    expected = {**config, **config["normalization"], "weights_sha256": config["weights"]["sha256"]}
    wrong = contradictions(facts.metadata or {}, expected)
    wrong += [
        f"{what} is {shown(found)}, {CONFIG} says {shown(said)}"
        for what, found, said in (
            ("opset", facts.opset, described["opset"]),
            ("IR version", facts.ir_version, described["ir_version"]),
            ("input variant", facts.variant, described["input"]),
            ("precision", facts.precision, described.get("precision", "float32")),
            ("parity", (facts.metadata or {}).get("parity"), PARITY_PASSED),
        )
        if found != said
    ]
    if wrong:
        raise _Wrong(shown("; ".join(wrong)))
    images, logits = (_read_tensor(folder / golden["folder"] / tensor) for tensor in GOLDEN_FILES)
    allowed = _tolerance(golden, logits, facts.precision)
    worst = _run((folder / file).read_bytes(), described, images, logits, allowed)
    return ModelRun(name, facts.opset, facts.ir_version, len(images), worst, allowed)


def _tolerance(golden: Mapping[str, Any], logits: NDArray[Any], precision: str) -> float:
    """The largest absolute error allowed."""
    atol = golden["atol"]
    largest = float(np.abs(logits).max(initial=0.0))
    loosest = LOOSEST[precision] * largest
    if type(atol) not in (int, float) or not 0 <= atol <= loosest or golden.get("rtol", 0.0) != 0.0:
        raise _Wrong(f"a tolerance of {shown(atol)} for logits up to {largest:g} is too large to show anything")
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
                raise _Wrong(f"its {what} are {shown(ports)}, not those of {CONFIG}")
        with _limited(ort.RunOptions()) as options:
            result = session.run(None, {described["inputs"][0]["name"]: images}, options)[0]
    except _Wrong:
        raise
    except Exception as error:  # onnxruntime's errors share no base class
        raise _Wrong(f"ONNX Runtime can't run it: {shown(first_line(error))}") from error
    if result.shape != logits.shape or result.dtype != logits.dtype:
        raise _Wrong(f"returns {result.dtype} {result.shape} for its golden vectors, not {logits.dtype} {logits.shape}")
    worst = float(np.abs(result.astype(np.float64) - logits).max(initial=0.0))
    if not math.isfinite(worst) or worst > allowed:
        raise _Wrong(f"is off by {worst:.3g} on its golden vectors, {allowed:.3g} is allowed")
    return worst


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
        raise _Wrong(f"its golden vector {path.name} can't be read: {shown(first_line(error))}") from error
    if not values.size:
        raise _Wrong(f"its golden vector {path.name} is empty")
    return values
