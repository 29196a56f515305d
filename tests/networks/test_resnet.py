"""The network as a torch module: how it begins, and that the two inputs are one function."""

from __future__ import annotations

import math

import numpy as np
import torch

from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.preprocess import as_variant
from cifar_export.networks.resnet import build, with_input
from cifar_export.networks.zoo import NETWORKS
from cifar_export.weights.core import Weights, build_network

SPEC = NETWORKS["cifar10_resnet56"]


def test_convolutions_begin_with_the_variance_of_he_et_al() -> None:
    """Standard deviation sqrt(2 / fan out), as the published networks began (He et al. 2015)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(SPEC)
    kernels = [module.weight.detach() for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(kernels) == 57  # 55 in the main path, 2 projections
    for kernel in kernels:
        outputs, _, height, width = kernel.shape
        expected = math.sqrt(2 / (outputs * height * width))
        error = 5 * expected / math.sqrt(2 * kernel.numel())  # five standard errors
        assert abs(float(kernel.std()) - expected) < error, kernel.shape


def test_pixels_and_normalized_images_give_the_same_logits(weights20: Weights) -> None:
    pixels = bundled_images()[:8]
    answers = {}
    for variant in ("float32", "uint8"):
        module = with_input(build_network(weights20).double(), variant, weights20.normalization)
        images = torch.from_numpy(as_variant(pixels, variant, weights20.normalization))
        with torch.inference_mode():
            answers[variant] = module(images.double() if variant == "float32" else images).numpy()
    assert np.abs(answers["float32"] - answers["uint8"]).max() < 1e-5  # the images were rounded to float32 once
    assert answers["float32"].argmax(axis=1).tolist() == answers["uint8"].argmax(axis=1).tolist()
