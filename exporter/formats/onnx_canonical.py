"""Rebuild an ONNX model so that its bytes depend on the network only.

PyTorch's exporters write absolute source paths, counters and their own version into the file, and name values by
chance. Here a new model is built from what matters (operators, attributes, weights), with names that say where in
the network a value is made: `layer2.0.conv1` is the output of that convolution (batch norm folded in),
`layer2.0.conv1.relu` what follows, `layer2.0.add` and `layer2.0.relu` the end of the block. Whatever is not copied
on purpose is gone.
"""

from __future__ import annotations

import re

import onnx
from onnx import helper, numpy_helper

from ..errors import GateFailed

# Operators by the name of what they make outside a convolution or linear layer.
_PLAIN_NAMES = {
    "Transpose": "channels_first",
    "Cast": "pixels",
    "GlobalAveragePool": "avgpool",
    "ReduceMean": "avgpool",
    "Flatten": "flatten",
    "Reshape": "flatten",
}
_OPERANDS = {
    "Conv": ("input", "weight", "bias"),
    "Gemm": ("input", "weight", "bias"),
    "ReduceMean": ("input", "axes"),
    "Reshape": ("input", "shape"),
}
# Attributes that say what the operator's default says; exporters differ in writing them.
_DEFAULTS: dict[str, object] = {"auto_pad": b"NOTSET", "allowzero": 0, "noop_with_empty_axes": 0, "transA": 0}
_LAYERS = ("Conv", "Gemm")


def canonicalize(model: onnx.ModelProto, *, opset: int, name: str) -> onnx.ModelProto:
    """A new model with the same function as `model`, canonical names and order, and nothing else in it.

    The graph's input and output names are kept. Raises `GateFailed` where `model` has another default opset than
    `opset`, or operators of other domains: asked is delivered.
    """
    domains = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    used = {node.domain or "ai.onnx" for node in model.graph.node}
    if domains.get("ai.onnx") != opset or used - {"ai.onnx"} or model.functions:
        found = ", ".join(f"{domain} {version}" for domain, version in sorted(domains.items()))
        raise GateFailed(f"asked for opset {opset}, the exporter delivered {found}. Choose another --opset.")

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    renamed = {value.name: value.name for value in model.graph.input}
    outputs = {value.name for value in model.graph.output}
    initializers: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []
    taken: set[str] = set(renamed) | outputs
    for node in model.graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].HasField("t"):
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            continue
        label = _unused(_label(node, renamed), taken)
        operands = _OPERANDS.get(node.op_type, ("input", "operand"))
        inputs = []
        for position, source in enumerate(node.input):
            if source in constants:
                constant = f"{label}.{operands[position]}"
                initializers[constant] = numpy_helper.from_array(constants[source], constant)
                inputs.append(constant)
            else:
                inputs.append(renamed[source] if source else "")
        results = []
        for result in node.output:
            renamed[result] = result if result in outputs else label
            results.append(renamed[result])
        rebuilt = helper.make_node(node.op_type, inputs, results, name=label)
        rebuilt.attribute.extend(sorted((_clean(a) for a in node.attribute if not _is_default(a)), key=_by_name))
        nodes.append(rebuilt)

    graph = helper.make_graph(
        nodes,
        name,
        [_port(value) for value in model.graph.input if value.name not in constants],
        [_port(value) for value in model.graph.output],
        list(initializers.values()),
    )
    opsets = [helper.make_opsetid("", opset)]
    # the lowest IR that knows the opset: every reader that can run the operators can open the file
    return helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))


def serialize(model: onnx.ModelProto) -> bytes:
    """The model's bytes, map entries in a fixed order."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _label(node: onnx.NodeProto, renamed: dict[str, str]) -> str:
    """Where in the network `node` stands."""
    if node.op_type in _LAYERS:
        return _layer(node)
    source = renamed.get(node.input[0], "") if node.input else ""
    if node.op_type == "Add":  # the end of a block: one operand is the block's conv2
        block = next(
            (renamed[i].removesuffix(".conv2") for i in node.input if renamed.get(i, "").endswith(".conv2")), ""
        )
        return f"{block}.add" if block else "add"
    if node.op_type == "Relu":
        return f"{source.removesuffix('.add')}.relu"
    return _PLAIN_NAMES.get(node.op_type, f"normalize.{node.op_type.lower()}")


def _layer(node: onnx.NodeProto) -> str:
    """Module path of a convolution or linear layer: `layer2.0.downsample.0`.

    The torch.export-based exporter keeps it in the weight's name, the TorchScript-based one in the node's
    (`/network/layer2/layer2.0/downsample/downsample.0/Conv`).
    """
    if node.input[1].endswith(".weight"):
        path = str(node.input[1]).removesuffix(".weight")
    else:
        scopes = [scope for scope in node.name.split("/") if scope][:-1]
        # a scope that the next one repeats as its prefix is its container
        kept = [s for s, following in zip(scopes, [*scopes[1:], ""], strict=True) if not following.startswith(f"{s}.")]
        path = ".".join(kept)
    return path.removeprefix("network.")


def _unused(label: str, taken: set[str]) -> str:
    candidate, count = label, 2
    while candidate in taken:
        candidate, count = f"{label}_{count}", count + 1
    taken.add(candidate)
    return candidate


def _is_default(attribute: onnx.AttributeProto) -> bool:
    return attribute.name in _DEFAULTS and helper.get_attribute_value(attribute) == _DEFAULTS[attribute.name]


def _clean(attribute: onnx.AttributeProto) -> onnx.AttributeProto:
    copy = onnx.AttributeProto()
    copy.CopyFrom(attribute)
    copy.ClearField("doc_string")
    return copy


def _by_name(attribute: onnx.AttributeProto) -> str:
    return attribute.name


def _port(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """A graph input or output with its type only; the batch dimension is called `batch`."""
    tensor = value.type.tensor_type
    shape = [dim.dim_value if dim.HasField("dim_value") else "batch" for dim in tensor.shape.dim]
    return helper.make_tensor_value_info(re.sub(r"\W", "_", value.name), tensor.elem_type, shape)
