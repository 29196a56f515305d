"""Every tensor that an exported ONNX graph computes, computed by PyTorch under the same names."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..formats.onnx_choices import OnnxChoices
from ..networks.folding import convolution_of
from ..networks.resnet import BasicBlock, Normalizing, ResNet, Uint8ResNet, with_input
from ..networks.zoo import InputVariant, Normalization
from ..runtimes.pytorch import as_tensor
from ..system.torch_state import full_float32

DEFAULTS = OnnxChoices()


class BothPrecisions:
    """A network behind its input, in float64 and in float32; both are made once and run on as many batches as come."""

    def __init__(self, network: ResNet, variant: InputVariant, normalization: Normalization) -> None:
        self._double = with_input(copy.deepcopy(network).double(), variant, normalization).eval()
        self._single = with_input(network, variant, normalization).eval()

    def activations(
        self, images: NDArray[Any], choices: OnnxChoices = DEFAULTS
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """All tensors of one forward pass of `images`, in that input variant: in float64, and in float32."""
        return activations(self._double, images, choices), activations(self._single, images, choices)


@full_float32()
def activations(module: nn.Module, images: NDArray[Any], choices: OnnxChoices = DEFAULTS) -> dict[str, NDArray[Any]]:
    """The tensors of one forward pass by the names that they have in an exported ONNX file, in order of computation.

    `module`: one of `with_input`, in eval mode; its own type (float32, float64) is that of the tensors. `choices` are
    the file's: `layer2.0.conv1` is what batch norm makes of the convolution, where the file has the two folded.
    """
    found: dict[str, NDArray[Any]] = {}
    batch = as_tensor(images)
    network = module
    if choices.layout == "nhwc":  # `images` are NCHW all the same
        found["channels_first"] = batch.to(next(module.parameters()).dtype).numpy()
    if isinstance(module, Normalizing):
        batch = _normalize(module, batch, found)
        network = module.network
    if not isinstance(network, ResNet):
        raise TypeError(f"{type(network).__name__} has no names in an exported file")
    # copies: the networks' ReLU works in place
    hooks = [hook for name, part in network.named_modules() for hook in _hooks(name, part, found, choices)]
    try:
        with torch.inference_mode():
            network(batch.to(network.fc.weight.dtype))
            if choices.classifier == "matmul":
                last = found.pop("logits")
                found["fc"] = found["flatten"] @ network.fc.weight.numpy().T
                found["logits"] = last
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _normalize(module: Normalizing, image: Tensor, found: dict[str, NDArray[Any]]) -> Tensor:
    made = {}
    scaled = image.to(module.pixel_mean.dtype)
    if isinstance(module, Uint8ResNet):
        made["channels_first"] = image.permute(0, 3, 1, 2).contiguous()
        made["pixels"] = made["channels_first"].to(module.pixel_mean.dtype)
        made["normalize.div"] = scaled = made["pixels"] / 255.0
    made["normalize.sub"] = scaled - module.pixel_mean
    made["normalize.div_2"] = made["normalize.sub"] / module.pixel_std
    found.update((name, tensor.numpy()) for name, tensor in made.items())
    return made["normalize.div_2"]


def _hooks(name: str, part: nn.Module, found: dict[str, NDArray[Any]], choices: OnnxChoices) -> list[Any]:
    def keep(label: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[label] = output.numpy().copy()

        return hook

    separate = choices.batch_norm == "separate"
    if isinstance(part, nn.BatchNorm2d):
        return [part.register_forward_hook(keep(name if separate else convolution_of(name)))]
    if isinstance(part, nn.Conv2d) and separate:
        return [part.register_forward_hook(keep(name))]
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
