"""ONNX Runtime on the CPU and on CUDA, where the provider that was asked for is the one that runs, or it is an error.

Asked for CUDA on a machine where CUDA does not start, ONNX Runtime returns a CPU session and says nothing to the
program. Here a fallback is refused twice: by a session option, and by asking the session afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GateFailed, Unavailable, first_line
from ..networks.preprocess import Images
from ..system.outside import MAX_MODEL_BYTES, read_regular
from . import Missing, Runtime, unreadable
from .cuda_libraries import has_driver, missing_libraries, preload
from .threads import asked_threads

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# float32 in full: TF32 is on by default in this provider. HEURISTIC: the exhaustive search costs seconds per shape.
CUDA_OPTIONS = {"device_id": "0", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
_TYPES = {"tensor(uint8)": np.uint8, "tensor(float16)": np.float16}
_ORT = b"ORTM"  # what files of its own format have after their first four bytes
_FATAL = 4  # ONNX Runtime's log severity; its own lines on stderr would hide the one sentence of ours


class Session(Runtime):
    """An `onnxruntime.InferenceSession`, `inference`, on exactly one provider; `model` replaces what is in the file."""

    def __init__(
        self, path: Path, name: str, provider: str, options: dict[str, str], model: bytes | None = None
    ) -> None:
        import onnxruntime as ort

        self.name = name
        self._model, self._options = model or str(path), options
        try:
            self.inference = start(ort, self._model, provider, options)
        except Exception as error:
            title = provider.removesuffix("ExecutionProvider")
            if provider != CPU and first_line(error).find(_NO_FALLBACK) >= 0:
                strayed = self._strayed(provider)
                if strayed:
                    raise GateFailed(f"not on {provider}: {', '.join(strayed)}") from error
                raise Unavailable(f"the {title} provider did not start. {_DOCTOR}") from error
            if provider != CPU and not isinstance(error, _refusals()):
                raise Unavailable(f"the {title} provider did not start: {first_line(error)}. {_DOCTOR}") from error
            raise unreadable(path, name, error) from error
        self.provider = self.inference.get_providers()[0]
        if self.provider != provider:
            raise Unavailable(f"asked for {provider}, ONNX Runtime fell back to {self.provider}. {_DOCTOR}")
        self._input = self.inference.get_inputs()[0].name

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`."""
        result: NDArray[np.float32] = self.inference.run(None, {self._input: images})[0]
        return result

    def misplaced(self) -> tuple[str, ...]:
        """See `PlacesNodes`. On the CPU there is nowhere else to run."""
        return self._strayed(self.provider) if self.provider != CPU else ()

    def _strayed(self, provider: str) -> tuple[str, ...]:
        """The nodes that another provider than `provider` runs where it may, or () where `provider` does not start."""
        import onnxruntime as ort

        with tempfile.TemporaryDirectory(prefix="cifar-export-") as folder:
            try:
                session = start(ort, self._model, provider, self._options, profile=Path(folder) / "profile")
            except Exception:  # noqa: BLE001  the caller has a sentence for a provider that does not start
                return ()
            if session.get_providers()[0] != provider:
                return ()
            ran = profiled_nodes(session)
        return tuple(f"{node.name} ({node.operator})" for node in ran if node.provider != provider)


_DOCTOR = "Run `cifar-export doctor` to see what is missing."
_INSTALL = "`pip install 'onnxruntime-gpu[cuda,cudnn]'`"
NO_DRIVER = Missing(
    "there is no NVIDIA GPU here, or no driver for one", "Run it on a machine where `nvidia-smi` works."
)
# where in its source an error was raised: file, line, and the signature of a C++ function
_SOURCE = re.compile(r"^(?:EP Error )?\S+\.(?:cc|cpp|h):\d+ [^\n]*?\)(?: const)? (?=[A-Z])")
_NO_FALLBACK = "fallback to CPU EP has been explicitly disabled"  # all that a provider that failed to load leaves


def open_cpu(path: Path) -> Session:
    """Load the ONNX file at `path` on the CPU provider."""
    return Session(path, "onnxruntime-cpu", CPU, {})


def open_ort(path: Path) -> Session:
    """Load the file of ONNX Runtime's own format at `path` on the CPU provider."""
    # as bytes: a file may be called otherwise here, and ONNX Runtime goes by the name
    data = read_regular(path, MAX_MODEL_BYTES)
    if data[4:8] != _ORT:
        raise unreadable(path, "onnxruntime-ort", ValueError("it is not of ONNX Runtime's own format"))
    return Session(path, "onnxruntime-ort", CPU, {}, data)


def save_ort(model: bytes, path: Path) -> None:
    """Write the ONNX `model` to `path` in ONNX Runtime's own format, with the fusions that hold on every machine."""
    import onnxruntime as ort

    ort.set_default_logger_severity(_FATAL)
    settings = ort.SessionOptions()
    settings.log_severity_level = _FATAL
    settings.intra_op_num_threads = 1
    # beyond it weights are laid out for the processor at hand
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.optimized_model_filepath = str(path)
    settings.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(model, settings, providers=[CPU])


