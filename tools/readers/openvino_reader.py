"""OpenVINO, in float32."""

import openvino
from harness import Run, main


def open_model(path: str) -> Run:
    """The model compiled for the processor."""
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: model(images)[0]


main(open_model)
