"""Markdown tables for docs/parity.md of what `tools/measure_gpu.py` wrote: `python tools/gpu_table.py FILE`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cifar_export.benchmarking.document import milliseconds
from cifar_export.commands.console import Command
from cifar_export.errors import InvalidInput


def table(document: dict[str, Any]) -> str:
    """Markdown tables of what `measure` wrote: for each runtime the worst error over all networks and inputs.

    Then, where they were measured, TorchScript in a program that allows TF32, and how long a batch takes.
    """
    lines = ["| runtime | largest error | of what is allowed | top-1 agrees | verdict |", "|---|---|---|---|---|"]
    rows = [
        row | {"state": _state(row), "name": _named(row["runtime"], entry.get("precision", "float32"))}
        for entry in document["networks"]
        for row in entry.get("runtimes", ())
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        ran = [row for row in mine if row["images"]]
        if not ran:
            lines.append(f"| {name} | | | | {mine[0]['reason']} |")
            continue
        errors = [row["max_abs_error"] for row in ran]
        shares = [row["share_of_allowed"] for row in ran]
        error = "not a number" if None in errors else f"{max(errors):.1e}"
        share = "" if None in shares else f"{100 * max(shares):,.0f} %"
        agreement = 100 * min(row["top1_agreement"] for row in ran)
        passed = sum(row["state"] == "passed" for row in mine)
        gated = any(row["state"] in ("passed", "failed") for row in mine)
        verdict = f"passed {passed} of {len(mine)}" if gated else ran[0]["state"]
        lines.append(f"| {name} | {error} | {share} | {agreement:.2f} % | {verdict} |")
    return "\n".join([*lines, *_tf32_table(document), *_latency_table(document)])


def _named(runtime: str, precision: str) -> str:
    return f"`{runtime}`" if precision == "float32" else f"`{runtime}`, {precision}"


def _tf32_table(document: Mapping[str, Any]) -> list[str]:
    entries = [entry for entry in document.get("torchscript", ()) if "file" in entry]
    if not entries:
        return []
    head = ["", "| TF32 allowed in the program | largest error | of what is allowed |", "|---|---|---|"]
    rows = []
    for title, key in (("TorchScript file", "file"), ("the network in PyTorch", "pytorch")):
        worst = {what: max(entry[key][what] for entry in entries) for what in ("max_abs_error", "share_of_allowed")}
        rows.append(f"| {title} | {worst['max_abs_error']:.1e} | {100 * worst['share_of_allowed']:,.0f} % |")
    return head + rows


def _latency_table(document: Mapping[str, Any]) -> list[str]:
    rows = [row for entry in document.get("latency", ()) for row in entry.get("rows", ()) if row["latency"]]
    if not rows:
        return []
    head = ["", "| network | runtime | batch | median, ms | images/s |", "|---|---|---|---|---|"]
    return head + [
        f"| {row['network']} | {_named(row['runtime'], row['precision'])} | {row['batch']} "
        f"| {milliseconds(row['latency']['p50'])} | {row['images_per_second']:,.0f} |"
        for row in rows
    ]


def _state(row: dict[str, Any]) -> str:
    """The state of a row, also of a file of schema 1, whose rows say it in three keys."""
    if "state" in row:
        return str(row["state"])
    if row["passed"] is not None:
        return "passed" if row["passed"] else "failed"
    if not row["images"]:
        return "not_run"
    return "yardstick" if row["reason"] == "the yardstick" else "reported"


@click.command(cls=Command)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(file: Path) -> None:
    """Print the tables of what was measured on a GPU."""
    try:
        click.echo(table(json.loads(file.read_text(encoding="utf-8"))))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{file} was not written by tools/measure_gpu.py. Name one in artifacts/parity.") from error


if __name__ == "__main__":
    main()
