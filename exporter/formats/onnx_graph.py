"""The network as an ONNX graph, written node by node.

The operators mean the same in every opset from 9 on: Conv with batch norm folded in, Relu, Add, GlobalAveragePool,
Flatten and Gemm; for pixels Transpose, Cast, Div and Sub before them. `OnnxChoices` names others for some of them.
Names say where in the network a value is made: `layer2.0.conv1` is the output of that convolution, `layer2.0.bn1` of a
batch norm that is not folded, `layer2.0.conv1.relu` what follows, `layer2.0.add` and `layer2.0.relu` the end of the
block. The weights that a node reads are called after it: `layer2.0.conv1.weight`. Nodes stand in order of computation,
initializers in the order in which they are first read, attributes by name.
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
from ..networks.folding import folded, norm_of
from ..networks.resnet import BasicBlock, Normalizing, ResNet, Uint8ResNet
from ..networks.zoo import IMAGE_SIZE, InputVariant
from ..quantization.grids import Grid, Grids, layers
from ..system.torch_state import plain
from .onnx_choices import OnnxChoices, Pooling, Precision
from .ports import ONNX_FLOATS, OUTPUT, input_port


@plain()
def onnx_model(module: nn.Module, name: str, choices: OnnxChoices, grids: Grids | None = None) -> onnx.ModelProto:
    """The model called `name` that computes what `module` (of `with_input`, in eval mode) computes.

    It takes the port of that input variant and gives logits, float32 or float16 (batch, classes). Weights are folded
    in float64 and rounded once, to float32 or float16, or to whole numbers on `grids` with the precision int8, where
    every value of a grid is rounded by QuantizeLinear and DequantizeLinear. The IR version is the lowest that knows
    the opset.
    Raises `InvalidInput` for another module, `Unavailable` where the onnx that is installed does not know the opset.
    """
    network = module.network if isinstance(module, Normalizing) else module
    if not isinstance(network, ResNet):
        raise InvalidInput(f"{type(network).__name__} cannot be written as ONNX. Give a network of `build_network`.")
    port, element, shape = input_port(_variant_of(module)).signature(choices.batch, choices.layout, choices.io)
    graph = _Graph(network, choices, grids, halves=element == TensorProto.FLOAT16)
    value = graph.settled("input", _normalized(graph, module, port))
    value = graph.relu("conv1.relu", graph.conv("conv1", network.conv1, value))
    for stage in ("layer1", "layer2", "layer3"):
        for number, block in network.get_submodule(stage).named_children():
            value = _block(graph, f"{stage}.{number}", block, value)
    value = graph.node("Flatten", "flatten", [_pooled(graph, value)], axis=1)
    _classifier(graph, graph.settled("flatten", value, "avgpool"))

    ports = (
        helper.make_tensor_value_info(port, element, shape),
        helper.make_tensor_value_info(OUTPUT, ONNX_FLOATS[choices.io], [shape[0], network.fc.out_features]),
    )
    body = helper.make_graph(graph.nodes, name, ports[:1], ports[1:], graph.initializers)
    opsets = [helper.make_opsetid("", choices.opset)]
    return helper.make_model(body, opset_imports=opsets, ir_version=_lowest_ir(choices.opset))


def read_choices(model: onnx.ModelProto) -> OnnxChoices:
    """How the graph of `model`, one that `onnx_model` wrote, is written; of another, what its nodes look like."""
    operators = {node.op_type for node in model.graph.node}
    weights = {tensor.name for tensor in model.graph.initializer}
    port = next((value for value in model.graph.input if value.name not in weights), None)
    dims = list(port.type.tensor_type.shape.dim) if port is not None else []
    is_float = port is not None and port.type.tensor_type.elem_type in ONNX_FLOATS.values()
    found = (pooling for pooling, operator in _POOLS.items() if operator in operators)
    return OnnxChoices(
        opset=next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        batch=(dims[0].dim_value or None) if dims else None,
        batch_norm="separate" if "BatchNormalization" in operators else "folded",
        pooling=next(found, "global"),
        classifier="gemm" if "Gemm" in operators or "MatMul" not in operators else "matmul",
        layout="nhwc" if is_float and len(dims) == 4 and dims[3].dim_value == 3 else "nchw",
        precision=_precision_of(model, operators),
        io="float16" if _gives(model, TensorProto.FLOAT16) else "float32",
    )


def _gives(model: onnx.ModelProto, element: int) -> bool:
    return any(value.type.tensor_type.elem_type == element for value in model.graph.output)


def _precision_of(model: onnx.ModelProto, operators: set[str]) -> Precision:
    if "QuantizeLinear" in operators:
        return "int8"
    halves = any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return "float16" if halves else "float32"


def serialize(model: onnx.ModelProto) -> bytes:
    """The model's bytes, map entries in a fixed order."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Graph:
    """Nodes and initializers in the order in which they are added. Each method gives the value that it makes."""

    def __init__(self, network: ResNet, choices: OnnxChoices, grids: Grids | None, *, halves: bool = False) -> None:
        self._takes_halves = halves
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.choices = choices
        self._dtype: type[np.floating[Any]] = np.float16 if choices.precision == "float16" else np.float32
        self._grids: Mapping[str, Grid] = {}
        if choices.precision == "int8":
            if grids is None:
                raise InvalidInput("an int8 file needs the grids of its values. `cifar-export quantize` finds them.")
            self._grids, self._layers = grids.values, layers(network, grids)
        self._weights: Mapping[str, NDArray[np.floating[Any]]] = folded(network)
        if choices.batch_norm == "separate":
            self._weights = {name: _numbers(tensor) for name, tensor in network.state_dict().items()}
            self._eps = {name: part.eps for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d)}

    def node(self, operator: str, name: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output or name], name=name, **attributes))
        return self.settled(name, output or name)

    def settled(self, name: str, value: str, grid_of: str | None = None) -> str:
        """`value`, the one called `name`, as the precision wants it: on its grid, or that of another, if it has one."""
        if name == "input" and self.choices.precision == "float16" and not self._takes_halves:
            return self.node("Cast", "half", [value], to=TensorProto.FLOAT16)
        grid = self._grids.get(grid_of or name)
        if grid is None:
            return value
        constants = [
            self.as_it_is(f"{name}.scale", np.float32(grid.scale)),
            self.as_it_is(f"{name}.zero_point", np.uint8(grid.zero)),
        ]
        for operator, step in (("QuantizeLinear", "quantize"), ("DequantizeLinear", "dequantize")):
            step = f"{name}.{step}"
            self.nodes.append(helper.make_node(operator, [value, *constants], [step], name=step))
            value = step
        return value

    def constant(self, name: str, numbers: NDArray[np.floating[Any]]) -> str:
        """Numbers of the network, in the precision of the file."""
        return self.as_it_is(name, numbers.astype(self._dtype))

    def read(self, name: str, *parts: str) -> list[str]:
        """The weights of the layer `name` that are called so, as constants."""
        if self._grids:
            return self._whole(name)
        names = [f"{name}.{part}" for part in parts]
        if not self._weights.keys() >= set(names):
            raise InvalidInput(f"{name} has no batch norm to fold into it. Give a network of `build_network`.")
        return [self.constant(constant, self._weights[constant]) for constant in names]

    def _whole(self, name: str) -> list[str]:
        """Weight and bias of that layer: whole numbers, and nodes that multiply them by their scales."""
        layer = self._layers[name]
        scales = layer.scale if len(np.unique(layer.scale)) > 1 else layer.scale[:1].reshape(())
        return [
            self._dequantized(f"{name}.weight", layer.weight, scales),
            self._dequantized(f"{name}.bias", layer.bias, scales * np.float32(layer.input.scale)),
        ]

    def _dequantized(self, name: str, steps: NDArray[Any], scales: Any) -> str:
        read = [self.as_it_is(f"{name}.steps", steps), self.as_it_is(f"{name}.scale", scales)]
        if steps.dtype == np.int8:  # ONNX Runtime 1.25 takes one for each scale or fails, though they are all 0
            read.append(self.as_it_is(f"{name}.zero_point", np.zeros(scales.shape, np.int8)))
        axis: dict[str, Any] = {"axis": 0} if scales.ndim else {}
        self.nodes.append(helper.make_node("DequantizeLinear", read, [name], name=name, **axis))
        return name

    def transposed(self, name: str) -> str:
        """That weight with its two axes exchanged, as a constant."""
        return self.constant(name, self._weights[name].T)

    def as_it_is(self, name: str, numbers: Any) -> str:
        """A constant of the type that `numbers` have."""
        self.initializers.append(numpy_helper.from_array(np.asarray(numbers), name))
        return name

    def conv(self, name: str, part: Any, value: str) -> str:
        """The convolution `part`, with the batch norm after it."""
        separate = self.choices.batch_norm == "separate"
        value = self.node(
            "Conv",
            name,
            [value, *self.read(name, *(("weight",) if separate else ("weight", "bias")))],
            dilations=part.dilation,
            group=part.groups,
            kernel_shape=part.kernel_size,
            pads=part.padding * 2,  # where each axis begins, then where each ends
            strides=part.stride,
        )
        if not separate:
            return value
        norm = norm_of(name)
        read = self.read(norm, "weight", "bias", "running_mean", "running_var")
        return self.node("BatchNormalization", norm, [value, *read], epsilon=self._eps[norm])

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


