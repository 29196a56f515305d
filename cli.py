"""The `cifar-export` command. Each command parses, calls one function of `exporter`, and prints.

Nothing heavy is imported here: `--help` must stay instant, so commands import what they need when they run.
"""

from __future__ import annotations

import click


@click.group()
def main() -> None:
    """Export CIFAR ResNets."""
