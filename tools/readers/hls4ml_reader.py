"""hls4ml: the graph as C++ for an FPGA, compiled for this processor and run in wide fixed point."""

import tempfile

import hls4ml
import numpy as np
from harness import Run, main
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.util.cleanup import cleanup_model


def open_model(path: str) -> Run:
    """The compiled project, which takes channels last."""
    model = cleanup_model(ModelWrapper(path))
    model = cleanup_model(model.transform(ConvertToChannelsLastAndClean()).transform(GemmToMatMul()))
    config = hls4ml.utils.config_from_onnx_model(model, granularity="model", default_precision="fixed<40,16>")
    project = hls4ml.converters.convert_from_onnx_model(
        model, output_dir=tempfile.mkdtemp(), io_type="io_stream", backend="Vitis", hls_config=config
    )
    project.compile()
    return lambda images: project.predict(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))


main(open_model)
