"""What a reduced precision needs beside the weights: the grids of int8, from where they are known or by measuring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ..errors import InvalidInput
from ..formats.onnx_choices import Precision
from ..networks.preprocess import Pixels, as_variant
from ..quantization.calibration import calibrate
from ..quantization.document import bundled_grids
from ..quantization.grids import WEIGHT_BITS, Scheme
from ..quantization.pictures import COUNT, calibration_pictures
from ..weights.core import Weights, build_network

DEFAULT_SCHEME: Scheme = "per-channel"


def prepared(
    weights: Weights,
    precision: Precision,
    *,
    weight_bits: int | None = None,
    scheme: Scheme | None = None,
    pixels: Pixels | None = None,
    progress: Callable[[str], None] | None = None,
) -> Weights:
    """`weights` with the grids that a file in that precision needs; as they are where it needs none.

    Grids come with quantized weights and with the bundled ones. Otherwise, or where `weight_bits` or `scheme` ask for
    others, they are measured on `pixels`, training pictures (N, 32, 32, 3), or on those of CIFAR that come with
    cifar-export. Raises `InvalidInput` where there are none, and for options that contradict quantized weights.
    """
    if precision != "int8":
        if weight_bits or scheme:
            raise InvalidInput("--weight-bits and --scheme are for --precision int8. Leave them away.")
        return weights
    asked = (weight_bits or WEIGHT_BITS[0], scheme or DEFAULT_SCHEME)
    if weights.grids is not None:
        held = (weights.grids.weight_bits, weights.grids.scheme)
        if (weight_bits or held[0], scheme or held[1]) != held:
            raise InvalidInput(
                f"these weights are quantized already, with {held[0]} bits {held[1]}. Leave --weight-bits and --scheme "
                "away, or give the float32 weights."
            )
        return weights
    if pixels is None:
        known = bundled_grids(weights.network.name, weights.sha256)
        if known is not None and (known.weight_bits, known.scheme) == asked:
            return replace(weights, grids=known)
    return quantized(weights, pixels, weight_bits=asked[0], scheme=asked[1], progress=progress)


def quantized(
    weights: Weights,
    pixels: Pixels | None = None,
    *,
    weight_bits: int = WEIGHT_BITS[0],
    scheme: Scheme = DEFAULT_SCHEME,
    progress: Callable[[str], None] | None = None,
) -> Weights:
    """`weights` with grids measured on `pixels`, training pictures (N, 32, 32, 3), or on those of CIFAR that we have.

    Raises `InvalidInput` where there are none.
    """
    dataset = weights.network.dataset.name
    said = f"{COUNT} training pictures of {dataset}"
    if pixels is None:
        pixels = calibration_pictures(dataset)
    else:
        said = f"{len(pixels)} training pictures given"
    if pixels is None or not len(pixels):
        raise InvalidInput(
            f"int8 needs training pictures of {dataset} to measure its ranges on.\n"
            "Give --calibration DIR, a folder of pictures or of your data set."
        )
    if progress is not None:
        progress(f"measuring ranges on {len(pixels)} pictures")
    images = torch.from_numpy(as_variant(pixels, "float32", weights.normalization))
    grids = calibrate(build_network(weights), images, said, weight_bits=weight_bits, scheme=scheme)
    return replace(weights, grids=grids)
