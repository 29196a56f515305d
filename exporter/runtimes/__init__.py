"""One file per runtime. A new one is a module here and a line in `RUNTIMES`.

A runtime module offers `open_...(subject) -> Runtime` and `missing_...() -> Missing | None`, what this machine lacks to
run it; both are named in the table.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from ..errors import CifarExportError, GateFailed, InvalidInput, Unavailable, first_line

if TYPE_CHECKING:  # the table is read by --help, which stays instant
    import numpy as np
    from numpy.typing import NDArray

    from ..networks.preprocess import Images


@dataclass(frozen=True)
class Missing:
    """What a machine lacks to run something.

    `cause`: in words, without a full stop at its end. `fix`: what to do about it, in whole sentences.
    """

    cause: str
    fix: str

    def __str__(self) -> str:
        return f"{self.cause}. {self.fix}"


class Runtime(ABC):
    """A network ready to run, until it is closed. A context manager that closes it.

    `provider` is what really runs it, asked of the runtime after it was opened.
    """

    name: str
    provider: str

    @abstractmethod
    def logits(self, images: Images) -> NDArray[np.float32]:
        """Logits, float32 (batch, classes), of one batch in the input variant that the network was exported with.

        `images`: float32 (batch, 3, 32, 32) normalized, or uint8 (batch, 32, 32, 3).
        """

    def close(self) -> None:  # noqa: B027  most hold nothing but memory
        """Free what it holds beside memory: processes, folders. It runs nothing afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@runtime_checkable
class PlacesNodes(Protocol):
    """A runtime that can say where each node of the graph ran."""

    def misplaced(self) -> tuple[str, ...]:
        """The nodes that ran elsewhere than on `provider`, each as "name (operator)"; found by running once more."""


@runtime_checkable
class TimesCopies(Protocol):
    """A runtime on a device of its own, which can tell what the copies there and back take."""

    def logits_and_copies(self, images: Images) -> tuple[NDArray[np.float32], float, float]:
        """As `Runtime.logits`, and the seconds of copying images to the device and logits back."""


OF_ONNX = ("float32", "float16", "int8")
FLOAT32, FLOATS, OF_TORCH = ("float32",), ("float32", "float16"), ("float32", "float16", "bfloat16")
# twice and more of what correct runtimes were off by, docs/precision.md
ROUNDS_AT_EVERY_GRID = (24.0, 2.0)
FOLDS_GRIDS_AWAY = (104.0, 14.0)
# and of what XNNPACK was, docs/parity.md
ADDS_ONE_BY_ONE = 4.0


@dataclass(frozen=True)
class RuntimeSpec:
    """A line in the table.

    `reads` is what `open` takes: "network" (a torch module in eval mode) or the name of an export format (a path).
    `open` and `missing` are `module:function`. `by_default`: part of a parity run that names no runtimes. `gated`: its
    error decides; the yardsticks and reduced precision on purpose are only reported. `device` decides which yardstick
    it is held against. `images`: runs only so many of each input set. `larger_batches`: sizes beyond the usual ones.
    `patience_s`: seconds without a sign of life after which it counts as hung. `precisions`: of the files that it runs.
    `int8_units`: the largest error and the mean one that an int8 file may have in it, in units of `gate.standard`.
    `float32_slack`: how many times the usual error a float32 file may have in it, because of how it sums.
    `library`: the module that brings it, whose import `benchmark` times apart; None where it is no module of Python.
    `threads`: it takes so many, whatever it is told; None where it obeys OMP_NUM_THREADS. `apart`: it runs in a process
    of its own even on a file that was just written, because it prints what nobody asked for.
    """

    name: str
    title: str
    reads: str
    open: str
    missing: str | None = None
    by_default: bool = True
    gated: bool = True
    device: str = "cpu"
    images: int | None = None
    larger_batches: tuple[int, ...] = ()
    patience_s: float = 120.0
    precisions: tuple[str, ...] = OF_ONNX
    int8_units: tuple[float, float] = ROUNDS_AT_EVERY_GRID
    float32_slack: float = 1.0
    library: str | None = None
    threads: int | None = None
    apart: bool = False


