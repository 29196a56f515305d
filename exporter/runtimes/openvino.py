"""OpenVINO on the CPU: told to compute in float32, and as it comes, which on processors that have it is bfloat16."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..networks.preprocess import Images
from ..system.outside import MAX_MODEL_BYTES, read_regular
from . import Missing, Runtime, unreadable
from .threads import asked_threads

IR_FILES = ("model/model.xml", "model/model.bin")
"""In an archive of OpenVINO's own files: the layers, and the weights."""
_HINT = "INFERENCE_PRECISION_HINT"


class OpenVino(Runtime):
    """A compiled OpenVINO model."""

    def __init__(self, path: Path, name: str, settings: dict[str, str], *, zipped: bool = False) -> None:
        import openvino as ov

        self.name = name
        threads = asked_threads()
        if threads:
            settings = {**settings, "INFERENCE_NUM_THREADS": str(threads)}
        try:
            core = ov.Core()
            model = core.read_model(*_unzipped(path)) if zipped else str(path)
            self._model = core.compile_model(model, "CPU", settings)
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


def open_ir(path: Path) -> OpenVino:
    """Load the archive of OpenVINO's own files at `path`, float32."""
    return OpenVino(path, "openvino-ir", {_HINT: "f32"}, zipped=True)


def _unzipped(path: Path) -> tuple[bytes, bytes]:
    """The two files in the archive at `path`: layers and weights."""
    with zipfile.ZipFile(io.BytesIO(read_regular(path, MAX_MODEL_BYTES))) as archive:
        sizes = [archive.getinfo(name).file_size for name in IR_FILES]
        if max(sizes) > MAX_MODEL_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_MODEL_BYTES:,} bytes")
        xml, weights = (archive.read(name) for name in IR_FILES)
        return xml, weights


def open_default(path: Path) -> OpenVino:
    """Load the ONNX file at `path` in the precision that OpenVINO chooses."""
    return OpenVino(path, "openvino-default", {})


def missing_cpu() -> Missing | None:
    """What is missing to run OpenVINO here."""
    if importlib.util.find_spec("openvino") is None:
        return Missing("openvino is not installed", "`pip install 'cifar-export[openvino]'`.")
    return None
