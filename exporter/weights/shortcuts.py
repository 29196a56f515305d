"""Shortcuts without parameters (He et al. 2016, section 4.2, option A), written as the projections of our networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InvalidInput
from ..networks.zoo import NetworkSpec
from .core import expected_state

SHORTCUTS = ("pad-both", "pad-end")
"""Where zero channels are added: half of them on each side (akamaster's networks), or all of them at the end."""
_POOLED = ("avg-pool", "average-pool", "pool", "avgpool")
_SAID = {"pad-both": "on both sides", "pad-end": "at the end"}


def require_shortcut(name: str | None) -> None:
    """Raise `InvalidInput` for a shortcut that cannot be written as a 1x1 convolution of stride 2."""
    if name in _POOLED:
        raise InvalidInput(
            "shortcuts that average-pool compute with every pixel, a 1x1 convolution of stride 2 with one of four.\n"
            f"Such a network cannot be written as one of these. Known shortcuts: {', '.join(SHORTCUTS)}."
        )
    if name is not None and name not in SHORTCUTS:
        raise InvalidInput(f"no shortcut {name!r}. Known: {', '.join(SHORTCUTS)}.")


def said(shortcut: str | None) -> str:
    """What was done, for people; `shortcut` is None where nobody chose."""
    how = f"wrote option-A shortcuts as 1x1 convolutions, channels padded {_SAID[shortcut or SHORTCUTS[0]]}"
    return how if shortcut else f"{how} (assumed: --shortcut chooses)"


def projections(network: NetworkSpec, shortcut: str | None = None) -> dict[str, Tensor]:
    """Write the option-A shortcuts of `network` as projections: a 1x1 stride-2 convolution and an identity batch norm.

    Option A takes every second pixel and pads channels with zeros, on both sides alike or at the end: the convolution's
    weight is 1 where output channel = input channel + padding before. The batch norm divides by
    sqrt(running_var + eps), which is exactly 1 in float32 for running_var = 1 - eps; so no output changes in float32,
    and in float64 by 1e-8 of itself.
    """
    state = {}
    for key, empty in expected_state(network).items():
        if not key.endswith("downsample.0.weight"):
            continue
        outputs, inputs = empty.shape[:2]
        before = 0 if shortcut == "pad-end" else (outputs - inputs) // 2
        weight = torch.zeros(empty.shape, dtype=empty.dtype)
        for channel in range(inputs):
            weight[channel + before, channel] = 1.0
        norm = nn.BatchNorm2d(outputs, dtype=empty.dtype)
        nn.init.constant_(norm.running_var, 1.0 - norm.eps)  # type: ignore[arg-type]  # it tracks statistics
        state[key] = weight
        prefix = key.removesuffix("0.weight") + "1."
        state |= {prefix + name: tensor.detach() for name, tensor in norm.state_dict().items()}
    return state
