"""ONNX files with data in other files, in every place that can hold a tensor, and files that are none.

Every checksum is right: only a look into the file tells.
"""

from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto

from support.hostile.case import NETWORK, Case, reseal

CASES: list[Case] = []

EXTERNAL = f"{NETWORK}/model.onnx: takes data from another file (external data)"
DAMAGED = f"{NETWORK}/model.onnx: damaged, or not an ONNX file"


def _model(name: str, change: Callable[[onnx.ModelProto], object], says: str = EXTERNAL) -> None:
    """A case with a changed model."""

    def make(release: Path) -> None:
        path = release / NETWORK / "model.onnx"
        model = onnx.load_model_from_string(path.read_bytes())
        change(model)
        path.write_bytes(model.SerializeToString())
        reseal(release)

    CASES.append(Case(f"onnx_{name}", make, says))


def _bytes(name: str, change: Callable[[bytes], bytes], says: str = DAMAGED, file: str = "model.onnx") -> None:
    """A case with other bytes."""

    def make(release: Path) -> None:
        path = release / NETWORK / file
        path.write_bytes(change(path.read_bytes()))
        reseal(release)

    CASES.append(Case(f"onnx_{name}", make, says))


def external(name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    return tensor


def _sparse() -> onnx.SparseTensorProto:
    sparse = onnx.SparseTensorProto(dims=[1])
    sparse.values.CopyFrom(external())
    return sparse


def _attribute(**fields: object) -> AttributeProto:
    return AttributeProto(name="value", **fields)


def _constant(attribute: AttributeProto) -> onnx.NodeProto:
    return onnx.NodeProto(op_type="Constant", output=["c"], attribute=[attribute])


def _graph(node: onnx.NodeProto) -> onnx.GraphProto:
    return onnx.GraphProto(name="inner", node=[node])


def _in_attribute(name: str, attribute: AttributeProto) -> None:
    _model(name, lambda model: model.graph.node.append(_constant(attribute)))


def _deep(levels: int) -> onnx.NodeProto:
    node = _constant(_attribute(t=external()))
    for _ in range(levels):
        node = _constant(_attribute(g=_graph(node)))
    return node


def _nested(levels: int) -> bytes:
    """A graph in a node in a graph and so on; onnx itself refuses to write that."""
    data = b""
    for _ in range(levels):
        for field in (6, 5, 1):  # g of AttributeProto, attribute of NodeProto, node of GraphProto
            size = len(data)
            data = bytes([field << 3 | 2, size & 0x7F | 0x80, size >> 7]) + data
    return bytes([7 << 3 | 2, len(data) & 0x7F | 0x80, len(data) >> 7]) + data


def _only_location(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def _only_path(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")


_model("external_initializer", lambda model: model.graph.initializer.append(external()))
_model("external_location_only", _only_location)
_model("external_path_only", _only_path)
_model("external_sparse_initializer", lambda model: model.graph.sparse_initializer.append(_sparse()))
_in_attribute("external_attribute", _attribute(t=external()))
_in_attribute("external_attribute_list", _attribute(tensors=[TensorProto(), external()]))
_in_attribute("external_sparse_attribute", _attribute(sparse_tensor=_sparse()))
_in_attribute("external_sparse_attribute_list", _attribute(sparse_tensors=[_sparse()]))
_in_attribute("external_in_subgraph", _attribute(g=onnx.GraphProto(initializer=[external()])))
_in_attribute("external_in_subgraph_list", _attribute(graphs=[_graph(_constant(_attribute(t=external())))]))
_model("external_in_nested_subgraphs", lambda model: model.graph.node.append(_deep(10)))
_model(
    "external_in_function",
    lambda model: model.functions.add(name="f", node=[_constant(_attribute(t=external()))]),
)
_model(
    "external_in_function_default",
    lambda model: model.functions.add(name="f", attribute_proto=[_attribute(t=external())]),
)
_model(
    "external_in_training",
    lambda model: model.training_info.add(initialization=onnx.GraphProto(initializer=[external()])),
)
_bytes(
    "external_in_a_second_graph",  # protobuf merges the two
    lambda data: data + onnx.ModelProto(graph=onnx.GraphProto(initializer=[external()])).SerializeToString(),
    EXTERNAL,
)
_bytes(
    "external_golden_vector",
    lambda data: data + external().SerializeToString(),
    f"{NETWORK}/test_data_set_0/input_0.pb: takes data from another file (external data)",
    "test_data_set_0/input_0.pb",
)
_bytes(
    "damaged_golden_vector",
    lambda data: data[:-1],
    f"{NETWORK}/uint8/test_data_set_0/output_0.pb: damaged, or not an ONNX file",
    "uint8/test_data_set_0/output_0.pb",
)
_bytes("too_deep", lambda data: data + _nested(50), f"{DAMAGED}: nested too deep")
_bytes("cut", lambda data: data[:-1])
_bytes("empty", lambda _: b"", f"{DAMAGED}: there is no graph in it")
_bytes("text", lambda _: b"hello, this is no model\n" * 100)
_bytes("zip", lambda _: b"PK\x03\x04" + bytes(100))
_bytes("endless_number", lambda data: data + b"\xff" * 11)
_bytes("field_zero", lambda data: data + b"\x00\x01")
_bytes("length_beyond_the_end", lambda data: data + b"\x3a\xff\xff\xff\xff\x0f")
_bytes("group", lambda data: data + b"\x3b\x3c")
_bytes("graph_that_is_a_number", lambda data: data + b"\x3d\x10\x01\x10\x01")
_bytes("many_fields", lambda data: data + b"\x08\x01" * 250_001, f"{DAMAGED}: too intricate")
