"""Concrete ML: the graph quantized for encrypted inference, run in the clear."""

import sys

import numpy as np
import onnx
from concrete.ml.torch.compile import build_quantized_module
from harness import Run, main


def open_model(path: str) -> Run:
    """The quantized module, calibrated with the images themselves."""
    images = np.load(sys.argv[2])
    module = build_quantized_module(onnx.load(path), torch_inputset=images, n_bits=8)
    return lambda image: module.forward(image)


main(open_model)
