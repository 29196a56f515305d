"""Marabou: its importer turns the graph into equations; evaluated at the image without its solver."""

from harness import Run, main
from maraboupy import Marabou


def open_model(path: str) -> Run:
    """The network that Marabou has read."""
    network = Marabou.read_onnx(path)
    return lambda images: network.evaluateWithoutMarabou([images])[0]


main(open_model)
