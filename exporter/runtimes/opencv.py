"""OpenCV's DNN module on the CPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..networks.preprocess import Images
from . import Missing, Runtime, unreadable
from .threads import asked_threads


class OpenCv(Runtime):
    """A network that `cv2.dnn` read. Releases before 5 take neither pixels nor every opset; they say so themselves."""

    name = "opencv"

    def __init__(self, path: Path) -> None:
        import cv2

        threads = asked_threads()
        if threads:
            cv2.setNumThreads(threads)  # for the whole process
        try:
            self._network = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise unreadable(path, self.name, error) from error
        # Winograd's convolutions, OpenCV 4's default, are four times as far from float64: the gate does not admit them
        self._network.enableWinograd(False)
        self.provider = f"CPU, OpenCV {cv2.__version__}"

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`."""
        self._network.setInput(images)
        result: NDArray[np.float32] = np.array(self._network.forward())  # a copy: the next run may reuse its memory
        return result


def open_cpu(path: Path) -> OpenCv:
    """Load the ONNX file at `path`."""
    return OpenCv(path)


def missing_cpu() -> Missing | None:
    """What is missing to run OpenCV here."""
    if importlib.util.find_spec("cv2") is None:
        return Missing("opencv-python-headless is not installed", "`pip install 'cifar-export[opencv]'`.")
    return None
