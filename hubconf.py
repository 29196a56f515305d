"""Entry points of torch.hub, called as in pytorch-cifar-models: `torch.hub.load(REPO, "cifar10_resnet20", pretrained=True)`.

Each returns a `ResNet` in eval mode that takes normalized images, float32 (batch, 3, 32, 32), and gives logits. What to
normalize with stands in its attribute `normalization`: weights disagree about it.
"""  # noqa: E501

from __future__ import annotations

import importlib as _importlib
import runpy as _runpy
from collections.abc import Callable as _Callable
from pathlib import Path as _Path
from typing import TYPE_CHECKING

import torch as _torch

if TYPE_CHECKING:
    from cifar_export.networks.resnet import ResNet as _ResNet
    from cifar_export.networks.zoo import NetworkSpec as _NetworkSpec

# this folder's own code, whatever is installed, beside any module `exporter` of the caller's
_name = _runpy.run_path(str(_Path(__file__).resolve().parent / "exporter" / "start.py"))["load_package"]().__name__
_resnet = _importlib.import_module(f"{_name}.networks.resnet")
_zoo = _importlib.import_module(f"{_name}.networks.zoo")
_core = _importlib.import_module(f"{_name}.weights.core")
_sources = _importlib.import_module(f"{_name}.weights.sources")

dependencies = ["torch", "numpy", "safetensors", "urllib3", "filelock", "platformdirs"]


def _entry(spec: _NetworkSpec) -> _Callable[..., _ResNet]:
    def load(*, pretrained: bool = False, progress: bool = True, weights: str | None = None) -> _ResNet:  # noqa: ARG001
        if not pretrained and weights is None:
            network: _ResNet = _resnet.build(spec)
            network.normalization = spec.dataset.normalization
            return network.eval()
        loaded = _sources.load_weights(spec, "bundled" if weights is None else weights)
        with _torch.no_grad():
            network = _core.build_network(loaded).requires_grad_(True)
        network.normalization = loaded.normalization
        return network

    load.__name__ = spec.name
    load.__doc__ = (
        f"{spec.model.name} for {spec.dataset.title}. pretrained: load the bundled weights. weights: load these, "
        "bundled, upstream or a path. Neither: initialise freshly. progress: accepted as there, and without effect."
    )
    return load


globals().update({_key: _entry(_spec) for _key, _spec in _zoo.NETWORKS.items()})
