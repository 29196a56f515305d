"""The FlatBuffers of ONNX Runtime's own format (`.ort`): read field by field, and written anew in one order.

ONNX Runtime's writer puts the entries of its kernel table (`op_kernel_type_str_args`) in the order of a hash map whose
seed is another in every process, and other entries in that of maps whose order is the C++ library's. Here everything
that is a set is sorted, so that the bytes depend on the content alone.

Schema: https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/flatbuffers/schema/ort.fbs
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

IDENTIFIER = b"ORTM"
MAX_ITEMS = 100_000
"""Of a vector that is read of a stranger's file; a network's longest has some 700."""
MAX_TEXT = 1 << 20
"""Bytes of a string that is read of a stranger's file."""
_RAW_ALIGNMENT = 16

# Fields in the order of the schema. `[…]` is a vector, `!` what no file of ours has: written anew it would be lost.
_TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    name: tuple((field, kind) for field, _, kind in (word.partition(":") for word in fields.split()))
    for name, fields in {
        "InferenceSession": "ort_version:string model:Model session_state:! kernel_type_str_resolver:Resolver",
        "Model": "ir_version:int64 opset_import:[OperatorSetId] producer_name:string producer_version:string "
        "domain:string model_version:int64 doc_string:string graph:Graph graph_doc_string:string "
        "metadata_props:[StringStringEntry]",
        "OperatorSetId": "domain:string version:int64",
        "StringStringEntry": "key:string value:string",
        "Graph": "initializers:[Tensor] node_args:[ValueInfo] nodes:[Node] max_node_index:uint32 "
        "node_edges:[NodeEdge] inputs:[string] outputs:[string] sparse_initializers:[!] runtime_optimizations:!",
        "Tensor": "name:string doc_string:string dims:[int64] data_type:int32 raw_data:[uint8] string_data:[string] "
        "external_data_offset:!",
        "ValueInfo": "name:string doc_string:string type:TypeInfo",
        "TypeInfo": "denotation:string value_type:uint8 value:TensorTypeAndShape",
        "TensorTypeAndShape": "elem_type:int32 shape:Shape",
        "Shape": "dim:[Dimension]",
        "Dimension": "value:DimensionValue denotation:string",
        "DimensionValue": "dim_type:int8 dim_value:int64 dim_param:string",
        "Node": "name:string doc_string:string domain:string since_version:int32 index:uint32 op_type:string "
        "type:int32 execution_provider_type:string inputs:[string] outputs:[string] attributes:[Attribute] "
        "input_arg_counts:[int32] implicit_inputs:[string]",
        "NodeEdge": "node_index:uint32 input_edges:[EdgeEnd] output_edges:[EdgeEnd]",
        "Attribute": "name:string doc_string:string type:int32 f:float32 i:int64 s:string t:Tensor g:! "
        "floats:[float32] ints:[int64] strings:[string] tensors:[!] graphs:[!]",
        "Resolver": "op_kernel_type_str_args:[OpArgs]",
        "OpArgs": "op_id:string kernel_type_str_args:[KernelArgs]",
        "KernelArgs": "kernel_type_str:string args:[ArgTypeAndIndex]",
        "ArgTypeAndIndex": "arg_type:int8 index:uint32",
    }.items()
}
_SCALARS = {"int8": "<b", "uint8": "<B", "int32": "<i", "uint32": "<I", "int64": "<q", "float32": "<f"}
_STRUCTS = {"EdgeEnd": "<Iii"}
# vectors whose order says nothing, and what they are sorted by
_SORTED = {
    "OperatorSetId": "domain",
    "StringStringEntry": "key",
    "Tensor": "name",
    "ValueInfo": "name",
    "Attribute": "name",
    "OpArgs": "op_id",
    "KernelArgs": "kernel_type_str",
}
_TENSOR_TYPE = 1  # of the union in TypeInfo


