"""`cifar-export onnx` and its siblings for other formats: one file each, proved before it appears."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput
from ..formats import FORMATS, choices_for
from ..formats.choices import Choices
from ..formats.litert_choices import chosen_litert
from ..formats.onnx_choices import (
    BATCH_NORMS,
    CLASSIFIERS,
    HIGHEST_BATCH,
    LAYOUTS,
    POOLINGS,
    PORT_TYPES,
    TARGETS,
    Precision,
    chosen,
)
from ..networks.zoo import InputVariant
from .acceptance import Acceptance, accuracy_options
from .asked import asked
from .console import Command, echo_json
from .options import F, input_option, json_option, network_options, together
from .precision import made_ready, precision_option_of, quantization_options
from .streams import say
from .subjects import called

if TYPE_CHECKING:
    from ..quantization.grids import Scheme


def export_options(format_name: str) -> Callable[[F], F]:
    """The options that all formats share, for `_export`."""
    suffix = FORMATS[format_name].suffix
    return together(
        network_options,
        input_option,
        click.option(
            "-o",
            "--output",
            type=click.Path(path_type=Path),
            help=f"File to write; its name must end with {suffix}.",
        ),
        click.option("--no-check", is_flag=True, help="Skip the parity check. The file's metadata will say so."),
        click.option(
            "--golden",
            metavar="DIR",
            type=click.Path(path_type=Path, file_okay=False),
            help="Also write test inputs and the logits expected for them to this folder, as ONNX test data.",
        ),
        json_option,
    )


class _Batch(click.ParamType[int | str]):
    """A batch size, or "dynamic"."""

    name = "batch"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The size as a number, or "dynamic"."""
        return value if value == "dynamic" else click.INT.convert(value, param, ctx)


graph_options = together(
    click.option(
        "--target",
        metavar="NAME",
        type=click.Choice(list(TARGETS)),
        help="Write the file as this consumer wants it; docs/targets.md has the table. An option beats it. Known: "
        + ", ".join(TARGETS)
        + ".",
    ),
    click.option("--opset", type=int, help="Version of the ONNX operators, 9 to 26.  [default: 18]"),
    click.option(
        "--batch",
        metavar="N|dynamic",
        type=_Batch(),
        help=f"Take batches of N images only, 1 to {HIGHEST_BATCH}, or of any size.  [default: dynamic]",
    ),
    click.option(
        "--batch-norm",
        type=click.Choice(BATCH_NORMS),
        help="Fold batch norms into the convolutions, or keep them.  [default: folded]",
    ),
    click.option("--pooling", type=click.Choice(POOLINGS), help="The last pooling.  [default: global]"),
    click.option("--classifier", type=click.Choice(CLASSIFIERS), help="Gemm, or MatMul and Add.  [default: gemm]"),
    click.option(
        "--layout", type=click.Choice(LAYOUTS), help="Layout of a float input: channels first or last.  [default: nchw]"
    ),
    click.option(
        "--io",
        type=click.Choice(PORT_TYPES),
        help="Type of normalized images and of logits in a float16 file.  [default: float32]",
    ),
)


@click.command(
    cls=Command,
    examples=[
        "cifar-export onnx resnet20 --dataset cifar100",
        "cifar-export onnx resnet20 --input uint8 -o model.onnx",
    ],
)
@graph_options
@precision_option_of("onnx")
@quantization_options
@accuracy_options
@export_options("onnx")
def onnx(
    target: str | None,
    variant: InputVariant | None,
    opset: int | None,
    batch: int | str | None,
    batch_norm: str | None,
    pooling: str | None,
    classifier: str | None,
    layout: str | None,
    io: str | None,
    precision: str | None,
    **shared: Any,
) -> None:
    """Export NETWORK to an ONNX file, and check its results.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, or the folder of a run or of a released network.

    The file appears only after ONNX Runtime has computed the same with it as PyTorch in float64. By default it is
    artifacts/exports/<dataset>_<model>[-uint8|-unit][-float16|-int8].onnx.
    """
    choices, variant = chosen(
        target,
        variant,
        opset=opset,
        batch=batch,
        batch_norm=batch_norm,
        pooling=pooling,
        classifier=classifier,
        layout=layout,
        io=io,
        precision=precision,
    )
    _export("onnx", choices=choices, variant=variant, **shared)


@click.command(
    cls=Command,
    examples=[
        "cifar-export torchscript resnet20",
        "cifar-export torchscript resnet20 --precision bfloat16 -o model.torchscript.pt",
    ],
)
@precision_option_of("torchscript")
@accuracy_options
@export_options("torchscript")
def torchscript(precision: Precision | None, **shared: Any) -> None:
    """Export NETWORK to a TorchScript file, and check its results.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, or the folder of a run or of a released network.

    C++ loads it by torch::jit::load. The file appears only after TorchScript has computed the same with it as PyTorch
    in float64. By default it is
    artifacts/exports/<dataset>_<model>[-uint8|-unit][-float16|-bfloat16].torchscript.pt.
    """
    _export("torchscript", choices=choices_for("torchscript", precision or "float32"), **shared)


@click.command("torch-export", cls=Command, examples=["cifar-export torch-export resnet20 -o model.pt2"])
@precision_option_of("torch-export")
@accuracy_options
@export_options("torch-export")
def torch_export(precision: Precision | None, **shared: Any) -> None:
    """Export NETWORK to a .pt2 file, and check its results.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, or the folder of a run or of a released network.

    The file holds a program of torch.export that takes batches of any size. It appears only after it has computed the
    same as PyTorch in float64. By default it is
    artifacts/exports/<dataset>_<model>[-uint8|-unit][-float16|-bfloat16].pt2.
    """
    _export("torch-export", choices=choices_for("torch-export", precision or "float32"), **shared)


