"""The network as PyTorch computes it in float16 or bfloat16, for the formats of PyTorch itself."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from ..errors import InvalidInput
from ..networks.folding import convolution_of
from ..networks.resnet import Normalizing, ResNet
from ..quantization.half import HALVES, half_weights
from . import Request
from .onnx_choices import Precision


def in_precision(request: Request) -> nn.Module:
    """The module of `request`, or a copy of it whose network computes in the precision that is asked for."""
    precision = request.choices.precision if request.choices else "float32"
    if precision == "float32":
        return request.module
    module = copy.deepcopy(request.module)
    if not isinstance(module, Normalizing):
        return _Halved(module, precision).eval()
    module.network = _Halved(module.network, precision)  # pixels are normalized in float32 before
    return module.eval()


class _Halved(nn.Module):
    """Batch norms folded in float64, weights rounded once; normalized images and logits are float32."""

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        super().__init__()
        if not isinstance(network, ResNet):
            raise InvalidInput(f"{type(network).__name__} cannot be folded. Give a network of `build_network`.")
        weights = {
            name: nn.Parameter(numbers, requires_grad=False)
            for name, numbers in half_weights(network, precision).items()
        }
        for name, part in list(network.named_modules()):
            if isinstance(part, nn.BatchNorm2d):
                convolution = network.get_submodule(convolution_of(name))
                convolution.weight = weights[f"{convolution_of(name)}.weight"]
                convolution.bias = weights[f"{convolution_of(name)}.bias"]
                parent, _, last = name.rpartition(".")
                setattr(network.get_submodule(parent), last, nn.Identity())
        network.fc.weight, network.fc.bias = weights["fc.weight"], weights["fc.bias"]
        self._dtype, self.network = HALVES[precision], network

    def forward(self, input: Tensor) -> Tensor:
        """Logits of normalized images."""
        logits: Tensor = self.network(input.to(self._dtype))
        return logits.float()
