"""Batch norm folded into the convolution before it, in float64: what every exported ONNX file has as its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import InvalidInput
from .resnet import ResNet


def folded(network: ResNet) -> dict[str, NDArray[np.float64]]:
    """Weights and biases of every convolution, and of the linear layer, float64, by name: `layer2.0.conv1.weight`.

    Batch norm, with the running statistics of `network`, is folded into the convolution before it:
    w' = w g / sqrt(var + eps), b' = beta - mean g / sqrt(var + eps) (Jacob et al. 2018, "Quantization and Training of
    Neural Networks", section 3.2). NumPy computes it, so that no setting of torch can change a bit. Raises
    `InvalidInput` for a batch norm without scale, shift or running statistics.
    """
    parts = dict(network.named_modules())
    weights = {"fc.weight": _float64(network.fc.weight), "fc.bias": _float64(network.fc.bias)}
    for name, norm in parts.items():
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        layer = convolution_of(name)
        scale = _float64(norm.weight) / np.sqrt(_float64(norm.running_var) + norm.eps)
        weights[f"{layer}.weight"] = _float64(parts[layer].weight) * scale.reshape(-1, 1, 1, 1)
        weights[f"{layer}.bias"] = _float64(norm.bias) - _float64(norm.running_mean) * scale
    return weights


def norm_of(convolution: str) -> str:
    """Module path of the batch norm after that convolution: `layer1.0.bn2` after `layer1.0.conv2`."""
    if convolution.endswith("downsample.0"):
        return f"{convolution[:-1]}1"
    return convolution.replace("conv", "bn")


def convolution_of(norm: str) -> str:
    """Module path of the convolution before that batch norm: `layer1.0.bn2` follows `layer1.0.conv2`."""
    return f"{norm[:-1]}0" if norm.endswith("downsample.1") else norm.replace("bn", "conv")


def _float64(tensor: Any) -> NDArray[np.float64]:
    """A copy of the numbers, as a module's attributes are typed: `Tensor | Module | None`."""
    if not isinstance(tensor, Tensor):
        raise InvalidInput("a batch norm lacks weights or running statistics. Give a network of `build_network`.")
    array: NDArray[np.float64] = tensor.detach().cpu().numpy().astype(np.float64)
    return array
