"""Every tensor that an exported ONNX graph computes, computed by PyTorch under the same names."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..networks.folding import convolution_of
from ..networks.resnet import BasicBlock, ResNet, Uint8ResNet, with_input
from ..networks.zoo import InputVariant, Normalization
from ..runtimes.pytorch import as_tensor
from ..system.torch_state import full_float32


class BothPrecisions:
    """A network behind its input, in float64 and in float32; both are made once and run on as many batches as come."""

    def __init__(self, network: ResNet, variant: InputVariant, normalization: Normalization) -> None:
        self._double = with_input(copy.deepcopy(network).double(), variant, normalization).eval()
        self._single = with_input(network, variant, normalization).eval()

    def activations(self, images: NDArray[Any]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """All tensors of one forward pass of `images`, in that input variant: in float64, and in float32."""
        return activations(self._double, images), activations(self._single, images)


@full_float32()
def activations(module: nn.Module, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The tensors of one forward pass by the names that they have in an exported ONNX file, in order of computation.

    `module`: a `ResNet` or `Uint8ResNet` in eval mode; its own type (float32, float64) is that of the tensors.
    `layer2.0.conv1` is what batch norm makes of the convolution, as the file has the two folded.
    """
    found: dict[str, NDArray[Any]] = {}
    batch = as_tensor(images)
    network = module
    if isinstance(module, Uint8ResNet):
        batch = _normalize(module, batch, found)
        network = module.network
    if not isinstance(network, ResNet):
        raise TypeError(f"{type(network).__name__} has no names in an exported file")
    # copies: the networks' ReLU works in place
    hooks = [hook for name, part in network.named_modules() for hook in _hooks(name, part, found)]
    try:
        with torch.inference_mode():
            network(batch.to(network.fc.weight.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _normalize(module: Uint8ResNet, image: Tensor, found: dict[str, NDArray[Any]]) -> Tensor:
    first = image.permute(0, 3, 1, 2).contiguous()
    pixels = first.to(module.pixel_mean.dtype)
    scaled = pixels / 255.0
    centered = scaled - module.pixel_mean
    normalized = centered / module.pixel_std
    tensors = (first, pixels, scaled, centered, normalized)
    names = ("channels_first", "pixels", "normalize.div", "normalize.sub", "normalize.div_2")
    found.update((name, tensor.numpy()) for name, tensor in zip(names, tensors, strict=True))
    return normalized


def _hooks(name: str, part: nn.Module, found: dict[str, NDArray[Any]]) -> list[Any]:
    def keep(label: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[label] = output.numpy().copy()

        return hook

    if isinstance(part, nn.BatchNorm2d):
        return [part.register_forward_hook(keep(convolution_of(name)))]
    if isinstance(part, BasicBlock):
        return [
            part.relu.register_forward_pre_hook(_before_relu(name, found)),
            part.relu.register_forward_hook(_after_relu(name, found)),
        ]
    if isinstance(part, nn.ReLU) and "." not in name:
        return [part.register_forward_hook(keep("conv1.relu"))]
    if isinstance(part, nn.AdaptiveAvgPool2d):
        return [part.register_forward_hook(keep("avgpool"))]
    if isinstance(part, nn.Linear):

        def flat(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found["flatten"] = inputs[0].numpy().copy()

        return [part.register_forward_pre_hook(flat), part.register_forward_hook(keep("logits"))]
    return []


# A block uses its ReLU twice: after conv1, and after the addition.


def _before_relu(block: str, found: dict[str, NDArray[Any]]) -> Callable[..., None]:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if f"{block}.conv1.relu" in found:
            found[f"{block}.add"] = inputs[0].numpy().copy()

    return hook


def _after_relu(block: str, found: dict[str, NDArray[Any]]) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        label = f"{block}.relu" if f"{block}.add" in found else f"{block}.conv1.relu"
        found[label] = output.numpy().copy()

    return hook
