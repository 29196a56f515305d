"""`cifar-export models`."""

from __future__ import annotations

import click

from exporter.console import Command, echo_json, json_option


@click.command(cls=Command)
@json_option
def models(as_json: bool) -> None:
    """List the eight networks: size, accuracy, where their weights come from."""
    from exporter.catalog import catalog

    rows = catalog()
    if as_json:
        echo_json([row.as_dict() for row in rows])
        return
    from exporter.display import catalog_table

    catalog_table(rows)
