"""`cifar-export fetch`: one network of a release."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .console import INTERRUPTED, Command, echo_json, json_option


@click.command(cls=Command)
@click.argument("network", metavar="NAME")
@click.option(
    "--release",
    required=True,
    metavar="URL|PATH",
    help="Where the release's SHA256SUMS lies: a folder, or an address that serves it.",
)
@click.option("--sha256", metavar="HEX", help="The sha256 that the release's SHA256SUMS must have.")
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Key (PEM) that the release must be signed with.",
)
@click.option("--identity", help="Who must have signed the release without a key, with --issuer.")
@click.option("--issuer", metavar="URL", help="Who vouches for that identity.")
@click.option(
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    help="Folder that gets the folder NAME.  [default: the current one]",
)
@json_option
def fetch(
    network: str,
    release: str,
    sha256: str | None,
    public_key: Path | None,
    identity: str | None,
    issuer: str | None,
    output: Path,
    as_json: bool,
) -> None:
    """Get one network of a release, checked, into DIR/NAME (as in cifar100_resnet20).

    A URL needs --sha256, or a signer (--public-key, or --identity and --issuer): nothing else tells the maker's files
    from anybody's. What is there already and intact stays; a download that was cut off goes on.

    Example: cifar-export fetch cifar100_resnet20 --release https://host/1.0.0 --sha256 HEX
    """
    from ..release.use.fetch import fetch as fetch_network
    from ..release.use.source import signer_of
    from .display import bar, fields

    signer = signer_of(public_key, identity, issuer)
    try:
        with bar(f"downloading {network}", quiet=as_json) as progress:
            done = fetch_network(network, release, sha256=sha256, signer=signer, output=output, progress=progress)
    except KeyboardInterrupt:
        click.echo("interrupted: what has arrived is kept, and the next run goes on from there.", err=True)
        sys.exit(INTERRUPTED)
    if as_json:
        echo_json(done.as_dict())
        return
    checked = {"sha256": "by the sha256 given", "signature": f"signed by {signer}"}
    fields(
        [
            ("network", f"{done.network} {done.version}"),
            ("folder", str(done.folder)),
            ("state", "fetched" if done.fetched else "already there, intact"),
            ("sha256", f"{done.source.sha256} (of the release's SHA256SUMS)"),
            ("origin", " and ".join(checked[how] for how in done.source.vouched) or "not checked: intact in itself"),
        ]
    )