RUNTIMES: dict[str, RuntimeSpec] = {
    spec.name: spec
    for spec in (
        RuntimeSpec(
            "pytorch",
            "PyTorch eager, CPU",
            "network",
            "pytorch:open_cpu",
            gated=False,
            precisions=FLOAT32,
            library="torch",
        ),
        RuntimeSpec(
            "pytorch-cuda",
            "PyTorch eager, CUDA",
            "network",
            "pytorch:open_cuda",
            "pytorch:missing_cuda",
            gated=False,
            device="cuda",
            precisions=FLOAT32,
            library="torch",
        ),
        RuntimeSpec(
            "torchscript",
            "TorchScript, CPU",
            "torchscript",
            "torchscript:open_cpu",
            precisions=OF_TORCH,
            library="torch",
        ),
        RuntimeSpec(
            "torch-export",
            "torch.export, CPU",
            "torch-export",
            "torch_export:open_cpu",
            precisions=OF_TORCH,
            library="torch",
        ),
        RuntimeSpec(
            "onnxruntime-cpu",
            "ONNX Runtime, CPU",
            "onnx",
            "onnxruntime:open_cpu",
            "onnxruntime:missing_cpu",
            library="onnxruntime",
        ),
        RuntimeSpec(
            "onnxruntime-cuda",
            "ONNX Runtime, CUDA",
            "onnx",
            "onnxruntime:open_cuda",
            "onnxruntime:missing_cuda",
            device="cuda",
            larger_batches=(256,),
            precisions=FLOATS,
            library="onnxruntime",
        ),
        RuntimeSpec(
            "onnxruntime-cuda-iobinding",
            "ONNX Runtime, CUDA, images and logits on the GPU",
            "onnx",
            "onnxruntime_cuda:open_bound",
            "onnxruntime:missing_cuda",
            device="cuda",
            larger_batches=(256,),
            precisions=FLOATS,
            library="onnxruntime",
        ),
        RuntimeSpec(
            "onnxruntime-cuda-tf32",
            "ONNX Runtime, CUDA, TF32 on",
            "onnx",
            "onnxruntime_cuda:open_tf32",
            "onnxruntime:missing_cuda",
            gated=False,
            device="cuda",
            larger_batches=(256,),
            precisions=FLOAT32,
            library="onnxruntime",
        ),
        RuntimeSpec(
            "onnxruntime-tensorrt",
            "ONNX Runtime, TensorRT",
            "onnx",
            "onnxruntime_cuda:open_tensorrt",
            "onnxruntime_cuda:missing_tensorrt",
            by_default=False,
            gated=False,
            device="cuda",
            patience_s=600.0,
            precisions=FLOATS,
            library="onnxruntime",
        ),
        RuntimeSpec(
            "openvino",
            "OpenVINO, CPU",
            "onnx",
            "openvino:open_cpu",
            "openvino:missing_cpu",
            int8_units=FOLDS_GRIDS_AWAY,
            library="openvino",
        ),
        RuntimeSpec(
            "openvino-default",
            "OpenVINO, CPU, its own choice of precision",
            "onnx",
            "openvino:open_default",
            "openvino:missing_cpu",
            gated=False,
            int8_units=FOLDS_GRIDS_AWAY,
            library="openvino",
        ),
        RuntimeSpec(
            "opencv",
            "OpenCV DNN, CPU",
            "onnx",
            "opencv:open_cpu",
            "opencv:missing_cpu",
            precisions=FLOAT32,
            library="cv2",
        ),
        RuntimeSpec(
            "tract",
            "tract, CPU",
            "onnx",
            "tract:open_cpu",
            "tract:missing_cpu",
            precisions=("float32", "int8"),
            library="tract",
            threads=1,
        ),
        RuntimeSpec(
            "openvino-ir",
            "OpenVINO, CPU, its own file format",
            "openvino",
            "openvino:open_ir",
            "openvino:missing_cpu",
            precisions=FLOAT32,
            library="openvino",
        ),
        RuntimeSpec(
            "onnxruntime-ort",
            "ONNX Runtime, CPU, its own file format",
            "ort",
            "onnxruntime:open_ort",
            "onnxruntime:missing_cpu",
            by_default=False,
            precisions=("float32", "int8"),
            library="onnxruntime",
        ),
        RuntimeSpec(
            "c",
            "C, compiled here",
            "c",
            "c_source:open_cpu",
            "c_source:missing_cpu",
            by_default=False,
            images=8,
            precisions=FLOAT32,
            float32_slack=ADDS_ONE_BY_ONE,
            threads=1,
        ),
        RuntimeSpec(
            "litert",
            "LiteRT, CPU",
            "litert",
            "litert:open_cpu",
            "litert:missing_cpu",
            precisions=("float32", "int8"),
            float32_slack=ADDS_ONE_BY_ONE,
            library="ai_edge_litert.interpreter",
            apart=True,
        ),
        RuntimeSpec(
            "litert-reference",
            "LiteRT, CPU, its reference kernels",
            "litert",
            "litert:open_reference",
            "litert:missing_cpu",
            by_default=False,
            precisions=("float32", "int8"),
            int8_units=FOLDS_GRIDS_AWAY,
            library="ai_edge_litert.interpreter",
            threads=1,
            apart=True,
        ),
        RuntimeSpec(
            "executorch",
            "ExecuTorch, CPU",
            "executorch",
            "executorch:open_cpu",
            "executorch:missing_cpu",
            by_default=False,
            precisions=FLOAT32,
            float32_slack=ADDS_ONE_BY_ONE,
            library="executorch.runtime",
            apart=True,
        ),
        RuntimeSpec(
            "onnx-reference", "ONNX reference evaluator", "onnx", "onnx_reference:open_cpu", images=8, precisions=FLOATS
        ),
        RuntimeSpec(
            "onnxruntime-node",
            "ONNX Runtime in Node.js, CPU",
            "onnx",
            "node:open_node",
            "node:missing_node",
        ),
        RuntimeSpec(
            "onnxruntime-web",
            "ONNX Runtime in WebAssembly",
            "onnx",
            "node:open_web",
            "node:missing_web",
            by_default=False,
            threads=1,
        ),
        RuntimeSpec(
            "aotinductor",
            "AOTInductor, CPU",
            "torch-export",
            "aotinductor:open_cpu",
            "aotinductor:missing_cpu",
            by_default=False,
            patience_s=600.0,
            precisions=FLOAT32,
            library="torch",
        ),
    )
}


