"""`cifar-export doctor`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..errors import Unavailable
from .console import Command, echo_json
from .options import data_dir_option, json_option, wide_option


@click.command(cls=Command, examples=["cifar-export doctor", "cifar-export doctor --wide"])
@data_dir_option
@wide_option
@json_option
def doctor(data_dir: Path, wide: bool, as_json: bool) -> None:
    """Show what works on this machine, and how to fix the rest.

    Lists packages, libraries, every runtime by its name, data and folders. The exit code is 3 if something that should
    work here does not.
    """
    from ..doctor import diagnose
    from .progress import steps
    from .reports import diagnosis_table

    with steps(quiet=as_json) as progress:
        diagnosis = diagnose(data_dir, progress)
    if as_json:
        echo_json(diagnosis.as_dict())
    else:
        diagnosis_table(diagnosis, wide=wide)
    sys.exit(0 if diagnosis.ok else Unavailable.exit_code)
