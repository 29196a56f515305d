"""The `cifar-export` command: the group of all commands. `python -m cifar_export` is the same.

Only what `--help` needs is imported here; torch and onnx are imported by the commands when they run.
"""

from __future__ import annotations

import click

from .commands.benchmark import benchmark
from .commands.completion import completion
from .commands.console import HELP, Group, end_on_termination
from .commands.data import data
from .commands.doctor import doctor
from .commands.evaluate import evaluate
from .commands.export import c_source, executorch, litert, onnx, openvino, ort, torch_export, torchscript
from .commands.fetch import fetch
from .commands.formats import formats
from .commands.models import models
from .commands.package import merge, package
from .commands.parity import parity
from .commands.predict import predict
from .commands.publish import publish
from .commands.quantize import quantize
from .commands.train import train
from .commands.verify import verify
from .system.version import __version__

COMMANDS = (
    benchmark,
    completion,
    data,
    doctor,
    evaluate,
    executorch,
    fetch,
    formats,
    litert,
    merge,
    models,
    onnx,
    openvino,
    ort,
    c_source,
    package,
    parity,
    predict,
    publish,
    quantize,
    torch_export,
    torchscript,
    train,
    verify,
)


@click.group(cls=Group, context_settings=HELP)
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
    main(prog_name="cifar-export")
