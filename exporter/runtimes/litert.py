"""LiteRT, formerly TensorFlow Lite, on the CPU: as its interpreter comes, with XNNPACK, and with its reference kernels.

The reference kernels are those without any optimization.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from ..networks.preprocess import Images
from ..system.outside import MAX_MODEL_BYTES, read_regular
from . import Missing, Runtime, unreadable
from .feeding import LARGEST_BATCH, Wanted, as_wanted
from .threads import asked_threads

PACKAGE = "ai-edge-litert"
_DELEGATED = "DELEGATE"  # the operator that stands for a part of the graph which XNNPACK runs


class LiteRt(Runtime):
    """An interpreter of the model at `path`, which takes batches of the one size that it states."""

    def __init__(self, path: Path, name: str, *, reference: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self.name = name
        kernels = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
        model = read_regular(path, MAX_MODEL_BYTES)
        try:
            self._interpreter = Interpreter(
                model_content=model, num_threads=asked_threads(), experimental_op_resolver_type=kernels
            )
            self._interpreter.allocate_tensors()
            (self._input,), (self._output,) = (
                self._interpreter.get_input_details(),
                self._interpreter.get_output_details(),
            )
        except Exception as error:
            raise unreadable(path, name, error) from error
        # asked of the graph as it is run, not repeated from the request
        operators = {node["op_name"] for node in self._interpreter._get_ops_details()}
        ran = "XNNPACK" if _DELEGATED in operators else "reference kernels" if reference else "its own kernels"
        self.provider = f"CPU, LiteRT {importlib.metadata.version(PACKAGE)}, {ran}"

    @property
    def takes_floats(self) -> bool:
        """Whether it takes float images, which the project has channels first, and not pixels."""
        return bool(self._input["dtype"] == np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """What it takes: the batch, and the sizes of an image."""
        return tuple(int(size) for size in self._input["shape"])

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`; `images` as the model has them."""
        self._interpreter.set_tensor(self._input["index"], np.ascontiguousarray(images))
        self._interpreter.invoke()
        result: NDArray[np.float32] = self._interpreter.get_tensor(self._output["index"])
        return result


def open_cpu(path: Path) -> Runtime:
    """Load the LiteRT file at `path` as the interpreter does by default."""
    return _fed(LiteRt(path, "litert"), path)


def open_reference(path: Path) -> Runtime:
    """Load the LiteRT file at `path` for the reference kernels."""
    return _fed(LiteRt(path, "litert-reference", reference=True), path)


def _fed(runtime: LiteRt, path: Path) -> Runtime:
    """`runtime` as one that takes batches of any size, NCHW or pixels."""
    shape = runtime.shape
    if len(shape) != 4:
        raise unreadable(path, runtime.name, ValueError("it does not take images alone"))
    if not 0 < shape[0] <= LARGEST_BATCH:
        raise InvalidInput(
            f"{path} takes batches of {shape[0]:,} images; at most {LARGEST_BATCH:,} are fed. Export it with fewer."
        )
    return as_wanted(runtime, Wanted(shape[0], channels_last=shape[3] == 3 and runtime.takes_floats))


def missing_cpu() -> Missing | None:
    """What is missing to run LiteRT here."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        return Missing(f"{PACKAGE} is not installed", "`pip install 'cifar-export[litert]'`.")
    return None
