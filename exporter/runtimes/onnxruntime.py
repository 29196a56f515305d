"""ONNX Runtime on the CPU and on CUDA, where the provider that was asked for is the one that runs, or it is an error.

Asked for CUDA on a machine where CUDA does not start, ONNX Runtime returns a CPU session and says nothing to the
program. Here a fallback is refused twice: by a session option, and by asking the session afterwards.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.errors import Unavailable
from exporter.preprocess import Images
from exporter.runtimes import unreadable

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# float32 in full: TF32 is on by default in this provider. HEURISTIC: the exhaustive search costs seconds per shape.
CUDA_OPTIONS = {"device_id": "0", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
_FATAL = 4  # ONNX Runtime's log severity; its own lines on stderr would hide the one sentence of ours


class Session:
    """An `onnxruntime.InferenceSession` on exactly one provider."""

    def __init__(self, path: Path, name: str, provider: str, options: dict[str, str]) -> None:
        import onnxruntime as ort

        self.name = name
        try:
            self._session = _start(ort, str(path), provider, options)
        except Exception as error:
            if provider == CUDA:
                raise Unavailable(f"the CUDA provider did not start: {_first_line(error)}. {_DOCTOR}") from error
            raise unreadable(path, name, error) from error
        self.provider = self._session.get_providers()[0]
        if self.provider != provider:
            raise Unavailable(f"asked for {provider}, ONNX Runtime fell back to {self.provider}. {_DOCTOR}")
        self._input = self._session.get_inputs()[0].name

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `exporter.runtimes.Runtime`."""
        result: NDArray[np.float32] = self._session.run(None, {self._input: images})[0]
        return result


_DOCTOR = "Run `cifar-export doctor` to see what is missing."


def open_cpu(path: Path) -> Session:
    """Load the ONNX file at `path` on the CPU provider."""
    return Session(path, "onnxruntime-cpu", CPU, {})


def open_cuda(path: Path) -> Session:
    """Load the ONNX file at `path` on the CUDA provider, TF32 off. Raises `Unavailable` if another one would run."""
    return Session(path, "onnxruntime-cuda", CUDA, CUDA_OPTIONS)


def missing_cpu() -> str | None:
    """Why ONNX Runtime cannot run here."""
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed. `pip install onnxruntime-gpu[cuda,cudnn]`, or onnxruntime without a GPU."
    return None


def missing_cuda() -> str | None:
    """Why ONNX Runtime's CUDA provider cannot run here, found by starting it on a one-node model."""
    reason = missing_cpu()
    if reason:
        return reason
    import onnxruntime as ort
    import torch

    if CUDA not in ort.get_available_providers():
        installed = {dist.metadata["Name"] for dist in importlib.metadata.distributions(name="onnxruntime-gpu")}
        if installed and importlib.util.find_spec("onnxruntime") is not None:
            return (
                "onnxruntime is installed over onnxruntime-gpu and removed its CUDA provider. "
                "`pip uninstall onnxruntime onnxruntime-gpu`, then `pip install onnxruntime-gpu[cuda,cudnn]`."
            )
        return "this onnxruntime has no CUDA provider. `pip install onnxruntime-gpu[cuda,cudnn]` in its place."
    if not torch.cuda.is_available():
        return "there is no NVIDIA GPU here, or no driver for one. Run it on a machine where `nvidia-smi` works."
    try:
        session = _start(ort, _one_node_model(), CUDA, CUDA_OPTIONS)
    except Exception as error:  # noqa: BLE001  onnxruntime's errors share no base class
        return f"the CUDA provider does not start: {_first_line(error)}. `pip install onnxruntime-gpu[cuda,cudnn]`."
    if session.get_providers()[0] != CUDA:
        return "the CUDA provider does not start and the CPU would run instead. Compare the CUDA versions in `doctor`."
    return None


def _start(ort: Any, model: str | bytes, provider: str, options: dict[str, str]) -> Any:
    ort.set_default_logger_severity(_FATAL)
    settings = ort.SessionOptions()
    settings.log_severity_level = _FATAL
    if provider == CUDA:
        ort.preload_dlls()  # the CUDA and cuDNN libraries of torch's wheels
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return ort.InferenceSession(model, settings, providers=[(provider, options)])


def _one_node_model() -> bytes:
    import onnx
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 13)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=7)
    data: bytes = model.SerializeToString()
    return data


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")
