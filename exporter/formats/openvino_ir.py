"""OpenVINO's intermediate representation: `model.xml` and `model.bin` in a zip archive, dynamic in the batch.

It is what OpenVINO makes of our ONNX file, weights in float32 (`ovc` and `save_model` compress them to float16 unless
told otherwise, which is no float32 network any more). OpenVINO reads both files out of the archive, or unpacked.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

from ..runtimes import require_runtime
from ..runtimes.openvino import IR_FILES
from . import FileFacts, Request, onnx
from .archive import stored_archive
from .metadata import EXTRA_FILE, dumps, read_archive_metadata, variant_of
from .onnx_choices import OnnxChoices

RUNTIME = "openvino-ir"
# OpenVINO numbers the layers that have no name in ONNX with a counter of the process.
_COUNTED = re.compile(r'<layer id="(\d+)" name="\w+_\d+" type="(\w+)"')


def serialize(request: Request) -> bytes:
    """The whole archive, metadata and labels inside. Raises `Unavailable` without OpenVINO."""
    require_runtime(RUNTIME)
    import openvino as ov

    model = ov.Core().read_model(onnx.serialize(replace(request, choices=OnnxChoices())))
    with tempfile.TemporaryDirectory(prefix="cifar-export-") as folder:
        path = Path(folder) / "model.xml"
        ov.serialize(model, path)
        xml, weights = path.read_text(encoding="utf-8"), path.with_suffix(".bin").read_bytes()
    xml = _COUNTED.sub(r'<layer id="\1" name="\2_\1" type="\2"', xml)
    metadata = dumps(request.metadata).encode()
    layers, values = IR_FILES
    return stored_archive({layers: xml.encode(), values: weights, f"model/extra/{EXTRA_FILE}": metadata})


def inspect(path: Path) -> FileFacts:
    """What the file says of itself, read without loading it."""
    metadata = read_archive_metadata(path)
    return FileFacts("openvino", variant_of(metadata), metadata)
