"""Ways to break an exported ONNX file in one place, for tests that want to see it noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

Change = Callable[[onnx.ModelProto], None]


def plant(source: Path, target: Path, change: Change) -> Path:
    """A copy of the ONNX file `source` at `target`, changed."""
    model = onnx.load(source)
    change(model)
    onnx.save(model, target)
    return target


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """The node called `name`."""
    return next(node for node in model.graph.node if node.name == name)


def edit(name: str, function: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Replace the weight called `name` by what `function` makes of it."""

    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        tensor.CopyFrom(numpy_helper.from_array(function(numpy_helper.to_array(tensor).copy()), name))

    return change


def edit_all(function: Callable[[np.ndarray], np.ndarray]) -> Change:
    """The same for every float32 weight."""

    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                edit(tensor.name, function)(model)

    return change


def swap(one: str, other: str) -> Change:
    """Exchange two weights."""

    def change(model: onnx.ModelProto) -> None:
        first, second = (next(t for t in model.graph.initializer if t.name == name) for name in (one, other))
        values = numpy_helper.to_array(first), numpy_helper.to_array(second)
        first.CopyFrom(numpy_helper.from_array(values[1], one))
        second.CopyFrom(numpy_helper.from_array(values[0], other))

    return change


def attribute(name: str, key: str, value: object) -> Change:
    """Set an attribute of the node called `name`."""

    def change(model: onnx.ModelProto) -> None:
        found = node(model, name)
        kept = [a for a in found.attribute if a.name != key]
        del found.attribute[:]
        found.attribute.extend([*kept, helper.make_attribute(key, value)])

    return change


def remove(name: str) -> Change:
    """Take out the node called `name`; what read its output reads its input."""

    def change(model: onnx.ModelProto) -> None:
        gone = node(model, name)
        source, result = gone.input[0], gone.output[0]
        model.graph.node.remove(gone)
        for other in model.graph.node:
            other.input[:] = [source if value == result else value for value in other.input]

    return change


def together(*changes: Change) -> Change:
    """Several changes, one after the other."""

    def change(model: onnx.ModelProto) -> None:
        for one in changes:
            one(model)

    return change


def nudge(array: np.ndarray) -> np.ndarray:
    """Move one number by a hundredth."""
    array.flat[7] += 1e-2
    return array


def keep_mantissa_bits(bits: int) -> Callable[[np.ndarray], np.ndarray]:
    """Round to so many mantissa bits, half away from zero: 10 is TF32, 7 is bfloat16."""
    drop = 23 - bits

    def function(array: np.ndarray) -> np.ndarray:
        raw = array.astype(np.float32).view(np.uint32) + np.uint32(1 << (drop - 1))
        return (raw & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)).view(np.float32)

    return function
