"""The network as an ONNX graph, written node by node.

The operators mean the same in every opset from 9 on: Conv with batch norm folded in, Relu, Add, GlobalAveragePool,
Flatten and Gemm; for pixels Transpose, Cast, Div and Sub before them. Names say where in the network a value is made:
`layer2.0.conv1` is the output of that convolution, `layer2.0.conv1.relu` what follows, `layer2.0.add` and
`layer2.0.relu` the end of the block. The weights that a node reads are called after it: `layer2.0.conv1.weight`.
Nodes stand in order of computation, initializers in the order in which they are first read, attributes by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ..errors import InvalidInput, Unavailable
from ..networks.folding import folded
from ..networks.resnet import BasicBlock, ResNet, Uint8ResNet
from ..networks.zoo import InputVariant
from ..system.torch_state import plain
from .ports import BATCH, OUTPUT, input_port


@plain()
def onnx_model(module: nn.Module, *, opset: int, name: str) -> onnx.ModelProto:
    """The model called `name` that computes what `module`, a `ResNet` or `Uint8ResNet` in eval mode, computes.

    It takes the port of that input variant and gives logits, float32 (batch, classes). Weights are folded in float64
    and rounded once, to float32. The IR version is the lowest that knows `opset`. Raises `InvalidInput` for another
    module, `Unavailable` where the onnx that is installed does not know `opset`.
    """
    network = module.network if isinstance(module, Uint8ResNet) else module
    if not isinstance(network, ResNet):
        raise InvalidInput(f"{type(network).__name__} cannot be written as ONNX. Give a network of `build_network`.")
    variant: InputVariant = "uint8" if isinstance(module, Uint8ResNet) else "float32"
    port = input_port(variant)
    graph = _Graph(folded(network))
    value = _pixels(graph, module, port.name) if isinstance(module, Uint8ResNet) else port.name
    value = graph.relu("conv1.relu", graph.conv("conv1", network.conv1, value))
    for stage in ("layer1", "layer2", "layer3"):
        for number, block in network.get_submodule(stage).named_children():
            value = _block(graph, f"{stage}.{number}", block, value)
    value = graph.node("GlobalAveragePool", "avgpool", [value])
    value = graph.node("Flatten", "flatten", [value], axis=1)
    graph.layer("Gemm", "fc", value, OUTPUT, alpha=1.0, beta=1.0, transB=1)

    ports = (
        helper.make_tensor_value_info(port.name, port.onnx_type, [BATCH, *port.shape]),
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, network.fc.out_features]),
    )
    body = helper.make_graph(graph.nodes, name, ports[:1], ports[1:], graph.initializers)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(body, opset_imports=opsets, ir_version=_lowest_ir(opset))


def serialize(model: onnx.ModelProto) -> bytes:
    """The model's bytes, map entries in a fixed order."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Graph:
    """Nodes and initializers in the order in which they are added. Each method gives the value that it makes."""

    def __init__(self, weights: Mapping[str, NDArray[np.float64]]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._weights = weights

    def node(self, operator: str, name: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output or name], name=name, **attributes))
        return output or name

    def constant(self, name: str, numbers: NDArray[np.floating[Any]]) -> str:
        self.initializers.append(numpy_helper.from_array(numbers.astype(np.float32), name))
        return name

    def layer(self, operator: str, name: str, value: str, output: str | None = None, **attributes: Any) -> str:
        """A convolution or linear layer with its weight and bias."""
        names = [f"{name}.{part}" for part in ("weight", "bias")]
        if not self._weights.keys() >= set(names):
            raise InvalidInput(f"{name} has no batch norm to fold into it. Give a network of `build_network`.")
        read = [self.constant(constant, self._weights[constant]) for constant in names]
        return self.node(operator, name, [value, *read], output, **attributes)

    def conv(self, name: str, part: Any, value: str) -> str:
        """The convolution `part`, with the batch norm after it."""
        return self.layer(
            "Conv",
            name,
            value,
            dilations=part.dilation,
            group=part.groups,
            kernel_shape=part.kernel_size,
            pads=part.padding * 2,  # where each axis begins, then where each ends
            strides=part.stride,
        )

    def relu(self, name: str, value: str) -> str:
        return self.node("Relu", name, [value])


def _block(graph: _Graph, name: str, block: nn.Module, value: str) -> str:
    if not isinstance(block, BasicBlock):
        raise InvalidInput(
            f"{name} is a {type(block).__name__}, not the network's block. It cannot be written as ONNX."
        )
    shortcut = value
    if isinstance(block.downsample, nn.Sequential):
        shortcut = graph.conv(f"{name}.downsample.0", block.downsample[0], value)
    value = graph.relu(f"{name}.conv1.relu", graph.conv(f"{name}.conv1", block.conv1, value))
    value = graph.conv(f"{name}.conv2", block.conv2, value)
    return graph.relu(f"{name}.relu", graph.node("Add", f"{name}.add", [value, shortcut]))


def _pixels(graph: _Graph, module: Uint8ResNet, value: str) -> str:
    """`Uint8ResNet.forward` up to the network: the same arithmetic in the same order, in float32."""
    value = graph.node("Transpose", "channels_first", [value], perm=[0, 3, 1, 2])
    value = graph.node("Cast", "pixels", [value], to=TensorProto.FLOAT)
    for operator, name, operand in (
        ("Div", "normalize.div", np.array(255.0)),
        ("Sub", "normalize.sub", _numbers(module.pixel_mean)),
        ("Div", "normalize.div_2", _numbers(module.pixel_std)),
    ):
        value = graph.node(operator, name, [value, graph.constant(f"{name}.operand", operand)])
    return value


def _numbers(tensor: Tensor) -> NDArray[np.floating[Any]]:
    array: NDArray[np.floating[Any]] = tensor.detach().cpu().numpy()
    return array


def _lowest_ir(opset: int) -> int:
    """The lowest IR version that knows the opset: every reader that can run the operators can open the file."""
    try:
        version: int = helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
    except ValueError as error:
        known = f"onnx {onnx.__version__} does not know opset {opset}"
        raise Unavailable(f"{known}. `pip install --upgrade onnx`, or choose a lower --opset.") from error
    return version
