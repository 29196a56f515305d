"""The network as a LiteRT model, written operator by operator: a flatbuffer of the schema that LiteRT itself brings.

Values are called as in the ONNX graph: `layer2.0.conv1.relu`. They are (batch, height, width, channels). ReLU is part
of the operator before it. LiteRT's own padding of a convolution with stride 2 is not PyTorch's (nothing before and one
after, where PyTorch has one on both sides), so that PAD stands before those.

An int8 model computes on the grids of the ONNX file of that precision. A value's step is one of -128..127 here, 128
less than there; weights are symmetric, with a scale for each output channel. What stands before the first grid and
after the last one is float32: the normalization of images, and the classifier, whose weights are whole numbers times
their scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from torch import nn

from ..errors import InvalidInput
from ..networks.folding import folded
from ..networks.resnet import BasicBlock, Normalizing, ResNet, Uint8ResNet
from ..networks.zoo import InputVariant
from ..quantization.grids import Grid, Grids, Layer, layers
from ..quantization.walk import walk
from ..system.torch_state import plain
from .litert_choices import LitertChoices
from .ports import OUTPUT, input_port

IDENTIFIER = b"TFL3"
"""The bytes 4 to 8 of every file."""
SIGNATURE = "serving_default"
_VERSION = 3  # of the schema
_ALIGNMENT = 16  # of weights, in bytes from the beginning of the file, as the schema asks
_STEP_OFFSET = 128  # from a step of 0..255 to int8
KINDS = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int32): schema.TensorType.INT32,
}
"""LiteRT's number of each type."""
# Operators that have a version of their own for int8; the others are of version 1.
_INT8_VERSIONS = {"CONV_2D": 3, "ADD": 2, "PAD": 2, "MEAN": 2, "DEQUANTIZE": 2}


@plain()
def litert_model(
    module: nn.Module, name: str, choices: LitertChoices, grids: Grids | None, metadata: Mapping[str, bytes]
) -> bytes:
    """The file of a model called `name` that computes what `module` (of `with_input`, in eval mode) computes.

    It takes the port of that input variant, channels last, and gives logits, float32 (batch, classes). `metadata`: what
    else the file holds, by name. Raises `InvalidInput` for another module, and for int8 without `grids`.
    """
    network = _ours(module.network if isinstance(module, Normalizing) else module)
    graph = _Graph(network, choices, grids)
    variant: InputVariant = "float32"
    if isinstance(module, Normalizing):
        variant = "uint8" if isinstance(module, Uint8ResNet) else "unit"
    port = input_port(variant)
    _, _, shape = port.signature(choices.batch, choices.layout)
    kind = np.uint8 if variant == "uint8" else np.float32
    image = graph.tensor(port.name, [int(size) for size in shape], np.dtype(kind))
    logits = walk(network, graph, _normalized(graph, module, image))
    return graph.file(name, image, logits, metadata)


def _ours(network: nn.Module) -> ResNet:
    """The same network. Raises `InvalidInput` for one that is not built of our blocks."""
    if not isinstance(network, ResNet):
        raise InvalidInput(f"{type(network).__name__} cannot be written for LiteRT. Give a network of `build_network`.")
    for stage in (network.layer1, network.layer2, network.layer3):
        for block in stage:
            if not isinstance(block, BasicBlock):
                raise InvalidInput(f"a {type(block).__name__} is not the network's block. It cannot be written.")
    return network


def _normalized(graph: _Graph, module: nn.Module, value: int) -> int:
    """What stands before the network: the same arithmetic as the module's, in the same order, in float32."""
    if isinstance(module, Uint8ResNet):
        cast = schema.CastOptionsT(schema.TensorType.UINT8, schema.TensorType.FLOAT32)
        value = graph.add_operator("CAST", "pixels", [value], graph.shape(value), np.float32, cast)
        value = graph.binary("DIV", "normalize.div", value, np.array([255.0]), schema.DivOptionsT())
    if isinstance(module, Normalizing):
        mean, std = (part.detach().cpu().numpy().reshape(3) for part in (module.pixel_mean, module.pixel_std))
        value = graph.binary("SUB", "normalize.sub", value, mean, schema.SubOptionsT())
        value = graph.binary("DIV", "normalize.div_2", value, std, schema.DivOptionsT())
    return value


