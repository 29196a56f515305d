"""TorchScript: a traced module that C++ loads with `torch::jit::load` and moves to any device.

Traced, because a scripted module keeps source comments; not frozen, because a frozen module cannot be moved to
another device or type by its user.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from ..errors import GateFailed
from ..system.torch_state import tracing
from . import FileFacts, Request
from .archive import canonical_archive
from .metadata import EXTRA_FILE, dumps, read_archive_metadata, variant_of
from .ports import example
from .reduced_torch import in_precision
from .torch_choices import read_torch_choices


@tracing()
def serialize(request: Request) -> bytes:
    """The whole file, metadata and labels inside as the extra file `metadata.json`."""
    buffer = io.BytesIO()  # a path would put its stem into the file
    # no torch functions of Python's: with a mode of the caller's (a default device) a trace names values otherwise
    with torch.no_grad(), torch._C.DisableTorchFunction():
        # check_trace would run the trace once more; parity runs it far more thoroughly
        traced = torch.jit.trace(in_precision(request), (example(request.variant),), check_trace=False)
        _refuse_tf32(traced)
        torch.jit.save(traced, buffer, _extra_files={EXTRA_FILE: dumps(request.metadata)})
    return canonical_archive(buffer.getvalue())


def _refuse_tf32(traced: Any) -> None:
    """Raise `GateFailed` where a convolution may use TF32 on CUDA, which its user could not turn off any more."""
    graph = traced.inlined_graph  # its nodes live as long as it does
    for node in graph.findAllNodes("aten::_convolution"):
        allowed = list(node.inputs())[-1].toIValue()  # the last argument is `allow_tf32`
        if allowed is not False:
            raise GateFailed("the trace allows TF32 in a convolution. Leave torch's settings alone meanwhile.")


def inspect(path: Path) -> FileFacts:
    """What the file says of itself, read without loading it: a TorchScript file is code."""
    metadata = read_archive_metadata(path)
    return FileFacts("torchscript", variant_of(metadata), metadata, choices=read_torch_choices(metadata))
