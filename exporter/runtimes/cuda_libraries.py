"""The shared libraries that ONNX Runtime's CUDA provider loads: which of them this process can find.

ONNX Runtime names a missing one in a log line only, so the cause is looked up here. The names are those that the
provider is linked with and that `onnxruntime.preload_dlls` looks for; on Windows nothing is said about them.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys
from typing import Any

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_CUFFT = {12: 11, 13: 12}  # the one library whose major is not CUDA's, by CUDA's
_CURAND, _CUDNN = 10, 9


def loads(name: str) -> bool:
    """Whether the dynamic linker finds the library `name`, now or because it is loaded already."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def has_driver() -> bool:
    """Whether there is an NVIDIA driver: its library comes with it, not with any wheel."""
    return loads(DRIVER)


def preload(ort: Any) -> None:
    """Load CUDA and cuDNN from the wheels beside `ort`, so that the provider finds them; quietly.

    What could not be loaded is printed to stdout by ONNX Runtime, where results go; `missing_libraries` tells it.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()


def missing_libraries(ort: Any) -> list[str]:
    """The libraries that the CUDA provider of `ort` needs and that cannot be loaded, by file name; after `preload`."""
    major = built_for(ort)
    if major is None or not sys.platform.startswith("linux"):
        return []
    names = [f"lib{name}.so.{major}" for name in ("cudart", "cublasLt", "cublas")]
    names += [f"libcurand.so.{_CURAND}", f"libcudnn.so.{_CUDNN}"]
    if major in _CUFFT:
        names.append(f"libcufft.so.{_CUFFT[major]}")
    return [name for name in names if not loads(name)]


def built_for(ort: Any) -> int | None:
    """The major version of CUDA that `ort` (the onnxruntime module) was built for; None for a build without CUDA."""
    major = str(getattr(ort, "cuda_version", "") or "").partition(".")[0]
    return int(major) if major.isdigit() else None
