"""The `cifar-export` command: the group of all commands, each of which is a function of `exporter.commands`.

Nothing heavy is imported here: `--help` must stay instant, so commands import what they need when they run.
"""

from __future__ import annotations

import click

from exporter.commands.data import data
from exporter.commands.doctor import doctor
from exporter.commands.evaluate import evaluate
from exporter.commands.export import onnx, torch_export, torchscript
from exporter.commands.fetch import fetch
from exporter.commands.models import models
from exporter.commands.package import merge, package
from exporter.commands.parity import parity
from exporter.commands.predict import predict
from exporter.commands.train import train
from exporter.commands.verify import verify
from exporter.console import Group, end_on_termination
from exporter.version import __version__

COMMANDS = (
    data,
    doctor,
    evaluate,
    fetch,
    merge,
    models,
    onnx,
    package,
    parity,
    predict,
    torch_export,
    torchscript,
    train,
    verify,
)


@click.group(cls=Group)
@click.version_option(__version__, prog_name="cifar-export")
def main() -> None:
    """Train, export, prove and package ResNets for CIFAR-10 and CIFAR-100.

    Try `cifar-export onnx resnet20 --dataset cifar100`.

    Exit codes: 0 done; 1 a check failed, and nothing new was written; 2 wrong usage; 3 this machine lacks something.
    """
    end_on_termination()


for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main()
