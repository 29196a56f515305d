"""Where an ONNX file leaves the network: the first node whose output float32 arithmetic cannot explain.

Every value of the graph is compared with the tensor of the same name in PyTorch float64. The yardstick of a tensor is
PyTorch's own float32 error on it, with the multiple and the units in the last place of the gate (`compare.bound`).
Nodes are looked at in order of computation, so the inputs of the first one outside its band are inside theirs. ONNX
Runtime runs the file on the CPU with graph optimizations off, so that every node exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ..formats.onnx_graph import read_choices
from ..formats.ports import as_fed
from ..gate.divergence import Divergence, Kind, LayerError, Located, WeightDifference
from ..gate.node_outputs import Run, fixed_batch, free_batch, load, longest_beginning, run_all
from ..networks.folding import folded
from ..networks.preprocess import Pixels, as_variant
from ..networks.resnet import ResNet
from ..networks.zoo import InputVariant
from ..runtimes import require_runtime
from ..weights.core import Weights, build_network
from .activations import BothPrecisions

_BATCH = 16  # all tensors of so many images in float64 stay below 400 MB in a resnet56
_LARGEST_BATCH = 64  # of a file that takes no other
# Folding in float32 rounds a weight two or three times; a wrong weight is further off than this many roundings.
_FOLDING_ULPS = 16


def locate(weights: Weights, file: Path, variant: InputVariant, pixels: Pixels, run: Run = run_all) -> Located:
    """The first node of the ONNX `file` that does not do what the network of `weights` does, and every value's error.

    `pixels`: uint8 (N, 32, 32, 3). `run` is `run_all`, or does the same in another process. There is no divergence
    where every node stays inside its band, nor in a file whose values do not carry the names of our exports. A file
    for larger batches than there are images is searched as if it took any. Raises `InvalidInput` for a file that is no
    ONNX model, `Unavailable` without ONNX Runtime, and what `run` raises on images although it took black ones.
    """
    require_runtime("onnxruntime-cpu")
    model = load(file)
    network = build_network(weights)
    images = as_variant(pixels, variant, weights.normalization)
    fixed = fixed_batch(model)
    if fixed is not None and fixed > min(_LARGEST_BATCH, len(images)):
        free_batch(model)
        fixed = None
    size = fixed or _BATCH
    images = images[: len(images) // size * size] if fixed else images
    runnable, refusal = longest_beginning(model, run)
    choices = read_choices(model)
    measured: dict[str, LayerError] = {}
    broken: tuple[str, tuple[int, ...], tuple[int, ...]] | None = None  # a shape: the value, the file's, ours
    missing: str | None = None
    makers = {value: node for node in model.graph.node for value in node.output}
    pytorch = BothPrecisions(network, variant, weights.normalization)
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        exact, single = pytorch.activations(batch, choices)
        if len(makers.keys() & exact.keys()) < len(exact) / 2:
            return Located((), None)
        actual = run(runnable, as_fed(batch, None, choices.layout))
        for name, reference in exact.items():
            if name not in makers:
                missing = name
                break
            if name not in actual:
                break  # ONNX Runtime got no further
            if actual[name].shape != reference.shape:
                broken = (name, actual[name].shape, reference.shape)
                break
            error = _measure(name, makers[name].op_type, start, reference, single[name], actual[name])
            measured[name] = _larger(measured.get(name), error)
    layers = tuple(measured.values())
    outside = next((layer for layer in layers if not layer.inside), None)
    facts = _Facts(model, makers, network, weights, variant)
    if outside is not None:
        return Located(layers, _numbers(outside, facts))
    if broken is not None:
        found, ours = (list(shape) for shape in broken[1:])
        return Located(layers, facts.blame(broken[0], "shape", f"its output has shape {found}, not {ours}"))
    if missing is not None:
        after = list(exact)[: list(exact).index(missing)]
        op = _op_of(missing)
        reason = f"the network has {_article(op)} {op} here, the file has not"
        inputs = (after[-1],) if after else ()
        return Located(layers, Divergence(missing, op, "missing", missing, reason, inputs))
    if refusal is not None:
        node, why = refusal
        return Located(layers, facts.blame(node.output[0], "refused", f"ONNX Runtime cannot run it: {why}"))
    return Located(layers, None)


@dataclass(frozen=True)
class _Facts:
    """What is known of a file and of the network it should be, to say what is wrong with a node."""

    model: onnx.ModelProto
    makers: Mapping[str, onnx.NodeProto]
    network: ResNet
    weights: Weights
    variant: InputVariant

    def blame(self, value: str, kind: Kind, reason: str) -> Divergence:
        node = self.makers[value]
        constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        expected = self._weights() | self._normalization()
        read = [name for name in node.input if name in constants]
        differences = tuple(
            WeightDifference(name, tuple(constants[name].dims), _difference(constants[name], expected.get(name)))
            for name in read
        )
        inputs = tuple(name for name in node.input if name and name not in constants)
        attributes = _other_attributes(node, dict(self.network.named_modules()).get(node.name))
        said = [reason, *attributes]
        said += [f"{w.name} is not the network's" for w in differences if w.max_abs_difference is not None]
        return Divergence(
            node.name or value, node.op_type, kind, value, "; ".join(said), inputs, differences, attributes
        )

    def _weights(self) -> dict[str, NDArray[np.float64]]:
        choices = read_choices(self.model)
        expected = folded(self.network)
        if choices.batch_norm == "separate":
            expected |= {name: value.numpy().astype(np.float64) for name, value in self.network.state_dict().items()}
        if choices.classifier == "matmul":
            expected["fc.weight"] = expected["fc.weight"].T
        return expected

    def _normalization(self) -> dict[str, NDArray[np.float64]]:
        if self.variant == "float32":
            return {}
        mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in self.weights.normalization.as_dict().values())
        operands = {"sub": mean, "div_2": std} | ({"div": np.array(255.0)} if self.variant == "uint8" else {})
        return {f"normalize.{name}.operand": value for name, value in operands.items()}


def _numbers(layer: LayerError, facts: _Facts) -> Divergence:
    if np.isfinite(layer.max_abs_error):
        reason = f"error {layer.max_abs_error:.1e} exceeds {layer.allowed:.1e}"
    else:
        reason = "NaN or infinite values"
    found = facts.blame(layer.name, "numbers", reason)
    return Divergence(
        **{
            **{name: getattr(found, name) for name in found.__dataclass_fields__},
            "max_abs_error": layer.max_abs_error,
            "allowed": layer.allowed,
            "ulp_error": layer.max_abs_error / layer.ulp,
            "worst_image": layer.worst_image,
        }
    )


def _measure(
    name: str, op: str, start: int, exact: NDArray[Any], single: NDArray[Any], actual: NDArray[Any]
) -> LayerError:
    reference = exact.astype(np.float64)
    error = np.abs(actual.astype(np.float64) - reference).reshape(len(reference), -1).max(axis=1)
    error = np.where(np.isfinite(error), error, np.inf)
    own = float(np.abs(single.astype(np.float64) - reference).max())
    largest = float(np.abs(reference).max())
    return LayerError(name, op, largest, float(error.max()), own, start + int(error.argmax()))


def _larger(one: LayerError | None, other: LayerError) -> LayerError:
    if one is None:
        return other
    worse = one if one.max_abs_error >= other.max_abs_error else other
    largest, yardstick = max(one.largest, other.largest), max(one.yardstick, other.yardstick)
    return LayerError(one.name, one.op, largest, worse.max_abs_error, yardstick, worse.worst_image)


def _difference(tensor: onnx.TensorProto, expected: NDArray[np.float64] | None) -> float | None:
    if expected is None:
        return None
    try:
        found = numpy_helper.to_array(tensor)
    except ValueError:  # fewer bytes than its shape takes
        return float("inf")
    if found.size != expected.size or (found.ndim > 1 and found.shape != expected.shape):
        return float("inf")
    difference = np.abs(found.astype(np.float64).reshape(expected.shape) - expected)
    # the largest weight's unit: a bias is a difference of two numbers of that size
    tolerance = _FOLDING_ULPS * float(np.spacing(np.float32(max(np.abs(expected).max(), 2.0**-10))))
    return None if (difference <= tolerance).all() else float(np.nan_to_num(difference.max(), nan=np.inf))


def _other_attributes(node: onnx.NodeProto, part: Any) -> tuple[str, ...]:
    """In words, where the node's geometry is not that of the network's module."""
    if node.op_type != "Conv" or part is None:
        return ()
    stated = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    ours = {
        "strides": list(part.stride),
        "pads": [*part.padding, *part.padding],
        "dilations": list(part.dilation),
        "group": part.groups,
    }
    defaults = {"strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "group": 1}
    found = {name: stated.get(name, default) for name, default in defaults.items()}
    return tuple(f"{name} {found[name]}, not {ours[name]}" for name in defaults if found[name] != ours[name])


def _op_of(name: str) -> str:
    last = name.rsplit(".", 1)[-1]
    known = {"relu": "Relu", "add": "Add", "avgpool": "GlobalAveragePool", "flatten": "Flatten", "logits": "Gemm"}
    known |= {"channels_first": "Transpose", "pixels": "Cast", "sub": "Sub", "div": "Div", "div_2": "Div"}
    known |= {"fc": "MatMul", **dict.fromkeys(("bn1", "bn2"), "BatchNormalization")}
    return known.get(last, "Conv")


def _article(word: str) -> str:
    return "an" if word[0] in "AEIOU" else "a"
