"""Weights that no float32 arithmetic can run: refused before anything is exported from them.

A batch norm whose variance is 0 multiplies by 316; a few of these in a row, and logits leave the range in which
float32 says anything. Parity compares with the error that PyTorch's float32 makes, which then allows everything.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInput
from ..networks.resnet import ResNet
from ..networks.zoo import IMAGE_SIZE
from .core import Weights, build_network

LARGEST_ERROR = 0.1
"""Of any logit in float32, on images like normalized ones. Trained networks are off by 1e-4 at most."""
# Below it float32, which has seven digits, cannot be off that much; trained networks stay below 100.
_TAME = 1e4


@torch.no_grad()
def refuse_insane(weights: Weights) -> None:
    """Raise `InvalidInput`, naming the layer, where float32 is off by more than `LARGEST_ERROR` in a logit."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator, dtype=torch.float32)
    images = images.clamp(-2.5, 2.5)  # as normalized pixels are
    network = build_network(weights)
    norms = _Norms(network)
    computed = network(images).double()
    if max(norms.largest, float(computed.abs().max())) < _TAME:
        return
    exact = network.double()(images.double())
    error = float((computed - exact).abs().max())
    if math.isfinite(error) and error <= LARGEST_ERROR:
        return
    reach = f"logits of {float(exact.abs().max()):.1e}" if bool(torch.isfinite(exact).all()) else "no finite logits"
    raise InvalidInput(
        f"float32 cannot run it: {reach}, and an error of {error:.1e} in them. {norms.worst()}\n"
        "Look at how it was trained and saved: the statistics of a network are not like that after more than a few "
        "steps of training."
    )


class _Norms:
    """What each batch norm does to the size of its input, in the latest forward pass."""

    def __init__(self, network: ResNet) -> None:
        self._growth: dict[str, float] = {}
        self._variance: dict[str, float] = {}
        self._reached: dict[str, float] = {}
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
                self._variance[name] = float(module.running_var.min())
                module.register_forward_hook(self._hook(name))

    @property
    def largest(self) -> float:
        """The largest output of all, infinite where one is no number."""
        return max(self._reached.values())

    def worst(self) -> str:
        """The layer that enlarges its input most, in a sentence."""
        name = max(self._growth, key=lambda layer: self._growth[layer])
        least = f"its smallest running_var is {self._variance[name]:.1e}"
        return f"{name} makes its input {self._growth[name]:.3g} times as large; {least}."

    def _hook(self, name: str) -> Any:
        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            before, after = float(inputs[0].abs().max()), float(output.abs().max())
            self._reached[name] = after if math.isfinite(after) else math.inf
            growth = after / before if before else 0.0
            self._growth[name] = growth if math.isfinite(growth) else math.inf

        return note
