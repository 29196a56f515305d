"""Whether a TorchScript file computes in full float32 in a program that allows TF32, as PyTorch does by default.

Traces say of each convolution that it may not use TF32 (`formats.torchscript`). That it really does not can only be
seen on a GPU that has it, in the size of the error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..exporting.subject import Subject
from ..gate.forward import Inputs, forward, places
from ..gate.standard import CUDA_YARDSTICK, Standard, standard
from ..networks.preprocess import Images, Pixels
from ..networks.zoo import InputVariant
from ..runtimes import spec_of
from ..runtimes.pytorch import as_tensor
from ..system.torch_state import torchscript_deprecations
from ..weights.core import Weights


@dataclass(frozen=True)
class Error:
    """The largest error of a logit over all input sets, and the largest share of what the gate allows there."""

    max_abs_error: float
    share_of_allowed: float


@dataclass(frozen=True)
class Tf32:
    """The errors in a program that allows TF32: of the `file`, and of the `network` itself, which shows what it costs.

    `device`: what both ran on, by name.
    """

    device: str
    file: Error
    network: Error

    @property
    def is_off(self) -> bool:
        """Whether the file's error is one of float32."""
        return self.file.share_of_allowed <= 1

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"device": self.device, "file": vars(self.file), "pytorch": vars(self.network)}


def tf32(weights: Weights, variant: InputVariant, pixels: Mapping[str, Pixels], device: str) -> Tf32:
    """Export `weights` to TorchScript and run that on `device`, by torch's name, without settings of ours.

    `pixels`: named sets of uint8 (N, 32, 32, 3) images.
    """
    inputs = Inputs(pixels, variant, weights.normalization)
    held = standard(weights, variant, "float32", [CUDA_YARDSTICK], inputs, lambda what: None)
    with Subject(weights, variant) as subject, torchscript_deprecations(), _allowed():
        file = torch.jit.load(subject.file("torchscript"), map_location=device)
        of_file = _error(_AsItIs(file, device), inputs, held)
        of_network = _error(_AsItIs(subject.module.to(device), device), inputs, held)
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device
    return Tf32(name, of_file, of_network)


@contextlib.contextmanager
def _allowed() -> Iterator[None]:
    """A program in which convolutions may use TF32, as they may where nobody says otherwise."""
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "tf32"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


class _AsItIs:
    """A module on a device, under the settings of the program."""

    def __init__(self, module: Callable[[torch.Tensor], torch.Tensor], device: str) -> None:
        self._module, self._device = module, device

    def logits(self, images: Images) -> NDArray[np.float32]:
        with torch.inference_mode():
            result: NDArray[np.float32] = self._module(as_tensor(images).to(self._device)).cpu().numpy()
        return result


def _error(runtime: _AsItIs, inputs: Inputs, held: Standard) -> Error:
    spec = spec_of(CUDA_YARDSTICK)
    logits, _ = forward(runtime, inputs, places(spec, inputs.pixels))
    errors = np.array([np.abs(logits[name] - held.reference[name]).max() for name in logits])
    allowed = [held.limits(spec)[name].allowed for name in logits]
    return Error(float(errors.max()), float((errors / allowed).max()))  # NaN stays NaN