def resolve(target: str) -> Callable[..., Any]:
    """The function that `target`, a `module:function`, names; a module without a dot is one of this package."""
    module, function = target.split(":")
    full_name = module if "." in module else f"{__name__}.{module}"
    resolved: Callable[..., Any] = getattr(importlib.import_module(full_name), function)
    return resolved


def spec_of(name: str) -> RuntimeSpec:
    """The table's line for `name`. Raises `InvalidInput` naming the known ones."""
    if name not in RUNTIMES:
        raise InvalidInput(f"no runtime {name!r}. Known: {', '.join(RUNTIMES)}.")
    return RUNTIMES[name]


def why_missing(name: str) -> Missing | None:
    """What this machine lacks to run `name`; None where it can run it."""
    spec = spec_of(name)
    missing: Missing | None = resolve(spec.missing)() if spec.missing else None
    return missing


def require_runtime(name: str) -> None:
    """Raise `Unavailable` with the cause and the fix where this machine cannot run `name`."""
    missing = why_missing(name)
    if missing is not None:
        raise Unavailable(f"{name} cannot run here: {missing}")


def require_precision(name: str, precision: str) -> None:
    """Raise `InvalidInput`, naming those that do, unless runtime `name` runs files in that precision."""
    if precision not in spec_of(name).precisions:
        known = ", ".join(other for other, spec in RUNTIMES.items() if precision in spec.precisions)
        raise InvalidInput(f"{name} runs no {precision} files. Choose a --runtime that does: {known}.")


def open_runtime(name: str, subject: Any) -> Runtime:
    """Make `subject` (a torch module, or the path of an exported file: see `RuntimeSpec.reads`) ready to run.

    Raises `Unavailable` where the machine lacks the runtime or another provider ran than the one asked for, and
    `InvalidInput` where the file cannot be loaded.
    """
    require_runtime(name)
    return open_subject(spec_of(name).open, spec_of(name).reads, subject)


def open_subject(target: str, reads: str, subject: Any) -> Runtime:
    """What `target`, a `module:function`, opens of `subject`; it takes batches of any size. See `RuntimeSpec`."""
    runtime: Runtime = resolve(target)(subject)
    if reads != "onnx":
        return runtime
    from .feeding import fed

    return fed(runtime, subject)


ONE_BATCH_SIZE = "If the file's nodes fix a batch size that its input does not state, export it again."
"""What to do where a runtime raises on a batch."""


def run_batch(runtime: Runtime, images: Images) -> NDArray[np.float32]:
    """Run one batch. Raises `GateFailed` for whatever the runtime raises (another batch size than it takes, say)."""
    try:
        return runtime.logits(images)
    except CifarExportError:
        raise
    except Exception as error:
        raise GateFailed(
            f"{runtime.name} fails on a batch of {len(images)} images: {first_line(error)}. {ONE_BATCH_SIZE}"
        ) from error


def unreadable(path: Path, runtime: str, error: BaseException) -> InvalidInput:
    """The error for a file that `runtime` refuses to load."""
    return InvalidInput(f"{runtime} cannot load {path}: {first_line(error)}. Export it again.")
