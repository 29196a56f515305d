"""`cifar-export data`: fetch and check."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..networks.zoo import DATASETS
from .console import INTERRUPTED, Group, data_dir_option, echo_json, json_option


@click.group(cls=Group)
def data() -> None:
    """Get CIFAR-10 and CIFAR-100, and tell what is there."""


datasets_option = click.option(
    "--dataset", "names", type=click.Choice([*DATASETS, "all"]), default="all", show_default=True, help="Which of them."
)


@data.command("fetch")
@datasets_option
@data_dir_option
@json_option
def data_fetch(names: str, data_dir: Path, as_json: bool) -> None:
    """Download the official binary archives, check and unpack them; what is complete stays as it is.

    An archive that lies in the folder already is used without a network. CIFAR_EXPORT_DATA_URL names a mirror.
    """
    from ..data.fetch import fetch
    from .display import bar, data_summary

    reports = []
    for dataset in DATASETS.values():
        if names in (dataset.name, "all"):
            try:
                with bar(f"downloading {dataset.title}", quiet=as_json) as progress:
                    reports.append(fetch(dataset, data_dir, progress=progress))
            except KeyboardInterrupt:
                click.echo("interrupted: what has arrived is kept, and the next run goes on from there.", err=True)
                sys.exit(INTERRUPTED)
            if not as_json:
                data_summary(reports[-1].data, "fetched" if reports[-1].fetched else "already there")
    if as_json:
        echo_json({"datasets": [report.as_dict() for report in reports]})


@data.command("check")
@datasets_option
@data_dir_option
@json_option
def data_check(names: str, data_dir: Path, as_json: bool) -> None:
    """Tell whether the data sets are complete, and whether they are the official bytes.

    Missing, short and foreign files and labels out of range end with exit code 1; other bytes than the official ones,
    such as another order of the images, do not.
    """
    from ..data.check import check
    from .display import data_summary

    reports = [check(dataset, data_dir) for dataset in DATASETS.values() if names in (dataset.name, "all")]
    ok = all(report.ok for report in reports)
    if as_json:
        echo_json({"ok": ok, "datasets": [report.as_dict() for report in reports]})
    for report in reports:
        if not as_json:
            data_summary(report)
        for line in report.problems:
            click.echo(f"error: {line}", err=True)
        if not report.complete:
            command = f"cifar-export data fetch --dataset {report.dataset} --data-dir {data_dir}"
            click.echo(f"Get it: {command}", err=True)
    sys.exit(0 if ok else 1)
