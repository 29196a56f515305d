"""RKNN-Toolkit2: compiled for an RK3588 without quantization, run in its simulator, which computes in float16."""

from typing import Any

from harness import Run, main
from rknn.api import RKNN


def open_model(path: str) -> Run:
    """The compiled model in the simulator."""
    rknn = RKNN(verbose=False)
    rknn.config(target_platform="rk3588")
    if rknn.load_onnx(model=path) or rknn.build(do_quantization=False) or rknn.init_runtime():
        raise SystemExit("RKNN-Toolkit2 refuses the file")

    def run(images: Any) -> Any:
        return rknn.inference(inputs=[images], data_format="nchw")[0]

    return run


main(open_model)
