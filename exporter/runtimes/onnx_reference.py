"""The ONNX project's own evaluator: each operator as its specification reads, in NumPy; correct and slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..networks.preprocess import Images
from . import Runtime, unreadable


class OnnxReference(Runtime):
    """`onnx.reference.ReferenceEvaluator`."""

    name = "onnx-reference"
    provider = "CPU, NumPy"

    def __init__(self, path: Path) -> None:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx.reference import ReferenceEvaluator

        try:
            model = onnx.load(path)
            onnx.checker.check_model(model)
            self._evaluator = ReferenceEvaluator(model)
        except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
            raise unreadable(path, self.name, error) from error
        self._input = model.graph.input[0].name

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`."""
        outputs: Any = self._evaluator.run(None, {self._input: images})
        result: NDArray[np.float32] = outputs[0]
        return result


def open_cpu(path: Path) -> OnnxReference:
    """Load the ONNX file at `path`."""
    return OnnxReference(path)
