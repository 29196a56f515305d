"""ONNX: one file, written as it was asked for, in the lowest IR for its opset, metadata inside."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from ..errors import GateFailed, InvalidInput, first_line
from ..networks.zoo import INPUT_VARIANTS, InputVariant
from ..system.outside import MAX_MODEL_BYTES, read_regular
from ..system.version import __version__
from . import FileFacts, Request
from .metadata import contradictions, variant_of
from .onnx_choices import LAYOUTS, PORT_TYPES, Layout, OnnxChoices, PortType, require_choices
from .onnx_graph import onnx_model, read_choices
from .onnx_graph import serialize as to_bytes
from .ports import BATCH, ONNX_FLOATS, OUTPUT, input_port

# https://github.com/onnx/onnx/blob/main/docs/MetadataProps.md; no value exists there for mean/std-normalized input
IMAGE_METADATA = {
    "Image.BitmapPixelFormat": "Rgb8",
    "Image.ColorSpaceGamma": "SRGB",
    "Image.NominalPixelRange": "NominalRange_0_255",
}
# https://github.com/onnx/onnx/blob/main/docs/DimensionDenotation.md, in NHWC order
_DENOTATIONS = ("DATA_BATCH", "DATA_FEATURE", "DATA_FEATURE", "DATA_CHANNEL")
_JSON_KEYS = ("labels", "mean", "std", "schema", "choices", "weights_changes", "quantization")


def serialize(request: Request) -> bytes:
    """The whole file. Raises `GateFailed` where the result is not what was asked for."""
    choices = request.choices if isinstance(request.choices, OnnxChoices) else OnnxChoices()
    require_choices(choices, request.variant)
    name = f"{request.metadata['dataset']}_{request.metadata['model']}"
    model = onnx_model(request.module, name, choices, request.grids)
    model.producer_name, model.producer_version = "cifar-export", __version__
    properties = _to_properties(request.metadata)
    if request.variant == "uint8":
        properties |= IMAGE_METADATA
        _denote(model.graph.input[0])
    helper.set_model_props(model, dict(sorted(properties.items())))
    data = to_bytes(model)
    _check(onnx.load_model_from_string(data), request, choices)
    return data


def inspect(path: Path) -> FileFacts:
    """Opset, IR version, input variant and metadata of an ONNX file. Raises `InvalidInput` for anything else."""
    try:
        model = onnx.load_model_from_string(read_regular(path, MAX_MODEL_BYTES))
    except DecodeError as error:
        raise InvalidInput(f"{path}: not an ONNX file, or a damaged one. Export it again.") from error
    if any(isinstance(text, bytes) for entry in model.metadata_props for text in (entry.key, entry.value)):
        raise InvalidInput(f"{path}: its metadata is damaged (not UTF-8). Export it again.")
    if not model.graph.node or len(model.graph.output) != 1:
        raise InvalidInput(f"{path}: an ONNX file without a graph that has one output. Export it again.")
    metadata = _from_properties(model)
    return FileFacts("onnx", _variant(model, metadata), metadata, model.ir_version, read_choices(model))


def _check(model: onnx.ModelProto, request: Request, choices: OnnxChoices) -> None:
    """Read the finished file back: everything that was asked for must be in it."""
    problems = []
    delivered = [(entry.domain, entry.version) for entry in model.opset_import]
    if delivered != [("", choices.opset)]:
        problems.append(f"opsets {delivered}, not {choices.opset}")
    if model.ir_version != helper.find_min_ir_version_for(list(model.opset_import)):
        problems.append(f"IR version {model.ir_version} is not the lowest for opset {choices.opset}")
    written = read_choices(model).as_dict()
    problems += [
        f"{name.replace('_', ' ')} {written[name]}, not {asked}"
        for name, asked in choices.as_dict().items()
        if written[name] != asked
    ]
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        problems.append("weights outside the file")
    port = input_port(request.variant).signature(choices.batch, choices.layout, choices.io)
    if len(model.graph.input) != 1 or _signature(model.graph.input[0]) != port:
        problems.append("another input than the contract's")
    expected = (OUTPUT, ONNX_FLOATS[choices.io], (choices.batch or BATCH, request.classes))
    if len(model.graph.output) != 1 or _signature(model.graph.output[0]) != expected:
        problems.append("another output than the contract's")
    problems += contradictions(_from_properties(model) or {}, request.metadata)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        problems.append(f"onnx.checker: {first_line(error)}")
    if problems:
        raise GateFailed(f"the ONNX file is not what was asked for: {'; '.join(problems)}. Nothing was written.")


def _signature(value: onnx.ValueInfoProto) -> tuple[str, int, tuple[int | str, ...]]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)


def _variant(model: onnx.ModelProto, metadata: dict[str, Any] | None) -> InputVariant | None:
    """The input variant by type and shape, or None for a model with another input.

    Images normalized and images in 0..1 look alike: there our metadata decides, and a foreign file takes the former.
    """
    inputs = [value for value in model.graph.input if value.name not in {t.name for t in model.graph.initializer}]
    if len(inputs) != 1:
        return None
    _, elem_type, shape = _signature(inputs[0])
    return variant_by(elem_type, shape, metadata)


def variant_by(elem_type: int, shape: tuple[int | str, ...], metadata: Mapping[str, Any] | None) -> InputVariant | None:
    """The input variant that has that type (of `TensorProto`) and shape, batch included; None for another input."""
    fitting = [
        variant
        for variant in INPUT_VARIANTS
        for layout in LAYOUTS
        for io in PORT_TYPES
        if (elem_type, shape[1:]) == _type_and_image(variant, layout, io)
    ]
    said = variant_of(metadata)
    return said if said in fitting else next(iter(fitting), None)


def _type_and_image(variant: InputVariant, layout: Layout, io: PortType) -> tuple[int, tuple[int | str, ...]]:
    _, elem_type, shape = input_port(variant).signature(layout="nchw" if variant == "uint8" else layout, io=io)
    return elem_type, shape[1:]


def _denote(value: onnx.ValueInfoProto) -> None:
    value.type.denotation = "IMAGE"
    for dim, denotation in zip(value.type.tensor_type.shape.dim, _DENOTATIONS, strict=True):
        dim.denotation = denotation


def _to_properties(metadata: dict[str, Any]) -> dict[str, str]:
    return {key: json.dumps(value) if key in _JSON_KEYS else str(value) for key, value in metadata.items()}


def _from_properties(model: onnx.ModelProto) -> dict[str, Any] | None:
    return from_properties((entry.key, entry.value) for entry in model.metadata_props)


def from_properties(pairs: Iterable[tuple[str, str]]) -> dict[str, Any] | None:
    """Our metadata document by the properties of a model; None where it has none of ours."""
    properties = {key: value for key, value in pairs if not re.match(r"Image\.", key)}
    if "schema" not in properties or "weights_sha256" not in properties:
        return None
    return {key: _parsed(value) if key in _JSON_KEYS else value for key, value in properties.items()}


def _parsed(value: str) -> Any:
    """The JSON value; damaged text as it is, which then contradicts what is expected."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