class Table:
    """A table of that kind at `at` in `data`, which may be anyone's: what does not fit raises `ValueError`."""

    def __init__(self, data: bytes, at: int, kind: str) -> None:
        self._data, self._at, self._kind = data, at, kind
        self._places = at - self._number("<i", at)
        self._count = (self._number("<H", self._places) - 4) // 2

    def get(self, field: str) -> Any:
        """A number, text, a `Table`, or a list of one of these; None where the field is absent, which [] is not."""
        slot, kind = next((i, kind) for i, (name, kind) in enumerate(_TABLES[self._kind]) if name == field)
        offset = self._offset(slot)
        if not offset:
            return None
        place = self._at + offset
        if kind in _SCALARS:
            return self._number(_SCALARS[kind], place)
        if not kind.startswith("["):
            return self._item(kind, place)
        return list(self._items(kind[1:-1], place))

    def unpacked(self) -> dict[str, Any]:
        """All of it, each table as a dict. Raises `ValueError` for fields that are not in the schema above."""
        if any(map(self._offset, range(len(_TABLES[self._kind]), self._count))):
            raise ValueError(f"{self._kind} has fields that are not known")
        return {field: _unpacked(self.get(field)) for field, _ in _TABLES[self._kind]}

    def _offset(self, slot: int) -> int:
        """Where the field in that slot stands, from the table's own place; 0 where it is absent."""
        found: int = self._number("<H", self._places + 4 + 2 * slot) if slot < self._count else 0
        return found

    def _item(self, kind: str, place: int) -> Any:
        """What the offset at `place` leads to."""
        there = place + self._number("<I", place)
        if kind == "string":
            size = self._number("<I", there)
            if size > MAX_TEXT or there + 4 + size > len(self._data):
                raise ValueError("a text that does not fit")
            return self._data[there + 4 : there + 4 + size].decode()
        if kind == "!":
            raise ValueError(f"{self._kind} has what no file of ours has")
        if self._kind == "TypeInfo" and self.get("value_type") != _TENSOR_TYPE:
            raise ValueError("a value that is no tensor")
        return Table(self._data, there, kind)

    def _items(self, kind: str, place: int) -> Iterator[Any]:
        start = place + self._number("<I", place)
        count, start = self._number("<I", start), start + 4
        form = _SCALARS.get(kind) or _STRUCTS.get(kind)
        width = struct.calcsize(form) if form else 4
        if start + count * width > len(self._data) or (count > MAX_ITEMS and kind != "uint8"):
            raise ValueError("a list that does not fit")
        if kind == "uint8":
            yield self._data[start : start + count]
            return
        for at in range(start, start + count * width, width):
            if form:
                values = struct.unpack_from(form, self._data, at)
                yield values if kind in _STRUCTS else values[0]
            else:
                yield self._item(kind, at)

    def _number(self, form: str, at: int) -> Any:
        if not 0 <= at <= len(self._data) - struct.calcsize(form):
            raise ValueError("an offset that leads out of the file")
        return struct.unpack_from(form, self._data, at)[0]


def read(data: bytes) -> Table:
    """The root of a file. Raises `ValueError` where it is none."""
    if data[4:8] != IDENTIFIER:
        raise ValueError("it does not begin as one")
    return Table(data, int.from_bytes(data[:4], "little"), "InferenceSession")


def canonical(data: bytes) -> bytes:
    """The same model in bytes that depend on nothing but what it says.

    Raises `ValueError` for what the schema above does not know: it would be lost.
    """
    import flatbuffers

    builder = flatbuffers.Builder(len(data) + 1024)
    builder.Finish(_write(builder, "InferenceSession", read(data).unpacked()), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _unpacked(value: Any) -> Any:
    if isinstance(value, Table):
        return value.unpacked()
    return [_unpacked(item) for item in value] if isinstance(value, list) else value


def _write(builder: Any, kind: str, table: dict[str, Any]) -> int:
    """Write a table after what it leads to; where it stands."""
    children = {}
    for field, of in _TABLES[kind]:
        value = table[field]
        if value is not None and of not in _SCALARS:
            write = _write_vector if of.startswith("[") else _write_item
            children[field] = write(builder, of.strip("[]"), value)
    builder.StartObject(len(_TABLES[kind]))
    # the widest first, so that few bytes are for alignment
    fields = sorted(enumerate(_TABLES[kind]), key=lambda item: -_width(item[1][1]))
    for slot, (field, of) in fields:
        if field in children:
            builder.PrependUOffsetTRelative(children[field])
            builder.Slot(slot)
        elif of in _SCALARS and table[field] is not None:
            builder.Prepend(_flags(of), table[field])
            builder.Slot(slot)
    place: int = builder.EndObject()
    return place


def _write_item(builder: Any, kind: str, value: Any) -> int:
    if kind == "string":
        shared: int = builder.CreateSharedString(value)
        return shared
    return _write(builder, kind, value)


def _write_vector(builder: Any, kind: str, values: list[Any]) -> int:
    if kind == "uint8":
        (data,) = values
        builder.StartVector(1, len(data), _RAW_ALIGNMENT)
        builder.head = builder.head - len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
    elif kind in _STRUCTS:
        builder.StartVector(struct.calcsize(_STRUCTS[kind]), len(values), 4)
        for value in reversed(values):
            packed = struct.pack(_STRUCTS[kind], *value)
            builder.head = builder.head - len(packed)
            builder.Bytes[builder.head : builder.head + len(packed)] = packed
    elif kind in _SCALARS:
        builder.StartVector(_width(kind), len(values), _width(kind))
        for value in reversed(values):
            builder.Prepend(_flags(kind), value)
    else:
        if kind in _SORTED:
            values = sorted(values, key=lambda table: table[_SORTED[kind]] or "")
        places = [_write_item(builder, kind, value) for value in values]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
    vector: int = builder.EndVector()
    return vector


def _width(kind: str) -> int:
    """Bytes of a field."""
    return struct.calcsize(_SCALARS[kind]) if kind in _SCALARS else 4


def _flags(kind: str) -> Any:
    from flatbuffers import number_types

    return getattr(number_types, f"{kind.capitalize()}Flags")
