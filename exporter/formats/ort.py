"""ONNX Runtime's own format: one FlatBuffer, for its mobile packages and for builds with few operators.

It is what ONNX Runtime makes of our ONNX file with its fusions that hold on every machine. Not those above: their
layout of weights is that of the processor which wrote the file. No float16, either: where the processor has no kernels
for it, ONNX Runtime writes casts to float32 into the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import GateFailed, InvalidInput
from ..networks.zoo import InputVariant
from ..runtimes import require_runtime
from ..runtimes.onnxruntime import save_ort
from ..system.outside import MAX_MODEL_BYTES, read_regular
from . import FileFacts, Request, onnx
from .onnx_choices import OnnxChoices
from .ort_buffer import Table, canonical, read

RUNTIME = "onnxruntime-ort"
OPERATORS = ".required_operators.config"
_GRIDS = "QuantizeLinear"  # the operator that files in int8 have before all others


def serialize(request: Request) -> bytes:
    """The whole file, metadata inside. Raises `Unavailable` without ONNX Runtime, `GateFailed` for one too new."""
    require_runtime(RUNTIME)
    model = onnx.serialize(replace(request, choices=request.choices or OnnxChoices()))
    with tempfile.TemporaryDirectory(prefix="cifar-export-") as folder:
        path = Path(folder) / "model.ort"
        save_ort(model, path)
        data = path.read_bytes()
    try:
        return canonical(data)
    except ValueError as error:
        raise GateFailed(f"this ONNX Runtime writes files as no version known here does: {error}.") from error


def inspect(path: Path) -> FileFacts:
    """Opset, IR version, input variant and metadata of the file. Raises `InvalidInput` for anything else."""
    data = read_regular(path, MAX_MODEL_BYTES)
    try:
        model = _part(read(data), "model")
        graph = _part(model, "graph")
        pairs = [(entry.get("key") or "", entry.get("value") or "") for entry in model.get("metadata_props") or ()]
        metadata = onnx.from_properties(pairs)
        versions = {entry.get("domain"): entry.get("version") for entry in model.get("opset_import") or ()}
        int8 = any(node.get("op_type") == _GRIDS for node in graph.get("nodes") or ())
        variant = _variant(graph, metadata)
    except ValueError as error:
        raise InvalidInput(
            f"{path}: not a file of ONNX Runtime's format, or damaged ({error}). Export it again."
        ) from error
    choices = OnnxChoices(opset=versions.get("") or 0, precision="int8" if int8 else "float32")
    return FileFacts("ort", variant, metadata, model.get("ir_version"), choices)


def companions(data: bytes) -> dict[str, bytes]:
    """The operators that a build of ONNX Runtime needs to run the file, in the form that its `build.sh` reads.

    By the ending of the name. Raises `ValueError` for what is no such file.
    """
    model = _part(read(data), "model")
    needed: dict[tuple[str, int], set[str]] = {}
    for node in _part(model, "graph").get("nodes") or ():
        place = (node.get("domain") or "ai.onnx", node.get("since_version") or 0)
        needed.setdefault(place, set()).add(node.get("op_type") or "")
    names = {entry.get("key"): entry.get("value") for entry in model.get("metadata_props") or ()}
    lines = [f"# {names.get('dataset')}_{names.get('model')}, {names.get('input')} input"]
    lines += [f"{domain};{version};{','.join(sorted(needed[domain, version]))}" for domain, version in sorted(needed)]
    return {OPERATORS: "".join(f"{line}\n" for line in lines).encode()}


def _part(table: Table, field: str) -> Table:
    found = table.get(field)
    if found is None:
        raise ValueError(f"it has no {field.replace('_', ' ')}")
    return found  # type: ignore[no-any-return]


def _variant(graph: Table, metadata: Mapping[str, Any] | None) -> InputVariant | None:
    """The input variant by type and shape, as of an ONNX file."""
    inputs = graph.get("inputs") or []
    if len(inputs) != 1:
        return None
    for value in graph.get("node_args") or ():
        if value.get("name") == inputs[0]:
            tensor = _part(_part(value, "type"), "value")
            sizes = [_part(dim, "value") for dim in _part(tensor, "shape").get("dim") or ()]
            shape = tuple(size.get("dim_param") or size.get("dim_value") or 0 for size in sizes)
            return onnx.variant_by(tensor.get("elem_type") or 0, shape, metadata)
    return None
