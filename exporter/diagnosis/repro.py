"""The node at which an ONNX file diverges, alone in a model, with the input it gets and the output it should give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from ..errors import InvalidInput
from ..formats.test_data import write_data_set
from ..gate.divergence import Divergence
from ..gate.node_outputs import image_port, load
from ..networks.preprocess import Pixels, as_variant
from ..networks.zoo import InputVariant
from ..weights.core import Weights, build_network
from .activations import BothPrecisions


def save_repro(
    weights: Weights, file: Path, variant: InputVariant, pixels: Pixels, divergence: Divergence, folder: Path
) -> tuple[Path, ...]:
    """Write `folder`/model.onnx, one node of `file`, and test_data_set_0: one image's input and expected output.

    Input and output are PyTorch's in float64, rounded to float32. Where the divergence is a missing node, the model is
    the node that takes that node's input in its place. Returns the files. Raises `InvalidInput` where there is no
    such node, or where `folder` cannot be written.
    """
    model = load(file)
    images = as_variant(pixels, variant, weights.normalization)
    image = images[divergence.worst_image : divergence.worst_image + 1]
    exact, _ = BothPrecisions(build_network(weights), variant, weights.normalization).activations(image)
    tensors = {name: _rounded(values) for name, values in exact.items()}
    tensors[image_port(model).name] = image
    node = _node(model, divergence)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in node.input]
    names = [name for name in dict.fromkeys(node.input) if name and name not in {c.name for c in constants}]
    unknown = next((name for name in [*names, *node.output] if name not in tensors), None)
    if unknown is not None:
        raise InvalidInput(f"no repro of {node.name}: PyTorch has no value called {unknown}. Look at the file itself.")
    inputs = {name: tensors[name] for name in names}
    outputs = {name: tensors[name] for name in node.output}
    graph = helper.make_graph(
        [node],
        f"{weights.network.name}.{node.name}",
        [_port(name, values) for name, values in inputs.items()],
        [_port(name, values) for name, values in outputs.items()],
        constants,
    )
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return write_data_set(folder, inputs, outputs, {"model.onnx": alone.SerializeToString(deterministic=True)})


def _node(model: onnx.ModelProto, divergence: Divergence) -> onnx.NodeProto:
    if divergence.kind != "missing":
        found = [node for node in model.graph.node if divergence.output in node.output]
    else:
        found = [node for node in model.graph.node if set(divergence.inputs) & set(node.input)]
    if found:
        first: onnx.NodeProto = found[0]
        return first
    raise InvalidInput(f"no repro of {divergence.node}: no node of the file reads its input. Look at the file itself.")


def _rounded(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float32) if values.dtype == np.float64 else values


def _port(name: str, values: NDArray[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)
