"""onnxslim: the graph simplified, then run by ONNX Runtime."""

import onnx
import onnxruntime
import onnxslim
from harness import Run, main


def open_model(path: str) -> Run:
    """The simplified graph in ONNX Runtime."""
    model = onnxslim.slim(onnx.load(path))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {session.get_inputs()[0].name: images})[0]


main(open_model)
