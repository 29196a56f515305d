"""tract: inference in Rust, for small devices and browsers."""

import tract
from harness import Run, main


def open_model(path: str) -> Run:
    """The optimized model."""
    runnable = tract.onnx().load(path).into_model().into_runnable()
    return lambda images: runnable.run([images])[0].to_numpy()


main(open_model)