def _normalized(graph: _Graph, module: nn.Module, value: str) -> str:
    """What stands before the network: the same arithmetic as the module's, in the same order, in float32."""
    pixels = isinstance(module, Uint8ResNet)
    if pixels or graph.choices.layout == "nhwc":
        value = graph.node("Transpose", "channels_first", [value], perm=[0, 3, 1, 2])
    steps: list[tuple[str, str, NDArray[Any]]] = []
    if pixels:
        value = graph.node("Cast", "pixels", [value], to=TensorProto.FLOAT)
        steps = [("Div", "normalize.div", np.array(255.0))]
    if isinstance(module, Normalizing):
        steps.append(("Sub", "normalize.sub", _numbers(module.pixel_mean)))
        steps.append(("Div", "normalize.div_2", _numbers(module.pixel_std)))
    for operator, name, operand in steps:
        # in float32 whatever the precision: pixels are normalized before they are rounded
        value = graph.node(operator, name, [value, graph.as_it_is(f"{name}.operand", operand.astype(np.float32))])
    return value


# operator of each pooling
_POOLS: dict[Pooling, str] = {"global": "GlobalAveragePool", "average": "AveragePool", "reduce-mean": "ReduceMean"}
_POOLED = IMAGE_SIZE // 4  # height and width after the two stages that halve them


