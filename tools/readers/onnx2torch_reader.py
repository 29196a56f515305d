"""onnx2torch: the graph as a PyTorch module, the first step of many verifiers and attacks."""

from typing import Any

import onnx
import torch
from harness import Run, main
from onnx2torch import convert


def open_model(path: str) -> Run:
    """The converted module, in eval mode."""
    module = convert(onnx.load(path)).eval()

    def run(images: Any) -> Any:
        with torch.no_grad():
            return module(torch.from_numpy(images)).numpy()

    return run


main(open_model)
