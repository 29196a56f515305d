"""`cifar-export data`: fetch and check."""

from __future__ import annotations

from pathlib import Path

import click

from ..networks.zoo import DATASETS
from .console import KEPT, Group, echo_json, leave_interrupted
from .options import data_dir_option, json_option
from .streams import say, verdict


@click.group(cls=Group)
def data() -> None:
    """Download CIFAR-10 and CIFAR-100, and check them."""


datasets_option = click.option(
    "--dataset",
    "names",
    type=click.Choice([*DATASETS, "all"]),
    default="all",
    show_default=True,
    help="Data set to work on.",
)


@data.command("fetch", examples=["cifar-export data fetch --dataset cifar10"])
@datasets_option
@data_dir_option
@json_option
def data_fetch(names: str, data_dir: Path, as_json: bool) -> None:
    """Download the data sets, check them and unpack them.

    The official binary archives are used. A data set that is complete stays as it is, and an archive that is in the
    folder already is used without a network. CIFAR_EXPORT_DATA_URL names a mirror.
    """
    from ..data.fetch import fetch
    from .progress import bar
    from .summaries import data_summary

    reports = []
    for dataset in DATASETS.values():
        if names in (dataset.name, "all"):
            try:
                with bar(f"downloading {dataset.title}", quiet=as_json) as progress:
                    reports.append(fetch(dataset, data_dir, progress=progress))
            except KeyboardInterrupt as error:
                leave_interrupted(error, KEPT, as_json=as_json)
            if not as_json:
                data_summary(reports[-1].data, "fetched" if reports[-1].fetched else "already there")
    if as_json:
        echo_json({"datasets": [report.as_dict() for report in reports]})


@data.command("check", examples=["cifar-export data check --data-dir data"])
@datasets_option
@data_dir_option
@json_option
def data_check(names: str, data_dir: Path, as_json: bool) -> None:
    """Check whether the data sets are complete and official.

    The exit code is 1 if files are missing, too short or foreign, or if labels are out of range. It is 0 for complete
    data that is not the official one byte by byte, such as the same images in another order.
    """
    from ..data.check import check
    from .summaries import data_summary

    reports = [check(dataset, data_dir) for dataset in DATASETS.values() if names in (dataset.name, "all")]
    ok = all(report.ok for report in reports)
    with verdict(0 if ok else 1):
        for report in reports:
            for line in report.problems:
                say(f"error: {line}")
            if not report.complete:
                say(f"Get it: cifar-export data fetch --dataset {report.dataset} --data-dir {data_dir}")
            if not as_json:
                data_summary(report)
        if as_json:
            echo_json({"ok": ok, "datasets": [report.as_dict() for report in reports]})