class _Graph:
    """Tensors and operators in the order in which they are added; a value is the number of its tensor.

    The arithmetic that `walk` computes a network with.
    """

    def __init__(self, network: ResNet, choices: LitertChoices, grids: Grids | None) -> None:
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # the first one is empty, for values that are computed
        self._codes: dict[tuple[int, int], int] = {}
        self._grids: Mapping[str, Grid] = {}
        self._layers: Mapping[str, Layer] = {}
        if choices.precision == "int8":
            if grids is None:
                raise InvalidInput("an int8 file needs the grids of its values. `cifar-export quantize` finds them.")
            self._grids, self._layers = grids.values, layers(network, grids)
        self._weights = folded(network)

    def tensor(self, name: str, shape: Sequence[int], kind: np.dtype[Any], numbers: NDArray[Any] | None = None) -> int:
        """A new tensor, with `numbers` a constant."""
        buffer = 0 if numbers is None else self._buffer(np.ascontiguousarray(numbers).tobytes())
        self._tensors.append(schema.TensorT(list(shape), KINDS[kind], buffer, name))
        return len(self._tensors) - 1

    def constant(self, name: str, numbers: NDArray[Any]) -> int:
        """A constant of the type that `numbers` have."""
        return self.tensor(name, numbers.shape, numbers.dtype, numbers)

    def shape(self, value: int) -> list[int]:
        found: list[int] = self._tensors[value].shape
        return found

    def add_operator(
        self, operator: str, name: str, inputs: list[int], shape: Sequence[int], kind: Any, options: Any
    ) -> int:
        """The value, called `name`, that a new operator makes of `inputs`."""
        output = self.tensor(name, shape, np.dtype(kind))
        number: int = getattr(schema.BuiltinOperator, operator)
        whole = any(self._tensors[value].type == schema.TensorType.INT8 for value in inputs)
        code = (number, _INT8_VERSIONS.get(operator, 1) if whole else 1)
        kind_of_options = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._operators.append(
            schema.OperatorT(
                opcodeIndex=self._codes.setdefault(code, len(self._codes)),
                inputs=inputs,
                outputs=[output],
                builtinOptionsType=kind_of_options,
                builtinOptions=options,
            )
        )
        return output

    def binary(self, operator: str, name: str, value: int, operand: NDArray[Any], options: Any) -> int:
        """`value` and a constant, in float32."""
        inputs = [value, self.constant(f"{name}.operand", operand.astype(np.float32))]
        return self.add_operator(operator, name, inputs, self.shape(value), np.float32, options)

    def layer(self, name: str, part: nn.Module, value: int) -> int:
        """The convolution or the classifier `part`, batch norm included."""
        if isinstance(part, nn.Conv2d):
            return self._conv(name, part, value)
        if self._layers:
            value = self.add_operator(
                "DEQUANTIZE",
                f"{name}.input",
                [value],
                self.shape(value),
                np.float32,
                schema.DequantizeOptionsT(),
            )
        weight, bias = self._float_weights(name)
        inputs = [value, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)]
        shape = [self.shape(value)[0], len(bias)]
        return self.add_operator("FULLY_CONNECTED", OUTPUT, inputs, shape, np.float32, schema.FullyConnectedOptionsT())

    def relu(self, value: int) -> int:
        """The same value: the operator that makes it lets no negative numbers through."""
        self._operators[-1].builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
        return value

    def add(self, value: int, other: int) -> int:
        """The sum."""
        return self.add_operator("ADD", "sum", [value, other], self.shape(value), self._kind, schema.AddOptionsT())

    def pool(self, value: int) -> int:
        """The mean of each channel, (batch, channels)."""
        axes = self.constant("avgpool.axes", np.array([1, 2], np.int32))
        batch, _, _, channels = self.shape(value)
        return self.add_operator("MEAN", "mean", [value, axes], [batch, channels], self._kind, schema.ReducerOptionsT())

    def settle(self, name: str, value: int) -> int:
        """The value called `name`; on its grid, if it has one."""
        grid = self._grids.get(name)
        if grid is not None and self._tensors[value].type == schema.TensorType.FLOAT32:
            name = f"{name}.steps"
            value = self.add_operator("QUANTIZE", name, [value], self.shape(value), np.int8, schema.QuantizeOptionsT())
        tensor = self._tensors[value]
        tensor.name = name
        if grid is not None:
            tensor.quantization = _quantization([grid.scale], [grid.zero - _STEP_OFFSET])
        return value

    def file(self, name: str, image: int, logits: int, metadata: Mapping[str, bytes]) -> bytes:
        """The whole model as a file."""
        tensors = self._tensors
        graph = schema.SubGraphT(tensors, [image], [logits], self._operators, "main")
        signature = schema.SignatureDefT(
            [schema.TensorMapT(tensors[image].name, image)],
            [schema.TensorMapT(tensors[logits].name, logits)],
            SIGNATURE,
        )
        entries = [schema.MetadataT(key, self._buffer(value)) for key, value in metadata.items()]
        codes = [schema.OperatorCodeT(min(number, 127), None, version, number) for number, version in self._codes]
        model = schema.ModelT(
            _VERSION, codes, [graph], name, self._buffers, metadata=entries, signatureDefs=[signature]
        )
        builder = _Builder()
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    @property
    def _kind(self) -> type[np.generic]:
        """Of the values between the layers."""
        return np.int8 if self._layers else np.float32

    def _buffer(self, data: bytes) -> int:
        self._buffers.append(schema.BufferT(np.frombuffer(data, np.uint8)))
        return len(self._buffers) - 1

    def _conv(self, name: str, part: nn.Conv2d, value: int) -> int:
        stride, around, kernel = part.stride[0], int(part.padding[0]), part.kernel_size[0]
        batch, height, width, _ = self.shape(value)
        same = stride == 1 and 2 * around == kernel - 1
        if around and not same:
            value = self._padded(name, value, around)
        weight, bias = self._whole_weights(name) if self._layers else self._constants(name, *self._float_weights(name))
        size = [(side + 2 * around - kernel) // stride + 1 for side in (height, width)]
        options = schema.Conv2DOptionsT(schema.Padding.SAME if same else schema.Padding.VALID, stride, stride)
        shape = [batch, *size, part.out_channels]
        return self.add_operator("CONV_2D", name, [value, weight, bias], shape, self._kind, options)

    def _padded(self, name: str, value: int, around: int) -> int:
        """`value` with zeros around its height and width, on the same grid."""
        sides = np.array([[0, 0], [around, around], [around, around], [0, 0]], np.int32)
        batch, height, width, channels = self.shape(value)
        shape = [batch, height + 2 * around, width + 2 * around, channels]
        inputs = [value, self.constant(f"{name}.pad.sides", sides)]
        padded = self.add_operator("PAD", f"{name}.pad", inputs, shape, self._kind, schema.PadOptionsT())
        self._tensors[padded].quantization = self._tensors[value].quantization
        return padded

    def _float_weights(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight and bias of that layer in float32; of an int8 network, the numbers that its steps stand for."""
        layer = self._layers.get(name)
        if layer is None:
            weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
            return weight.astype(np.float32), bias.astype(np.float32)
        scales = layer.scale.astype(np.float64)
        weight = layer.weight * scales.reshape(-1, *(1,) * (layer.weight.ndim - 1))
        return weight.astype(np.float32), (layer.bias * scales * layer.input.scale).astype(np.float32)

    def _constants(self, name: str, weight: NDArray[Any], bias: NDArray[Any]) -> tuple[int, int]:
        """Weight and bias of a convolution: (outputs, height, width, inputs), (outputs,)."""
        return (
            self.constant(f"{name}.weight", np.ascontiguousarray(weight.transpose(0, 2, 3, 1))),
            self.constant(f"{name}.bias", bias),
        )

    def _whole_weights(self, name: str) -> tuple[int, int]:
        """The same of an int8 network, as steps with their scales."""
        layer = self._layers[name]
        found = self._constants(name, layer.weight, layer.bias)
        scales = layer.scale if len(np.unique(layer.scale)) > 1 else layer.scale[:1]
        for tensor, steps in zip(found, (scales, scales * np.float32(layer.input.scale)), strict=True):
            self._tensors[tensor].quantization = _quantization(steps.tolist(), [0] * len(steps))
        return found


def _quantization(scales: list[float], zeros: list[int]) -> Any:
    return schema.QuantizationParametersT(scale=scales, zeroPoint=zeros)


class _Builder(flatbuffers.Builder):  # type: ignore[misc]
    """A builder that aligns weights, which the classes made of the schema forget."""

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802  the builder's name for it
        """See `flatbuffers.Builder`."""
        self.Prep(_ALIGNMENT, x.nbytes)
        offset: int = super().CreateNumpyVector(x)
        return offset
