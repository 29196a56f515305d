"""`cifar-export verify`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import GateFailed
from ..release.check.checked import check
from ..release.check.verify import Result, describe, shown
from ..system.files import require_file
from .console import Command, echo_json, json_option

if TYPE_CHECKING:
    from ..release.use.source import Signer


@click.command(cls=Command)
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--public-key",
    type=click.Path(path_type=Path),
    help="Key (PEM) that the release must be signed with.",
)
@click.option("--identity", help="Who must have signed the release without a key, with --issuer.")
@click.option("--issuer", metavar="URL", help="Who vouches for that identity.")
@click.option("--deep", is_flag=True, help="Also run each ONNX file, and compare each archive with its folder.")
@json_option
def verify(
    path: Path, public_key: Path | None, identity: str | None, issuer: str | None, deep: bool, as_json: bool
) -> None:
    """Say whether PATH, a release, a network's folder or its .tar.gz, is what its SHA256SUMS says.

    Whoever can change the files can change SHA256SUMS too. Where the release comes from is checked only with
    --public-key, or with --identity and --issuer; then a release without a signature is refused.

    Example: cifar-export verify artifacts/releases/1.0.0 --deep
    """
    from ..release.use.source import signer_of

    signer = signer_of(public_key, identity, issuer)
    if public_key is not None:
        require_file(public_key)
    result = check(path)
    named = {"public_key": public_key, "identity": identity, "issuer": issuer}
    origin = {name: shown(value) for name, value in named.items() if value is not None} or None
    verdict = result.verdict
    if signer is not None and result.intact:
        result = _check_origin(result, signer)
        verdict = f"intact, signed by {shown(signer)}" if result.intact else "origin refused"
    models: dict[str, Any] | None = None
    if deep and result.intact:
        result, models = _check_deep(result, quiet=as_json)
        verdict = verdict if result.intact else result.verdict
    document = result.as_dict() | {"origin": origin if result.intact else None, "verdict": verdict, "deep": models}
    if as_json:
        echo_json(document)
    else:
        _print(result, document)
    sys.exit(0 if result.intact else 1)


def _check_origin(result: Result, signer: Signer) -> Result:
    from ..release.sign import check_signature

    if result.kind != "release":
        return replace(
            result, problems=[f"model.sig: missing: only a whole release is signed, this is a {result.kind}"]
        )
    try:
        check_signature(Path(result.path), public_key=signer.public_key, identity=signer.identity, issuer=signer.issuer)
    except GateFailed as error:
        return replace(result, problems=[f"model.sig: {shown(' '.join(str(error).split()))}"])
    return result


def _check_deep(result: Result, *, quiet: bool) -> tuple[Result, dict[str, Any]]:
    from ..release.check.deep import check_deep
    from .display import steps

    with steps(quiet=quiet) as progress:
        report = check_deep(Path(result.path), result.kind, progress)
    return replace(result, problems=list(report.problems)), report.as_dict()


def _print(result: Result, document: dict[str, Any]) -> None:
    for problem in result.problems:
        click.echo(problem)
    for model in document["deep"]["models"] if document["deep"] else ():
        click.echo(
            f"{model['file']}: opset {model['opset']}, IR {model['ir_version']}, {model['images']} golden images "
            f"off by {model['max_abs_error']:.2g} at most, {model['atol']:.2g} is allowed"
        )
    click.echo(describe(result, document["verdict"]))
