"""ONNX Runtime on NVIDIA GPUs in other ways than plain float32: bound memory, TF32, TensorRT.

Bound memory computes the same and is gated as such. The others round to fewer bits on purpose, so their errors are
reported: what they cost is their accuracy on the test set.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..networks.preprocess import Images
from . import Missing
from .cuda_libraries import has_driver
from .onnxruntime import CPU, CUDA, CUDA_OPTIONS, NO_DRIVER, Session, missing_cpu, probe

TENSORRT = "TensorrtExecutionProvider"
# TensorRT itself decides about TF32; only the variable NVIDIA_TF32_OVERRIDE=0 keeps it off
_TENSORRT_OPTIONS = {"device_id": "0", "trt_fp16_enable": "0"}


class BoundSession(Session):
    """A session whose images are copied to the device first and whose logits are left there until all is computed."""

    def __init__(self, path: Path, name: str, provider: str, options: dict[str, str]) -> None:
        super().__init__(path, name, provider, options)
        self._device = "cpu" if provider == CPU else "cuda"
        self._output = self.inference.get_outputs()[0].name

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `cifar_export.runtimes.Runtime`."""
        return self.logits_and_copies(images)[0]

    def logits_and_copies(self, images: Images) -> tuple[NDArray[np.float32], float, float]:
        """See `cifar_export.runtimes.TimesCopies`. Each step ends when the device has done it."""
        import onnxruntime as ort

        began = time.perf_counter()
        binding = self.inference.io_binding()
        value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(images), self._device, 0)
        there = time.perf_counter()
        binding.bind_ortvalue_input(self._input, value)
        binding.bind_output(self._output, self._device, 0)
        self.inference.run_with_iobinding(binding)
        computed = time.perf_counter()
        result: NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
        return result, there - began, time.perf_counter() - computed


def open_bound(path: Path) -> BoundSession:
    """Load the ONNX file at `path` on CUDA, TF32 off, with bound input and output."""
    return BoundSession(path, "onnxruntime-cuda-iobinding", CUDA, CUDA_OPTIONS)


def open_tf32(path: Path) -> Session:
    """Load the ONNX file at `path` on CUDA as the provider would by default: TF32 on."""
    return Session(path, "onnxruntime-cuda-tf32", CUDA, {**CUDA_OPTIONS, "use_tf32": "1"})


def open_tensorrt(path: Path) -> Session:
    """Load the ONNX file at `path` on the TensorRT provider, which builds an engine for each batch size first."""
    return Session(path, "onnxruntime-tensorrt", TENSORRT, _TENSORRT_OPTIONS)


def missing_tensorrt() -> Missing | None:
    """What is missing to run ONNX Runtime's TensorRT provider here."""
    missing = missing_cpu()
    if missing is not None:
        return missing
    import onnxruntime as ort

    if TENSORRT not in ort.get_available_providers():
        return Missing("this onnxruntime has no TensorRT provider", "`pip install onnxruntime-gpu` in its place.")
    if not has_driver():
        return NO_DRIVER
    reason = probe(TENSORRT)
    if reason is None:
        return None
    if "install TensorRT" in reason:
        fix = (
            "Install NVIDIA TensorRT, and name the folder of its libnvinfer in LD_LIBRARY_PATH; nothing else needs it."
        )
        return Missing("the libraries of TensorRT are not installed", fix)
    return Missing(f"the TensorRT provider does not start: {reason}", "See whether TensorRT is installed.")
