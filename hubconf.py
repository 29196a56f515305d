"""Entry points of torch.hub, called as in pytorch-cifar-models: `torch.hub.load(REPO, "cifar10_resnet20", pretrained=True)`.

Each returns a `ResNet` in eval mode that takes normalized images, float32 (batch, 3, 32, 32), and gives logits. What to
normalize with stands in its attribute `normalization`: weights disagree about it.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable as _Callable

import torch as _torch

from exporter.resnet import ResNet as _ResNet
from exporter.resnet import build as _build
from exporter.weights import build_network as _build_network
from exporter.weights import load_weights as _load_weights
from exporter.zoo import NETWORKS as _NETWORKS
from exporter.zoo import NetworkSpec as _NetworkSpec

dependencies = ["torch", "numpy", "safetensors", "urllib3", "filelock", "platformdirs"]


def _entry(spec: _NetworkSpec) -> _Callable[..., _ResNet]:
    def load(*, pretrained: bool = False, progress: bool = True, weights: str | None = None) -> _ResNet:  # noqa: ARG001
        if not pretrained and weights is None:
            network = _build(spec)
            network.normalization = spec.dataset.normalization
            return network.eval()
        loaded = _load_weights(spec, "bundled" if weights is None else weights)
        with _torch.no_grad():
            network = _build_network(loaded).requires_grad_(True)
        network.normalization = loaded.normalization
        return network

    load.__name__ = spec.name
    load.__doc__ = (
        f"{spec.model.name} for {spec.dataset.title}. pretrained: load the bundled weights. weights: load these, "
        "bundled, upstream or a path. Neither: initialise freshly. progress: accepted as there, and without effect."
    )
    return load


globals().update({_name: _entry(_spec) for _name, _spec in _NETWORKS.items()})
