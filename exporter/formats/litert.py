"""LiteRT, formerly TensorFlow Lite: one flatbuffer, written as it was asked for, metadata inside.

The classes that write and read it are LiteRT's own, so that its package is needed for either.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GateFailed, InvalidInput, first_line
from ..networks.zoo import IMAGE_SIZE, INPUT_VARIANTS, InputVariant
from ..runtimes import require_runtime
from ..system.outside import MAX_MODEL_BYTES, read_regular
from . import FileFacts, Request
from .litert_choices import LitertChoices, require_litert_choices
from .metadata import MAX_METADATA_BYTES, dumps, variant_of

if TYPE_CHECKING:
    from .onnx_choices import Layout

RUNTIME = "litert"
ENTRY = "cifar-export"
"""The name of our document among the model's metadata."""
_MOST_ENTRIES = 64  # of metadata that are looked through; files of others have two or three
_MOST_TENSORS = 100_000  # a network of 56 layers has 300


def serialize(request: Request) -> bytes:
    """The whole file. Raises `Unavailable` without LiteRT, `GateFailed` where the result is not what was asked for."""
    require_runtime(RUNTIME)
    choices = request.choices if isinstance(request.choices, LitertChoices) else LitertChoices()
    require_litert_choices(choices)
    from .litert_graph import litert_model

    name = f"{request.metadata['dataset']}_{request.metadata['model']}"
    entries = {ENTRY: dumps(request.metadata).encode()}
    data = litert_model(request.module, name, choices, request.grids, entries)
    facts = _facts(data)
    if (facts.variant, facts.choices, facts.metadata) != (request.variant, choices, request.metadata):
        raise GateFailed("the LiteRT file is not what was asked for. Nothing was written.")
    return data


def inspect(path: Path) -> FileFacts:
    """What the file says of itself, read without running it.

    Raises `InvalidInput` for a file that is no model or a damaged one, `Unavailable` without LiteRT.
    """
    require_runtime(RUNTIME)
    data = read_regular(path, MAX_MODEL_BYTES)
    # the bytes are anyone's: what the flatbuffers' classes raise on them is nowhere promised
    try:
        return _facts(data)
    except Exception as error:
        # of bytes that are missing struct speaks in its own words
        why = "its end is missing" if isinstance(error, struct.error) else first_line(error)
        damage = f"not a LiteRT file, or a damaged one ({why})"
        raise InvalidInput(f"{path}: {damage}. Export it again.") from error


def _facts(data: bytes) -> FileFacts:
    from ai_edge_litert import schema_py_generated as schema

    from .litert_graph import IDENTIFIER

    if data[4:8] != IDENTIFIER:
        raise ValueError("it does not begin as one")
    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    count = graph.TensorsLength()
    if not 0 < count <= _MOST_TENSORS:
        raise ValueError(f"it has {count:,} values")
    metadata = _metadata(model)
    whole = any(graph.Tensors(number).Type() == schema.TensorType.INT8 for number in range(count))
    variant, layout, batch = None, None, None
    if graph.InputsLength() == 1 and graph.OutputsLength() == 1:
        variant, layout, batch = _port(graph.Tensors(graph.Inputs(0)), metadata)
    choices = LitertChoices(batch or 1, layout or "nhwc", "int8" if whole else "float32")
    return FileFacts("litert", variant, metadata, choices=choices)


def _port(tensor: Any, metadata: dict[str, Any] | None) -> tuple[InputVariant | None, Layout | None, int | None]:
    """The input variant by type and shape, its layout and batch; None for a model with another input.

    Images normalized and images in 0..1 look alike: there our metadata decides, and a foreign file takes the former.
    """
    from .litert_graph import KINDS

    shape = [int(size) for size in tensor.ShapeAsNumpy()] if tensor.ShapeLength() == 4 else []
    layouts: dict[tuple[int, ...], Layout] = {(IMAGE_SIZE, IMAGE_SIZE, 3): "nhwc", (3, IMAGE_SIZE, IMAGE_SIZE): "nchw"}
    layout = layouts.get(tuple(shape[1:]))
    kinds = {KINDS[np.dtype(np.uint8)]: ("uint8",), KINDS[np.dtype(np.float32)]: ("float32", "unit")}
    fitting = kinds.get(tensor.Type(), ())
    if layout is None or shape[0] < 1 or (layout == "nchw" and "uint8" in fitting):
        return None, None, None
    said = variant_of(metadata)
    known = [variant for variant in INPUT_VARIANTS if variant in fitting]
    return (said if said in known else next(iter(known), None)), layout, shape[0]


def _metadata(model: Any) -> dict[str, Any] | None:
    """Our document; None where there is none."""
    for number in range(min(model.MetadataLength(), _MOST_ENTRIES)):
        entry = model.Metadata(number)
        if entry.Name() == ENTRY.encode():
            text = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
            if len(text) > MAX_METADATA_BYTES:
                raise ValueError(f"its metadata has more than {MAX_METADATA_BYTES:,} bytes")
            document = json.loads(text)
            return document if isinstance(document, dict) else None
    return None
