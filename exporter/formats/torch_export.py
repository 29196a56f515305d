"""torch.export: the graph as `.pt2`, dynamic in the batch, for `torch.export.load` and AOTInductor."""

from __future__ import annotations

import io
from pathlib import Path

import torch
import torch._dynamo.exc  # later, inside the exporter, Ctrl-C would leave it half imported and end in an AttributeError

from ..system.torch_state import tracing
from . import FileFacts, Request
from .archive import canonical_archive
from .metadata import EXTRA_FILE, dumps, read_archive_metadata, variant_of
from .ports import BATCH, example
from .reduced_torch import in_precision
from .torch_choices import read_torch_choices

# What the graph's nodes remember of the source that made them: absolute paths, line numbers, object ids.
_SOURCE_KEYS = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn")


@tracing()
def serialize(request: Request) -> bytes:
    """The whole file, metadata and labels inside as the extra file `metadata.json`."""
    program = torch.export.export(
        in_precision(request), (example(request.variant),), dynamic_shapes=({0: torch.export.Dim(BATCH)},)
    )
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in _SOURCE_KEYS:
                    node.meta.pop(key, None)
    # Example inputs are saved as a pickle, which torch.export.load would have to trust.
    program._example_inputs = None
    buffer = io.BytesIO()  # a path would put its stem into the file
    torch.export.save(program, buffer, extra_files={EXTRA_FILE: dumps(request.metadata)})
    return canonical_archive(buffer.getvalue())


def inspect(path: Path) -> FileFacts:
    """What the file says of itself, read without loading it: a `.pt2` may hold pickles."""
    metadata = read_archive_metadata(path)
    return FileFacts("torch-export", variant_of(metadata), metadata, choices=read_torch_choices(metadata))
