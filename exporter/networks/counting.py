"""Parameters and multiply-adds of a network, counted from the network itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .resnet import build
from .zoo import IMAGE_SIZE, NetworkSpec


@dataclass(frozen=True)
class Size:
    """`parameters` of convolution and linear layers (batch norm left out, as the published tables do), and the
    `multiply_adds` of those layers for one image.
    """  # noqa: D205

    parameters: int
    multiply_adds: int


def size_of(spec: NetworkSpec) -> Size:
    """Count `spec`'s network without allocating it. Multiply-adds are half of what torch's flop counter counts."""
    with torch.device("meta"):
        network = build(spec).eval()
        image = torch.empty(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(image)
    return Size(sum(p.numel() for layer in layers for p in layer.parameters()), counter.get_total_flops() // 2)