@click.command(cls=Command, examples=["cifar-export openvino resnet20 --input uint8 -o model.openvino.zip"])
@export_options("openvino")
def openvino(**shared: Any) -> None:
    """Export NETWORK to OpenVINO's files, and check their results.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, or the folder of a run or of a released network.

    The archive holds model/model.xml and model/model.bin with float32 weights; unpack it for read_model. It appears
    only after OpenVINO has computed the same with it as PyTorch in float64. By default it is
    artifacts/exports/<dataset>_<model>[-uint8|-unit].openvino.zip.
    """
    _export("openvino", **shared)


@click.command(
    cls=Command,
    examples=["cifar-export ort resnet20 --input uint8 -o model.ort", "cifar-export ort resnet20 --precision int8"],
)
@precision_option_of("ort")
@quantization_options
@accuracy_options
@export_options("ort")
def ort(precision: Precision | None, **shared: Any) -> None:
    """Export NETWORK to an ORT file, and check its results.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, or the folder of a run or of a released network.

    That is ONNX Runtime's own format, for its mobile packages and builds with few operators; beside it stands
    <name>.required_operators.config, which such a build reads. It appears only after ONNX Runtime has computed the same
    with it as PyTorch in float64. By default it is artifacts/exports/<dataset>_<model>[-uint8|-unit][-int8].ort.
    """
    _export("ort", choices=choices_for("ort", precision or "float32"), **shared)


@click.command("c", cls=Command, examples=["cifar-export c resnet20 --input uint8 -o model.c"])
@export_options("c")
def c_source(**shared: Any) -> None:
    """Export NETWORK to a C file, and check its results.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, or the folder of a run or of a released network.

    The file is C99 without libraries: `void model(input, logits)` takes one image. It appears only after it was
    compiled and has computed the same as PyTorch in float64. By default it is
    artifacts/exports/<dataset>_<model>[-uint8|-unit].c.
    """
    _export("c", **shared)


@click.command(
    cls=Command,
    examples=[
        "cifar-export litert resnet20 --input uint8",
        "cifar-export litert resnet20 --input uint8 --precision int8 -o model.tflite",
    ],
)
@click.option(
    "--batch",
    metavar="N",
    type=int,
    default=1,
    show_default=True,
    help=f"Take batches of N images only, 1 to {HIGHEST_BATCH}; no file takes any size.",
)
@precision_option_of("litert")
@quantization_options
@accuracy_options
@export_options("litert")
def litert(batch: int, precision: Precision | None, **shared: Any) -> None:
    """Export NETWORK to a LiteRT file, and check its results.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, or the folder of a run or of a released network.

    LiteRT was TensorFlow Lite. Images come channels last, pixels and floats. The file appears only after LiteRT has
    computed the same with it as PyTorch in float64. By default it is
    artifacts/exports/<dataset>_<model>[-uint8|-unit][-int8].tflite.
    """
    _export("litert", choices=chosen_litert(batch=batch, precision=precision or "float32"), **shared)


@click.command(cls=Command, examples=["cifar-export executorch resnet20 --input uint8 -o model.pte"])
@export_options("executorch")
def executorch(**shared: Any) -> None:
    """Export NETWORK to an ExecuTorch file, and check its results.

    NETWORK is resnet20 (with --dataset), cifar100_resnet20, or the folder of a run or of a released network.

    The file is a program that takes batches of 1 to 64 and computes with XNNPACK. It appears only after ExecuTorch has
    computed the same with it as PyTorch in float64. By default it is
    artifacts/exports/<dataset>_<model>[-uint8|-unit].pte.
    """
    _export("executorch", **shared)


def _export(
    format_name: str,
    *,
    variant: InputVariant | None,
    output: Path | None,
    no_check: bool,
    golden: Path | None,
    as_json: bool,
    choices: Choices | None = None,
    check_accuracy: float | None = None,
    accuracy_budget: float | None = None,
    data_dir: Path | None = None,
    weight_bits: str | None = None,
    scheme: Scheme | None = None,
    calibration: Path | None = None,
    **network: Any,
) -> None:
    if called(network["model"]).file is not None:
        raise InvalidInput(f"{network['model']} is exported already. Name a network, or the folder of a run.")
    wanted = asked(**network)
    precision = choices.precision if choices else "float32"
    acceptance = Acceptance(wanted.spec, precision, check_accuracy, accuracy_budget, data_dir, checked=not no_check)
    from ..exporting.artifact import export
    from .progress import steps
    from .summaries import artifact_summary

    with steps(quiet=as_json) as progress:
        progress(f"loading {wanted.spec.name}")
        weights = wanted.load(quiet=as_json)
        grids: dict[str, Any] = {"weight_bits": weight_bits, "scheme": scheme, "calibration": calibration}
        weights = made_ready(weights, precision, progress, **grids)
        artifact = export(
            weights,
            format_name,
            variant=variant or "float32",
            choices=choices,
            output=output,
            checked=not no_check,
            golden=golden,
            accept=acceptance.of(weights, variant or "float32", progress),
            progress=progress,
        )
    replaced = not artifact.stands()
    if replaced:
        say(f"note: another process has replaced {artifact.path} since; what is said here is of this one's file.")
    if as_json:
        written = {"golden": str(golden) if golden else None, "replaced": replaced}
        echo_json({**artifact.as_dict(), **acceptance.as_dict(), **written})
    else:
        artifact_summary(artifact, golden, acceptance.accuracy, acceptance.reduction)
