"""`cifar-export onnx`, `torchscript` and `torch-export`: one file each, proved before it appears."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..formats import FORMATS
from ..networks.zoo import InputVariant, NetworkSpec
from .console import Command, F, echo_json, input_option, json_option, network_options, output_option

if TYPE_CHECKING:
    from ..weights.core import Weights


def export_options(format_name: str) -> Callable[[F], F]:
    """The options that all formats share; the command gets `run`, which exports and takes the options of its own."""

    def decorate(command: F) -> F:
        @network_options
        @input_option
        @output_option(FORMATS[format_name].suffix)
        # negated by hand: what flag_value=False with default=True means differs between versions of click
        @click.option(
            "--no-check",
            "checked",
            is_flag=True,
            callback=lambda _context, _option, no_check: not no_check,
            help="Skip parity; the file's metadata says so.",
        )
        @click.option(
            "--golden",
            metavar="DIR",
            type=click.Path(path_type=Path, file_okay=False),
            help="Write test inputs and their logits there, in ONNX's test-data convention.",
        )
        @json_option
        @functools.wraps(command)
        def wrapper(
            spec: NetworkSpec,
            load: Callable[[], Weights],
            variant: InputVariant | None,
            output: Path | None,
            checked: bool,
            golden: Path | None,
            as_json: bool,
            **own: Any,
        ) -> None:
            shared = {"variant": variant or "float32", "output": output, "checked": checked}

            def run(**more: Any) -> None:
                _export(spec, load, format_name, golden, as_json, **shared, **more)

            command(run, **own)

        return wrapper  # type: ignore[return-value]

    return decorate


@click.command(cls=Command)
@click.option("--opset", type=int, help="Version of the ONNX operators, 13 to 26.  [default: 18]")
@export_options("onnx")
def onnx(run: Callable[..., None], opset: int | None) -> None:
    """Export MODEL to one ONNX file, proved in ONNX Runtime before it appears."""
    if opset is not None:
        from ..formats.onnx import check_opset

        check_opset(opset)
    run(opset=opset)


@click.command(cls=Command)
@export_options("torchscript")
def torchscript(run: Callable[..., None]) -> None:
    """Export MODEL to a TorchScript file for C++ (torch::jit::load), proved before it appears."""
    run()


@click.command("torch-export", cls=Command)
@export_options("torch-export")
def torch_export(run: Callable[..., None]) -> None:
    """Export MODEL to a .pt2 file (torch.export, dynamic batch), proved before it appears."""
    run()


def _export(
    spec: NetworkSpec,
    load: Callable[[], Weights],
    format_name: str,
    golden: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    from ..exporting.artifact import export
    from .display import artifact_summary, steps

    with steps(quiet=as_json) as progress:
        progress(f"loading {spec.name}")
        artifact = export(load(), format_name, progress=progress, **options)
        if golden is not None:
            from ..exporting.golden import write_golden

            progress("golden vectors")
            write_golden(artifact, golden)
    if as_json:
        echo_json({**artifact.as_dict(), "golden": str(golden) if golden else None})
    else:
        artifact_summary(artifact, golden)
