"""`cifar-export formats`."""

from __future__ import annotations

import click

from ..formats import FORMATS, missing_library
from ..runtimes import why_missing
from .console import Command, echo_json
from .options import json_option


@click.command(cls=Command, examples=["cifar-export formats", "cifar-export formats --json"])
@json_option
def formats(as_json: bool) -> None:
    """List the file formats and where each is proved.

    MB is the size of cifar10_resnet20 with pixels as input, in float32.
    A new file is proved in the runtime that is named here; `cifar-export parity` runs it in all that read it. A format
    with an extra needs `pip install 'cifar-export[EXTRA]'`; `cifar-export doctor` says what else is missing here.
    """
    known = [(spec, missing_library(spec) or why_missing(spec.gate)) for spec in FORMATS.values()]
    if as_json:
        echo_json(
            [
                {
                    "command": spec.name,
                    "title": spec.title,
                    "suffix": spec.suffix,
                    "proved_in": spec.gate,
                    "batch": spec.batch,
                    "megabytes": spec.megabytes,
                    "precisions": list(spec.precisions),
                    "extra": spec.extra,
                    "beside": list(spec.beside),
                    "missing": str(missing) if missing else None,
                }
                for spec, missing in known
            ]
        )
        return
    from .tables import Column, table

    columns = [
        Column("command"),
        Column("suffix", rank=2),
        Column("proved in"),
        Column("batch", rank=4),
        Column("MB", rank=3, right=True),
        Column("precision", rank=1),
        Column("extra"),
        Column("here"),
    ]
    rows = [
        [
            spec.name,
            spec.suffix,
            spec.gate,
            spec.batch,
            f"{spec.megabytes:.2f}" if spec.megabytes else None,
            ", ".join(spec.precisions),
            spec.extra,
            "no" if missing else "yes",
        ]
        for spec, missing in known
    ]
    table(None, columns, rows)
