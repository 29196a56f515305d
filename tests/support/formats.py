"""The file formats that this machine can write: some need a library that is an extra."""

from __future__ import annotations

import importlib.util

import pytest

from cifar_export.formats import FORMATS

_LIBRARIES = {"openvino": "openvino", "c": "emx_onnx_cgen", "litert": "ai_edge_litert", "executorch": "executorch"}
MISSING = {name: library for name, library in _LIBRARIES.items() if importlib.util.find_spec(library) is None}
EACH_FORMAT = [
    pytest.param(
        name, marks=pytest.mark.skipif(name in MISSING, reason=f"{MISSING.get(name)} is not installed"), id=name
    )
    for name in FORMATS
]
"""All of them, for `parametrize`; those that cannot be written here are skipped and say so."""
