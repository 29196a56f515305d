"""`cifar-export formats`."""

from __future__ import annotations

import click

from ..formats import FORMATS
from ..runtimes import spec_of, why_missing
from .console import Command, echo_json
from .options import json_option


@click.command(cls=Command, examples=["cifar-export formats", "cifar-export formats --json"])
@json_option
def formats(as_json: bool) -> None:
    """List the file formats and where each is proved.

    Every format takes batches of any size, but C takes one image, LiteRT a fixed size and ExecuTorch 64 images at most;
    ONNX takes a fixed size, too. A new file
    is proved in the runtime that is named here; `cifar-export parity` runs it in all that read it.
    """
    known = [(spec, why_missing(spec.gate)) for spec in FORMATS.values()]
    if as_json:
        echo_json(
            [
                {
                    "command": spec.name,
                    "title": spec.title,
                    "suffix": spec.suffix,
                    "proved_in": spec.gate,
                    "precisions": list(spec.precisions),
                    "missing": str(missing) if missing else None,
                }
                for spec, missing in known
            ]
        )
        return
    from .tables import Column, table

    columns = [Column("command"), Column("suffix"), Column("proved in"), Column("precision"), Column("here", rank=1)]
    rows = [
        [
            spec.name,
            spec.suffix,
            spec_of(spec.gate).title,
            ", ".join(spec.precisions),
            "no: see doctor" if missing else "yes",
        ]
        for spec, missing in known
    ]
    table(None, columns, rows)
