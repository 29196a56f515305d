"""onnx2pytorch: how alpha-beta-CROWN reads the networks of VNN-COMP."""

from typing import Any

import onnx
import torch
from harness import Run, main
from onnx2pytorch import ConvertModel


def open_model(path: str) -> Run:
    """The converted module, in eval mode."""
    module = ConvertModel(onnx.load(path)).eval()

    def run(images: Any) -> Any:
        with torch.no_grad():
            return module(torch.from_numpy(images)).numpy()

    return run


main(open_model)
