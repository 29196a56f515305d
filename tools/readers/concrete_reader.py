"""Concrete ML: the graph quantized to 8 bits for encrypted inference, run in the clear."""

import sys

import numpy as np
import onnx
from concrete.ml.torch.compile import build_quantized_module
from harness import Run, main


def open_model(path: str) -> Run:
    """The quantized module, calibrated with the images themselves."""
    module = build_quantized_module(onnx.load(path), torch_inputset=np.load(sys.argv[2]), n_bits=8)
    return lambda images: module.forward(images.astype(np.float64))


main(open_model)
