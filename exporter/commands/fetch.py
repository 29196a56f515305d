"""`cifar-export fetch`: one network of a release."""

from __future__ import annotations

from pathlib import Path

import click

from .console import KEPT, Command, echo_json, leave_interrupted
from .options import json_option, signer_options


@click.command(
    cls=Command,
    examples=[
        "cifar-export fetch cifar100_resnet20 --release https://host/1.0.0 --sha256 HEX",
        "cifar-export fetch cifar100_resnet20 --release hf://ORG/NAME@REVISION --sha256 HEX",
    ],
)
@click.argument("network", metavar="NAME")
@click.option(
    "--release",
    required=True,
    metavar="URL|PATH",
    help="The release: its folder, the address under which its SHA256SUMS is served, or hf://ORG/NAME@REVISION, a "
    "commit or a tag on the Hugging Face Hub.",
)
@click.option("--sha256", metavar="HEX", help="sha256 that the release's SHA256SUMS must have.")
@signer_options
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    help="Folder in which the folder NAME will appear.  [default: the current one]",
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
    """Download one network of a release, and check it.

    It appears as the folder DIR/NAME, where NAME is for instance cifar100_resnet20. A URL needs --sha256 or a signer
    (--public-key, or --identity and --issuer), because nothing else tells the maker's files from anybody else's; a
    whole commit of the Hub names its files by itself. A network that is there already and intact stays as it is; a
    download that was cut off goes on, but for the Hub's.
    """
    from ..release.signer import signer_of
    from ..release.use.fetch import fetch as fetch_network
    from ..system.hub import is_hub
    from .progress import bar
    from .tables import fields

    signer = signer_of(public_key, identity, issuer)
    try:
        with bar(f"downloading {network}", quiet=as_json) as progress:
            done = fetch_network(network, release, sha256=sha256, signer=signer, output=output, progress=progress)
    except KeyboardInterrupt as error:
        leave_interrupted(error, "nothing was left half-written." if is_hub(release) else KEPT, as_json=as_json)
    if as_json:
        echo_json(done.as_dict())
        return
    how = {"sha256": "has the sha256 given", "signature": f"signed by {signer}"}
    origin = " and ".join(how[checked] for checked in done.source.vouched)
    fields(
        [
            ("network", f"{done.network} {done.version}"),
            ("folder", str(done.folder)),
            ("state", "fetched" if done.fetched else "it was there already, intact"),
            ("sha256", f"{done.source.sha256} (of the release's SHA256SUMS)"),
            ("origin", origin or "not checked; the files are intact"),
        ]
    )
