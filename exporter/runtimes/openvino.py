"""OpenVINO on the CPU: told to compute in float32, and as it comes, which on processors that have it is bfloat16."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..networks.preprocess import Images
from . import Missing, Runtime, unreadable
from .threads import asked_threads

_HINT = "INFERENCE_PRECISION_HINT"


class OpenVino(Runtime):
    """A compiled OpenVINO model."""

    def __init__(self, path: Path, name: str, settings: dict[str, str]) -> None:
        import openvino as ov

        self.name = name
        threads = asked_threads()
        if threads:
            settings = {**settings, "INFERENCE_NUM_THREADS": str(threads)}
        try:
            self._model = ov.Core().compile_model(str(path), "CPU", settings)
        except Exception as error:
            raise unreadable(path, self.name, error) from error
        # asked of the compiled model, not repeated from the request
        precision = self._model.get_property(_HINT).to_string()
        self.provider = f"{self._model.get_property('EXECUTION_DEVICES')[0]} {precision}"

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`."""
        result: NDArray[np.float32] = self._model(images)[0]
        return result


def open_cpu(path: Path) -> OpenVino:
    """Load the ONNX file at `path`, float32."""
    return OpenVino(path, "openvino", {_HINT: "f32"})


def open_default(path: Path) -> OpenVino:
    """Load the ONNX file at `path` in the precision that OpenVINO chooses."""
    return OpenVino(path, "openvino-default", {})


def missing_cpu() -> Missing | None:
    """What is missing to run OpenVINO here."""
    if importlib.util.find_spec("openvino") is None:
        return Missing("openvino is not installed", "`pip install cifar-export[openvino]`.")
    return None
