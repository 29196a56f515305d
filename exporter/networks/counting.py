"""Parameters and multiply-adds of a network, by arithmetic: PyTorch, which a test asks, would take seconds to load."""

from __future__ import annotations

from dataclasses import dataclass

from .zoo import IMAGE_SIZE, STAGE_WIDTHS, NetworkSpec


@dataclass(frozen=True)
class Size:
    """`parameters` of convolution and linear layers (batch norm left out, as the published tables do), and the
    `multiply_adds` of those layers for one image.
    """  # noqa: D205

    parameters: int
    multiply_adds: int


def size_of(spec: NetworkSpec) -> Size:
    """Count `spec`'s network: 3x3 convolutions, 1x1 ones where the width changes, and the classifier."""
    side, channels = IMAGE_SIZE, STAGE_WIDTHS[0]
    parameters = [9 * 3 * channels]
    places = [side * side]
    for width in STAGE_WIDTHS:
        for block in range(spec.model.blocks_per_stage):
            if width != channels and block == 0:
                side //= 2
                parameters.append(channels * width)
                places.append(side * side)
            parameters += [9 * channels * width, 9 * width * width]
            places += [side * side] * 2
            channels = width
    multiply_adds = sum(weights * count for weights, count in zip(parameters, places, strict=True))
    classifier = channels * spec.dataset.classes
    return Size(sum(parameters) + classifier + spec.dataset.classes, multiply_adds + classifier)
