"""QONNX: the reader in front of FINN and hls4ml; shapes inferred, constants folded, run node by node."""

from harness import Run, main
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model


def open_model(path: str) -> Run:
    """The model after QONNX's clean-up."""
    model = cleanup_model(ModelWrapper(path))
    port, output = model.graph.input[0].name, model.graph.output[0].name
    return lambda images: execute_onnx(model, {port: images})[output]


main(open_model)
