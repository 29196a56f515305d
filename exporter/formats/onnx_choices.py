"""What an ONNX file can be asked for beside its weights and its input, and the targets that want it in one way."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from ..errors import InvalidInput
from ..networks.zoo import InputVariant

DEFAULT_OPSET = 18  # what every runtime of the last years reads
LOWEST_OPSET = 9  # below: the IR wants the weights to be inputs, too
LOWEST_INT8_OPSET = 13
HIGHEST_OPSET = 26  # above: ONNX Runtime 1.31 opens no file
HIGHEST_BATCH = 1024  # of a fixed one: it is proved, and fed to runtimes, in its full size

BatchNorm = Literal["folded", "separate"]
Pooling = Literal["global", "average", "reduce-mean"]
Classifier = Literal["gemm", "matmul"]
Layout = Literal["nchw", "nhwc"]
Precision = Literal["float32", "float16", "bfloat16", "int8"]
PortType = Literal["float32", "float16"]


@dataclass(frozen=True)
class OnnxChoices:
    """How the graph is written. Whatever is chosen, it computes the same, but for `precision`.

    `batch`: the only batch size that the file takes, or None where it takes any. `batch_norm`: folded into the
    convolution before it, or nodes of its own. `pooling`: GlobalAveragePool, an AveragePool whose kernel is all that it
    gets, or ReduceMean. `classifier`: Gemm, or MatMul and Add. `layout`: of a float input, (batch, 3, 32, 32) or
    (batch, 32, 32, 3); pixels are always in the latter. `precision`: of weights and arithmetic, not of input and
    logits; it changes what is computed, and how that is proved (docs/precision.md). `io`: the type of normalized images
    and of logits, float16 in float16 files alone.
    """

    opset: int = DEFAULT_OPSET
    batch: int | None = None
    batch_norm: BatchNorm = "folded"
    pooling: Pooling = "global"
    classifier: Classifier = "gemm"
    layout: Layout = "nchw"
    precision: Precision = "float32"
    io: PortType = "float32"

    def as_dict(self) -> dict[str, Any]:
        """For JSON and for the file's metadata: all but the opset, which the file states itself."""
        described = asdict(self) | {"batch": self.batch or "dynamic"}
        del described["opset"]
        if self.io == "float32":  # as in all files from before there was a choice
            del described["io"]
        return described


BATCH_NORMS: tuple[BatchNorm, ...] = get_args(BatchNorm)
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
CLASSIFIERS: tuple[Classifier, ...] = get_args(Classifier)
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ONNX_PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")
PORT_TYPES: tuple[PortType, ...] = get_args(PortType)
_KNOWN = {
    "batch_norm": BATCH_NORMS,
    "pooling": POOLINGS,
    "classifier": CLASSIFIERS,
    "layout": LAYOUTS,
    "precision": ONNX_PRECISIONS,
    "io": PORT_TYPES,
}


def require_choices(choices: OnnxChoices, variant: InputVariant) -> None:
    """Raise `InvalidInput` for what cannot be delivered with the input `variant`, naming what can."""
    if not LOWEST_OPSET <= choices.opset <= HIGHEST_OPSET:
        raise InvalidInput(
            f"opset {choices.opset} cannot be delivered. Choose one from {LOWEST_OPSET} to {HIGHEST_OPSET}."
        )
    if choices.batch is not None and not 1 <= choices.batch <= HIGHEST_BATCH:
        raise InvalidInput(f"a batch of {choices.batch} cannot be delivered. Choose 1 to {HIGHEST_BATCH}, or dynamic.")
    for name, known in _KNOWN.items():
        if getattr(choices, name) not in known:
            raise InvalidInput(f"no {name.replace('_', ' ')} {getattr(choices, name)!r}. Known: {', '.join(known)}.")
    _require_precision(choices)
    if choices.io == "float16" and (choices.precision != "float16" or variant == "unit"):
        raise InvalidInput(
            "float16 input and logits are for --precision float16 with normalized images or pixels as input. "
            "Add --precision float16, or leave --io away."
        )
    if variant == "uint8" and choices.layout != "nchw":
        raise InvalidInput("a layout is for float inputs: pixels are (batch, 32, 32, 3) already. Leave it away.")


def _require_precision(choices: OnnxChoices) -> None:
    if choices.precision != "float32" and choices.batch_norm != "folded":
        raise InvalidInput(f"batch norms stay separate in float32 only, not in {choices.precision}. Leave it away.")
    if choices.precision == "int8":
        if choices.opset < LOWEST_INT8_OPSET:
            least = f"QuantizeLinear with a scale for each channel came with opset {LOWEST_INT8_OPSET}"
            raise InvalidInput(f"opset {choices.opset} has no int8 networks: {least}. Choose a higher one.")
        if choices.classifier != "gemm":
            raise InvalidInput("an int8 network ends in Gemm. Leave --classifier away.")