def open_cuda(path: Path) -> Session:
    """Load the ONNX file at `path` on the CUDA provider, TF32 off. Raises `Unavailable` if another one would run."""
    return Session(path, "onnxruntime-cuda", CUDA, CUDA_OPTIONS)


def missing_cpu() -> Missing | None:
    """What is missing to run ONNX Runtime here."""
    if importlib.util.find_spec("onnxruntime") is None:
        return Missing("onnxruntime is not installed", f"{_INSTALL}, or onnxruntime without a GPU.")
    try:
        importlib.import_module("onnxruntime")
    except (ImportError, OSError) as error:
        return Missing(f"onnxruntime does not import: {first_line(error)}", f"Install it again: {_INSTALL}.")
    return None


def missing_cuda() -> Missing | None:
    """What is missing to run ONNX Runtime's CUDA provider here, found by starting it on a one-node model."""
    missing = missing_cpu()
    if missing is not None:
        return missing
    import onnxruntime as ort

    if CUDA not in ort.get_available_providers():
        if len(packages()) > 1:
            return Missing(
                "onnxruntime is installed over onnxruntime-gpu and removed its CUDA provider",
                f"`pip uninstall onnxruntime onnxruntime-gpu`, then {_INSTALL}.",
            )
        return Missing("this onnxruntime has no CUDA provider", f"{_INSTALL} in its place.")
    if not has_driver():
        return NO_DRIVER
    reason = probe(CUDA)
    if reason is None:
        return None
    libraries = missing_libraries(ort)
    if libraries:
        return Missing(f"the CUDA provider does not start, for want of {', '.join(libraries)}", f"{_INSTALL}.")
    cause = f"the CUDA provider does not start: {reason}"
    return Missing(cause, "Compare the driver and the CUDA versions in `doctor`.")


def probe(provider: str) -> str | None:
    """Start `provider` on a one-node model: None where that works, else why it does not.

    Only providers that `onnxruntime.get_available_providers()` lists are worth asking about.
    """
    import onnxruntime as ort

    try:
        session = start(ort, _one_node_model(), provider, CUDA_OPTIONS if provider == CUDA else {})
    except Exception as error:  # noqa: BLE001  onnxruntime's errors share no base class
        line = first_line(_SOURCE.sub("", str(error), count=1))
        return "ONNX Runtime could not load it" if _NO_FALLBACK in line else line
    ran = session.get_providers()[0]
    return None if ran == provider else f"{ran} would run instead"


def packages() -> dict[str, str]:
    """Version by name of the installed distributions that bring the module `onnxruntime`; more than one is too many."""
    found = {}
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@dataclass(frozen=True)
class Node:
    """A node that ran: its name, its operator, and the provider that ran it."""

    name: str
    operator: str
    provider: str


def profiled_nodes(session: Any) -> list[Node]:
    """Run `session`, started with a profile, on one blank image; the nodes that ran, in their order.

    Read from ONNX Runtime's own profile: its optimizer fuses and moves nodes, so the graph does not tell.
    """
    port = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in port.shape]
    session.run(None, {port.name: np.zeros(shape, _TYPES.get(port.type, np.float32))})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ending = "_kernel_time"
    return [
        Node(event["name"].removesuffix(ending), event["args"].get("op_name", "?"), event["args"]["provider"])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(ending) and "provider" in event["args"]
    ]


def start(ort: Any, model: str | bytes, provider: str, options: dict[str, str], profile: Path | None = None) -> Any:
    """An `InferenceSession` of `ort` on `provider` alone, quiet.

    With `profile`, the start of a file's name, it writes down which provider runs each node, and then the CPU may take
    nodes over: that is what is to be seen.
    """
    ort.set_default_logger_severity(_FATAL)
    settings = ort.SessionOptions()
    settings.log_severity_level = _FATAL
    settings.intra_op_num_threads = asked_threads() or 0  # 0: one a core
    if isinstance(model, bytes) and model[4:8] == _ORT:
        settings.add_session_config_entry("session.load_model_format", "ORT")
    if profile is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(profile)
    elif provider != CPU:
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if provider != CPU:
        preload(ort)
    # enable_fallback: the Python layer has a fallback of its own, which it reports on stdout
    return ort.InferenceSession(model, settings, providers=[(provider, options)], enable_fallback=0)


def _refusals() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a file that is no model, whatever the provider."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (state.InvalidProtobuf, state.InvalidGraph, state.NoSuchFile, state.InvalidArgument)


def _one_node_model() -> bytes:
    import onnx
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 13)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=7)
    data: bytes = model.SerializeToString()
    return data
