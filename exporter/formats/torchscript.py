"""TorchScript: a traced module that C++ loads with `torch::jit::load` and moves to any device.

Traced, because a scripted module keeps source comments; not frozen, because a frozen module cannot be moved to
another device or type by its user.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

from ..system.torch_state import tracing
from . import FileFacts, Request
from .archive import canonical_archive
from .metadata import EXTRA_FILE, dumps, read_archive_metadata, variant_of
from .ports import example


@tracing()
def serialize(request: Request) -> bytes:
    """The whole file, metadata and labels inside as the extra file `metadata.json`."""
    buffer = io.BytesIO()  # a path would put its stem into the file
    # no torch functions of Python's: with a mode of the caller's (a default device) a trace names values otherwise
    with torch.no_grad(), torch._C.DisableTorchFunction():
        # check_trace would run the trace once more; parity runs it far more thoroughly
        traced = torch.jit.trace(request.module, (example(request.variant),), check_trace=False)
        torch.jit.save(traced, buffer, _extra_files={EXTRA_FILE: dumps(request.metadata)})
    return canonical_archive(buffer.getvalue())


def inspect(path: Path) -> FileFacts:
    """What the file says of itself, read without loading it: a TorchScript file is code."""
    metadata = read_archive_metadata(path)
    return FileFacts("torchscript", variant_of(metadata), metadata)
