"""`cifar-export verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .console import Command, echo_json
from .options import json_option, signer_options
from .streams import verdict

if TYPE_CHECKING:
    from ..release.check.examine import Examined


@click.command(
    cls=Command,
    examples=[
        "cifar-export verify artifacts/releases/1.0.0 --deep",
        "cifar-export verify 1.0.0 --public-key maker.pem",
    ],
)
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@signer_options
@click.option(
    "--deep", is_flag=True, help="Also run each file that is no code, and compare each archive with its folder."
)
@click.option(
    "--hub",
    is_flag=True,
    help="PATH was downloaded from the Hugging Face Hub: files may be links into its cache's blobs/, and "
    ".gitattributes and .cache/huggingface/ are left aside.",
)
@json_option
def verify(
    path: Path, public_key: Path | None, identity: str | None, issuer: str | None, deep: bool, hub: bool, as_json: bool
) -> None:
    """Check a release, a folder of one network or an archive.

    PATH must be what its SHA256SUMS says. Whoever can change the files can change SHA256SUMS too, so where a release
    comes from is checked only with --public-key, or with --identity and --issuer; a release without a signature is then
    refused.
    """
    from ..release.check.examine import examine
    from ..release.signer import signer_of
    from .progress import steps

    with steps(quiet=as_json or not deep) as progress:
        found = examine(path, signer=signer_of(public_key, identity, issuer), deep=deep, hub=hub, progress=progress)
    with verdict(0 if found.result.intact else 1):
        if as_json:
            echo_json(found.as_dict())
        else:
            _print(found)


def _print(found: Examined) -> None:
    from ..release.check.verify import describe

    for problem in found.result.problems:
        click.echo(problem)
    for model in found.deep.models if found.deep else ():
        is_onnx = model.file.lower().endswith(".onnx")
        what = f"opset {model.opset}, IR {model.ir_version}" if is_onnx else model.runtime
        click.echo(
            f"{model.file}: {what}, {model.images} golden images "
            f"off by {model.max_abs_error:.2g} at most, {model.atol:.2g} is allowed"
        )
    for skipped in found.deep.not_run if found.deep else ():
        click.echo(f"{skipped.file}: not run: {skipped.reason}")
    click.echo(describe(found.result, found.verdict))
