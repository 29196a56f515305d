"""The grids on which an int8 network computes, and the integers that its weights become.

A value is `(step - zero) * scale` with a step of 0..255. Weights are `step * scale`, one scale for each output channel,
with steps of at most 2^(bits - 1) - 1 in size; a bias counts in steps of input scale times weight scale (Jacob et al.
2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", section 2).

Weights of 7 bits are the default because of processors without VNNI: there ONNX Runtime and OpenVINO add pairs of
uint8 x int8 products in 16 bits that saturate at 32,767, and 2 * 255 * 64 = 32,640 is the most that cannot.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from ..networks.folding import folded
from ..networks.resnet import ResNet

Scheme = Literal["per-channel", "per-tensor", "power-of-two"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
WEIGHT_BITS = (7, 8)
LEVELS = 255  # the highest step of a value


@dataclass(frozen=True)
class Grid:
    """The grid of one value: `scale`, a positive float32 number, and the step that stands for 0."""

    scale: float
    zero: int


@dataclass(frozen=True)
class Grids:
    """All that int8 adds to the weights of a network.

    `values`: by the value's name in the ONNX graph (`layer1.0.conv2`). `scales`: of the weights of each layer, float32
    (output channels,); with the scheme `per-tensor` all are one number. `biases`: int32 (output channels,), in steps of
    the scale of the layer's input times that of its weights. `calibration` says in words what the ranges were measured
    on. `power-of-two`: one scale for each output channel, all scales powers of two.

    `moved`: how many steps each weight stands from where rounding would put it, int8 (weights,) by layer, in the order
    of the weight tensor; empty where nothing was finetuned, else `finetuning` says in words how.
    """

    values: Mapping[str, Grid]
    scales: Mapping[str, NDArray[np.float32]]
    biases: Mapping[str, NDArray[np.int32]]
    weight_bits: int
    scheme: Scheme
    calibration: str
    moved: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    finetuning: str | None = None

    def digest(self) -> str:
        """The sha256 of everything in it."""
        document = {
            "values": {name: [grid.scale, grid.zero] for name, grid in self.values.items()},
            "scales": {name: scales.tolist() for name, scales in self.scales.items()},
            "biases": {name: biases.tolist() for name, biases in self.biases.items()},
            **self.described(),
        }
        if self.moved:
            document["moved"] = {
                name: hashlib.sha256(steps.tobytes()).hexdigest() for name, steps in self.moved.items()
            }
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def described(self) -> dict[str, Any]:
        """How they were made, for JSON and for the metadata of files."""
        tuned = {"finetuning": self.finetuning} if self.finetuning else {}
        return {"weight_bits": self.weight_bits, "scheme": self.scheme, "calibration": self.calibration, **tuned}


@dataclass(frozen=True)
class Layer:
    """A convolution or the classifier in whole numbers: int8 (outputs, inputs, ...), its scales, int32 biases."""

    weight: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.int32]
    input: Grid


def inputs_of(network: ResNet) -> dict[str, str]:
    """The value that each layer reads, by the layer's name, in order of computation."""
    reads = {"conv1": "input"}
    value = "conv1.relu"
    for stage in ("layer1", "layer2", "layer3"):
        for number, block in network.get_submodule(stage).named_children():
            name = f"{stage}.{number}"
            if getattr(block, "downsample", None) is not None:
                reads[f"{name}.downsample.0"] = value
            reads[f"{name}.conv1"] = value
            reads[f"{name}.conv2"] = f"{name}.conv1.relu"
            value = f"{name}.relu"
    return reads | {"fc": "avgpool"}


def highest(bits: int) -> int:
    """The largest step of a weight of that many bits: 64 of seven, see above; 127 of eight."""
    return 64 if bits == 7 else 127


def weight_scales(weight: NDArray[np.float64], bits: int, scheme: Scheme) -> NDArray[np.float32]:
    """The scales, float32 (outputs,), with which the largest weight of each channel is the highest step."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    if scheme == "per-tensor":
        largest = np.full_like(largest, largest.max())
    scales = np.maximum(largest, np.finfo(np.float32).tiny) / highest(bits)
    return as_scale(scales, scheme)


def as_scale(scales: Any, scheme: Scheme) -> NDArray[np.float32]:
    """The same as float32, or the next power of two, upwards."""
    return (2.0 ** np.ceil(np.log2(scales)) if scheme == "power-of-two" else np.asarray(scales)).astype(np.float32)


def integers(weight: NDArray[np.float64], scales: NDArray[np.float32], bits: int) -> NDArray[np.int8]:
    """The steps of `weight`, (outputs, ...): rounded half to even, within the highest."""
    shape = (-1,) + (1,) * (weight.ndim - 1)
    steps = np.rint(weight / scales.astype(np.float64).reshape(shape))
    return np.clip(steps, -highest(bits), highest(bits)).astype(np.int8)


def layers(network: ResNet, grids: Grids) -> dict[str, Layer]:
    """Every layer of `network` in whole numbers. Raises `InvalidInput` where `grids` are those of another network."""
    weights, reads = folded(network), inputs_of(network)
    if reads.keys() != grids.scales.keys() or reads.keys() != grids.biases.keys():
        raise InvalidInput("the grids are those of another network. Calibrate this one.")
    found = {}
    for name, value in reads.items():
        weight, scale, bias = weights[f"{name}.weight"], grids.scales[name], grids.biases[name]
        if scale.shape != (len(weight),) or bias.shape != scale.shape or value not in grids.values:
            raise InvalidInput(f"the grids of {name} are those of another network. Calibrate this one.")
        steps = integers(weight, scale, grids.weight_bits)
        if grids.moved:
            moved = grids.moved.get(name, np.empty(0, np.int8))
            if moved.size != steps.size:
                raise InvalidInput(f"the grids of {name} are those of another network. Quantize this one.")
            top = highest(grids.weight_bits)
            steps = np.clip(steps + moved.reshape(steps.shape).astype(np.int16), -top, top).astype(np.int8)
        found[name] = Layer(steps, scale, bias, grids.values[value])
    return found
