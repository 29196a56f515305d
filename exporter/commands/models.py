"""`cifar-export models`."""

from __future__ import annotations

import click

from .console import Command, echo_json
from .options import MODEL, json_option, wide_option


@click.command(cls=Command, examples=["cifar-export models", "cifar-export models resnet110 --json"])
@click.argument("more", metavar="[MODEL]...", nargs=-1, type=MODEL)
@wide_option
@json_option
def models(more: tuple[str, ...], wide: bool, as_json: bool) -> None:
    """List the eight networks with their sizes and accuracies.

    A MODEL that you name, resnetN with N = 6n + 2, is listed beside them. Also tells where their weights come from,
    what their images are normalized with, and the 95 % interval (Wilson, low and high) that the number of test images
    leaves on top-1.
    """
    from ..weights.catalog import catalog

    rows = catalog(more)
    if as_json:
        echo_json([row.as_dict() for row in rows])
        return
    from .reports import catalog_table

    catalog_table(rows, wide=wide)
