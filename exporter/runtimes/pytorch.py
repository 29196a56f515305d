"""PyTorch eager, float32 for real: TF32 and reduced-precision kernels off while a network runs.

`Reference` is the same network in float64, which everything else is measured against.
"""

from __future__ import annotations

import copy
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import GateFailed, first_line
from ..networks.preprocess import Images
from ..system.torch_state import full_float32
from . import Missing, Runtime


def as_tensor(images: Images) -> torch.Tensor:
    """`images` as a tensor on the CPU; it shares their memory unless they are read-only, of which torch warns."""
    return torch.from_numpy(np.require(images, requirements=["C", "W"]))


def refuse_training_mode(module: nn.Module) -> None:
    """Raise `GateFailed` for a network that is not wholly in eval mode.

    Exporters disagree about such a network: batch norm with the batch's own statistics is another function.
    """
    training = [name or "the network" for name, part in module.named_modules() if part.training]
    if training:
        raise GateFailed(f"{training[0]} is in training mode. Call .eval() before exporting or running it.")


class Eager(Runtime):
    """A torch module as it is, on one device."""

    def __init__(self, module: nn.Module, device: str) -> None:
        refuse_training_mode(module)
        self.name = "pytorch" if device == "cpu" else "pytorch-cuda"
        self._module = module if device == "cpu" else copy.deepcopy(module).to(device)
        self._device = torch.device(device)
        self.provider = torch.cuda.get_device_name(self._device) if device != "cpu" else "CPU"

    def logits(self, images: Images) -> NDArray[np.float32]:
        """See `Runtime`."""
        with torch.inference_mode(), full_float32():
            result: NDArray[np.float32] = self._module(as_tensor(images).to(self._device)).cpu().numpy()
        return result


class Reference:
    """The network in float64, on the CPU or a copy of it on a GPU. `device` is what runs it, by name."""

    def __init__(self, module: nn.Module, device: str = "cpu") -> None:
        refuse_training_mode(module)
        self._place = torch.device(device)
        self._module = module if device == "cpu" else copy.deepcopy(module).to(self._place)
        self.device = torch.cuda.get_device_name(self._place) if self._place.type == "cuda" else device

    def logits(self, images: Images) -> NDArray[np.float64]:
        """Logits, float64 (batch, classes); float32 images are taken as they are, exactly."""
        batch = as_tensor(images).to(self._place)
        with torch.inference_mode(), full_float32():
            logits: torch.Tensor = self._module(batch.double() if batch.is_floating_point() else batch)
            result: NDArray[np.float64] = logits.cpu().numpy()
        return result


def open_cpu(module: nn.Module) -> Eager:
    """Run `module` on the CPU."""
    return Eager(module, "cpu")


def open_cuda(module: nn.Module) -> Eager:
    """Run a copy of `module` on the first GPU."""
    return Eager(module, "cuda:0")


def missing_cuda() -> Missing | None:
    """What is missing for PyTorch to use a GPU here."""
    if torch.version.cuda is None:
        return Missing("this PyTorch was built without CUDA", "Install the CUDA build of torch and torchvision.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # a driver that is too old is a warning, and several lines
        found = torch.cuda.is_available()
    if found:
        return None
    why = f" ({first_line(caught[0].message)})" if caught else ", or no driver for one"
    return Missing(f"PyTorch finds no NVIDIA GPU{why}", "Run `nvidia-smi` to see whether the driver works.")