def _pooled(graph: _Graph, value: str) -> str:
    """The mean of each channel, (batch, channels, 1, 1)."""
    pooling, inputs = graph.choices.pooling, [value]
    attributes: dict[str, Any] = {}
    if pooling == "average":
        # without padding, which some readers (Concrete ML) want to be told
        attributes = {"kernel_shape": [_POOLED, _POOLED], "pads": [0, 0, 0, 0], "strides": [_POOLED, _POOLED]}
    elif pooling == "reduce-mean":
        attributes = {"keepdims": 1, "axes": [2, 3]}
        if graph.choices.opset >= 18:  # from there on the axes are an input
            graph.initializers.append(numpy_helper.from_array(np.array(attributes.pop("axes")), "avgpool.axes"))
            inputs.append("avgpool.axes")
    return graph.node(_POOLS[pooling], "avgpool", inputs, **attributes)


def _classifier(graph: _Graph, value: str) -> None:
    half = graph.choices.precision == "float16" and graph.choices.io == "float32"
    output = f"{OUTPUT}.half" if half else OUTPUT
    if graph.choices.classifier == "gemm":
        graph.node("Gemm", "fc", [value, *graph.read("fc", "weight", "bias")], output, alpha=1.0, beta=1.0, transB=1)
    else:
        value = graph.node("MatMul", "fc", [value, graph.transposed("fc.weight")])
        graph.node("Add", "fc.add", [value, *graph.read("fc", "bias")], output)
    if half:
        graph.node("Cast", "float", [output], OUTPUT, to=TensorProto.FLOAT)


def _variant_of(module: nn.Module) -> InputVariant:
    if isinstance(module, Uint8ResNet):
        return "uint8"
    return "unit" if isinstance(module, Normalizing) else "float32"


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
