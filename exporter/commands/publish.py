"""`cifar-export publish`: a release into a repository of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import click

from .console import Command, echo_json
from .options import json_option


@click.command(cls=Command, examples=["cifar-export publish artifacts/releases/1.0.0 --hub ORG/NAME --dry-run"])
@click.argument("release", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--hub", "repository", required=True, metavar="ORG/NAME", help="The repository on the Hugging Face Hub.")
@click.option("--replace", is_flag=True, help="Remove what else is in the repository, by the same commit.")
@click.option("--dry-run", is_flag=True, help="Check everything and list what would be uploaded; ask no server.")
@json_option
def publish(release: Path, repository: str, replace: bool, dry_run: bool, as_json: bool) -> None:
    """Upload a release to the Hugging Face Hub.

    DIR is a release, or the folder of one network, whose model card the Hub then shows. It is verified first, and goes
    there as it is, by one commit on the main branch. The repository must be there already. The login is that of
    `hf auth login`, or HF_TOKEN.
    """
    from ..release.use.upload import upload
    from .progress import steps
    from .tables import fields

    with steps(quiet=as_json) as progress:
        progress(f"{'checking' if dry_run else 'uploading'} {release}")
        done = upload(release, repository, replace=replace, dry_run=dry_run)
    if as_json:
        echo_json(done.as_dict())
        return
    if dry_run:
        for name, size in done.files.items():
            click.echo(f"{size:>12,}  {name}")
    where = f"hf://{done.repository}" + (f"@{done.commit}" if done.commit else "")
    total = f"{len(done.files):,} files, {sum(done.files.values()):,} bytes"
    fields(
        [
            ("networks", f"{', '.join(done.networks)} {done.version}"),
            ("uploaded" if done.commit else "to upload", total),
            ("cards", ", ".join(done.cards)),
            ("release", where),
            ("sha256", f"{done.sha256} (of its SHA256SUMS)"),
        ]
    )
