"""OpenCV DNN of the releases before 5."""

from typing import Any

import cv2
from harness import Run, main


def open_model(path: str) -> Run:
    """The network that OpenCV has read."""
    network = cv2.dnn.readNetFromONNX(path)

    def run(images: Any) -> Any:
        network.setInput(images)
        return network.forward()

    return run


main(open_model)