@dataclass(frozen=True)
class Target:
    """What one consumer of ONNX files wants, why, and where that is written."""

    name: str
    title: str
    why: str
    source: str
    choices: OnnxChoices = OnnxChoices()
    variant: InputVariant = "float32"


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "onnxruntime",
            "ONNX Runtime",
            "It reads whatever the other defaults give.",
            "https://onnxruntime.ai/docs/reference/compatibility.html",
        ),
        Target(
            "tensorrt",
            "NVIDIA TensorRT",
            "It builds an engine for each range of batch sizes, so that one stays open; its parser names the opsets.",
            "https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md",
            OnnxChoices(opset=17),
        ),
        Target(
            "openvino",
            "Intel OpenVINO",
            "It reads the defaults, a dynamic batch included.",
            "https://docs.openvino.ai/2025/openvino-workflow/model-preparation/convert-model-onnx.html",
        ),
        Target(
            "opencv",
            "OpenCV DNN",
            "Releases before 5 neither take pixels nor know later opsets.",
            "https://docs.opencv.org/4.x/d2/d58/tutorial_table_of_content_dnn.html",
            OnnxChoices(opset=13, batch=1),
        ),
        Target(
            "vnn",
            "neural network verifiers (VNN-LIB)",
            "A property speaks of one image, and its perturbation of pixel values from 0 to 1.",
            "https://www.vnnlib.org/",
            OnnxChoices(opset=13, batch=1),
            "unit",
        ),
        Target(
            "hls4ml",
            "hls4ml, for FPGAs",
            "Its dense layer comes of MatMul and Add, its batch norm of a node of its own.",
            "https://fastmachinelearning.org/hls4ml/frontend/onnx.html",
            OnnxChoices(opset=13, batch=1, batch_norm="separate", classifier="matmul"),
        ),
        Target(
            "finn",
            "FINN, for FPGAs",
            "Its streamlining absorbs batch norms itself and works on one image.",
            "https://finn.readthedocs.io/en/latest/brevitas_export.html",
            OnnxChoices(opset=11, batch=1, batch_norm="separate", classifier="matmul"),
        ),
        Target(
            "fhe",
            "Concrete ML, for encrypted inference",
            "Its list of operators has AveragePool, and neither GlobalAveragePool nor ReduceMean.",
            "https://docs.zama.org/concrete-ml/explanations/inner-workings/onnx_pipeline",
            OnnxChoices(opset=14, pooling="average"),
        ),
        Target(
            "rknn",
            "Rockchip RKNN-Toolkit2",
            "Its compiler wants a fixed batch and knows opsets up to 19; 12 is what its examples recommend.",
            "https://github.com/airockchip/rknn-toolkit2",
            OnnxChoices(opset=12, batch=1),
        ),
        Target(
            "st-edge-ai",
            "STMicroelectronics ST Edge AI Core",
            "It reads opsets up to 15 and one image at a time.",
            "https://stedgeai-dc.st.com/assets/embedded-docs/supported_ops_onnx.html",
            OnnxChoices(opset=15, batch=1),
        ),
        Target(
            "microcontroller",
            "C generators, as onnx2c and emx-onnx-cgen",
            "Memory is planned beforehand, which wants a fixed batch.",
            "https://github.com/kraiskil/onnx2c",
            OnnxChoices(opset=13, batch=1),
        ),
    )
}


def chosen(target: str | None, variant: InputVariant | None = None, **options: Any) -> tuple[OnnxChoices, InputVariant]:
    """What that target wants (the defaults without one), each replaced by an option that is given, not None.

    `options` are called as the fields of `OnnxChoices`; `batch` may be "dynamic", which beats a target's fixed one.
    Raises `InvalidInput` for an unknown target and for what cannot be delivered.
    """
    base = target_of(target) if target else TARGETS["onnxruntime"]
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("batch") == "dynamic":
        given["batch"] = None
    choices, variant = replace(base.choices, **given), variant or base.variant
    require_choices(choices, variant)
    return choices, variant


def target_of(name: str) -> Target:
    """The target of that name. Raises `InvalidInput` naming the known ones."""
    if name not in TARGETS:
        raise InvalidInput(f"no target {name!r}. Known: {', '.join(TARGETS)}.")
    return TARGETS[name]
