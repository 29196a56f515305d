"""The public face, `cifar_export.load` and so on: what a program may call. Each function is one command's Python twin.

A network is named as its files are: "cifar100_resnet20". Paths may be `str` or `Path`. Every function raises
`InvalidInput` for wrong arguments, `Unavailable` for what this machine lacks, and `GateFailed` where it says so; all
three are `CifarExportError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import GateFailed, InvalidInput
from .networks.zoo import DatasetSpec, NetworkSpec, find_network, named, parts_of, require_variant
from .release.use.fetch import require_known
from .release.use.load import load

if TYPE_CHECKING:  # torch, onnx and numpy are imported by the functions that need them
    import numpy as np
    from numpy.typing import NDArray

    from .accuracy.evaluation import Evaluation
    from .exporting.artifact import Artifact
    from .formats.choices import Choices
    from .gate.report import ParityReport
    from .prediction.predict import Predictions
    from .release.check.examine import Examined
    from .weights.core import Weights

__all__ = ["evaluate", "export", "load", "parity", "predict", "verify"]


def export(
    name: str,
    format: Literal["onnx", "torchscript", "torch-export", "openvino", "ort", "c", "litert", "executorch"] = "onnx",
    *,
    output: str | Path | None = None,
    input: Literal["float32", "uint8", "unit"] | None = None,
    target: str | None = None,
    opset: int | None = None,
    batch: int | Literal["dynamic"] | None = None,
    batch_norm: Literal["folded", "separate"] | None = None,
    pooling: Literal["global", "average", "reduce-mean"] | None = None,
    classifier: Literal["gemm", "matmul"] | None = None,
    layout: Literal["nchw", "nhwc"] | None = None,
    precision: Literal["float32", "float16", "bfloat16", "int8"] | None = None,
    io: Literal["float32", "float16"] | None = None,
    weights: str | Path = "bundled",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    key: str | None = None,
    shortcut: Literal["pad-both", "pad-end"] | None = None,
) -> Artifact:
    """Export the network called `name` to one file with its sidecar, after it has passed parity.

    `output` is by default `artifacts/exports/<name>[-uint8|-unit][-float16|-int8]<suffix>` under the current folder.
    `weights`: "bundled", "upstream", or the path of a checkpoint; `name` may be that of the network that a file of
    `cifar-export train` says it is of. `mean` and `std` (R, G, B, of pixels in 0..1) are what a checkpoint was trained
    with that does not state it. `key` is the state dict to take of several, and `shortcut` says where shortcuts without
    parameters pad channels (docs/checkpoints.md). `target` (a consumer of the table in docs/targets.md) and what
    follows it, which beats it, are for ONNX alone, but `batch` is for LiteRT, and `precision` for other formats that
    have it, too; `input` is float32 where neither says otherwise. int8 takes the ranges that the weights have, or
    measures them on the CIFAR pictures that come along.

    Raises `GateFailed` where the file does not compute what PyTorch does in float64; then nothing new stands at
    `output`.

    >>> import cifar_export
    >>> artifact = cifar_export.export("cifar10_resnet20", "onnx", output="resnet20.onnx", opset=17)
    >>> artifact.path.name, artifact.opset, artifact.parity.passed
    ('resnet20.onnx', 17, True)
    """
    from .exporting.artifact import export as export_file
    from .exporting.precision import prepared
    from .formats import FORMATS, choices_for
    from .formats.litert_choices import chosen_litert
    from .formats.onnx_choices import chosen

    if format not in FORMATS:
        raise InvalidInput(f"no format {format!r}. Known: {', '.join(FORMATS)}.")
    asked: dict[str, Any] = {"opset": opset, "batch": batch, "batch_norm": batch_norm, "pooling": pooling}
    asked |= {"classifier": classifier, "layout": layout, "precision": precision, "io": io}
    given = {what: value for what, value in {"target": target, **asked}.items() if value is not None}
    unfit = [what for what in given if format != "onnx" and what not in _OPTIONS_OF.get(format, ())]
    if unfit:
        raise InvalidInput(f"{unfit[0]} {given[unfit[0]]} for {format}, which has none. Leave it out.")
    if input is not None:
        require_variant(input)
    choices: Choices | None
    if format == "onnx":
        choices, variant = chosen(target, input, **asked)
    else:
        variant = input or "float32"
        choices = chosen_litert(**given) if format == "litert" else choices_for(format, precision or "float32")
    return export_file(
        prepared(_weights(name, weights, mean, std, key, shortcut), choices.precision if choices else "float32"),
        format,
        variant=variant,
        choices=choices,
        output=_path(output),
    )


_OPTIONS_OF = {
    "litert": ("batch", "precision"),
    "ort": ("precision",),
    "torchscript": ("precision",),
    "torch-export": ("precision",),
}
"""Those that formats other than ONNX take."""


def parity(
    name: str,
    *,
    runtimes: Sequence[str] = (),
    input: Literal["float32", "uint8", "unit"] | None = None,
    precision: Literal["float32", "float16", "bfloat16", "int8"] | None = None,
    file: str | Path | None = None,
    trust_file: bool = False,
    weights: str | Path = "bundled",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    key: str | None = None,
    shortcut: Literal["pad-both", "pad-end"] | None = None,
) -> ParityReport:
    """Compare `runtimes` (by default all that this machine can run) with the network in PyTorch float64.

    They run fresh exports in that `precision`, or the exported `file`; one that is code needs its sidecar or
    `trust_file`. `weights` and what follows are those of `export`. The verdict is `passed` of the report, and
    `failures` has a line for each thing that failed: no exception is raised for them.
    Runtimes run in processes of their own, so a program that calls this at its top level needs no guard.

    >>> import cifar_export
    >>> report = cifar_export.parity("cifar10_resnet20", runtimes=["onnxruntime-cpu"])
    >>> report.passed, [(row.runtime, row.state) for row in report.runtimes]
    (True, [('onnxruntime-cpu', 'passed')])
    """
    from .diagnosis.prove import prove

    if input is not None:
        require_variant(input)
    return prove(
        _weights(name, weights, mean, std, key, shortcut),
        variant=input,
        precision=precision,
        runtimes=tuple(runtimes),
        file=_path(file),
        trust_file=trust_file,
    )


def evaluate(
    name: str,
    *,
    data_dir: str | Path,
    runtime: str | None = None,
    input: Literal["float32", "uint8", "unit"] | None = None,
    precision: Literal["float32", "float16", "bfloat16", "int8"] | None = None,
    file: str | Path | None = None,
    trust_file: bool = False,
    limit: int | None = None,
    weights: str | Path = "bundled",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    key: str | None = None,
    shortcut: Literal["pad-both", "pad-end"] | None = None,
) -> Evaluation:
    """Measure the accuracy of the network called `name` in `runtime`, in percent of the test images.

    By default that is the runtime which proves such a file: "onnxruntime-cpu" for ONNX, and for a fresh export.
    `data_dir` is a folder that `cifar-export data fetch` has filled; `limit` takes the first so many images. A fresh
    export in that `precision` is run, or the exported `file`. `weights` and what follows are those of `export`.
    Raises `GateFailed` for a file of other weights.

    >>> import cifar_export
    >>> result = cifar_export.evaluate("cifar10_resnet20", data_dir="data", limit=100)
    >>> result.images, result.top1 > 85
    (100, True)
    """
    from .accuracy.score import score
    from .data import load_split
    from .exporting.precision import prepared
    from .formats import proving_runtime

    if input is not None:
        require_variant(input)
    loaded = _weights(name, weights, mean, std, key, shortcut)
    split = load_split(_required(data_dir), loaded.network.dataset, "test")
    if file is None:
        loaded = prepared(loaded, precision or "float32")
    how: dict[str, Any] = {"variant": input, "precision": precision, "file": _path(file), "trust_file": trust_file}
    return score(loaded, split, runtime or proving_runtime(_path(file), precision or "float32"), limit=limit, **how)


def predict(
    subject: str | Path,
    pictures: Sequence[str | Path] | NDArray[np.uint8],
    *,
    top: int = 5,
    runtime: str | None = None,
    precision: Literal["float32", "float16", "bfloat16", "int8"] | None = None,
    trust_file: bool = False,
) -> Predictions:
    """Find the `top` likeliest classes of each of `pictures`: files and folders of them, or uint8 (N, 32, 32, 3) RGB.

    `subject` is the name of a network, which runs with its bundled weights, in float32 unless `precision` says
    otherwise, or an exported file, which has a precision of its own; one that is code needs its sidecar or
    `trust_file`. A file that is no picture is left out and named in `skipped`. Each call opens the network anew: to ask
    it often, keep what `load` returns. Raises `GateFailed` for logits that are no numbers.

    >>> import cifar_export
    >>> found = cifar_export.predict("cifar10_resnet20", ["cat.png"], top=1)
    >>> [(picture.file.name, picture.top[0].label) for picture in found.pictures]
    [('cat.png', 'cat')]
    """
    import numpy as np

    from .data.pictures import find_pictures
    from .exporting.precision import prepared
    from .networks.preprocess import require_pixels
    from .prediction.predict import classifier_of_file, classifier_of_weights, predict_pixels
    from .prediction.predict import predict as predict_pictures

    if top < 1:
        raise InvalidInput(f"top is {top}. Ask for 1 class or more.")
    pixels, files = None, []
    if isinstance(pictures, np.ndarray):
        pixels = require_pixels(pictures)
    else:  # a text alone would be a list of letters
        listed = [pictures] if isinstance(pictures, str | Path) else pictures
        files = find_pictures([_required(picture) for picture in listed])
    if Path(subject).suffix:  # no network's name has one, and each exported file's
        if precision is not None:
            raise InvalidInput(f"{subject} has the precision that it has. Leave precision away.")
        opened = classifier_of_file(_required(subject), runtime, trust_file=trust_file)
    else:
        reduced = precision or "float32"
        opened = classifier_of_weights(prepared(_weights(str(subject), "bundled"), reduced), runtime, reduced)
    with opened as classifier:
        if pixels is not None:
            return predict_pixels(classifier, pixels, top)
        return predict_pictures(classifier, files, top)


def verify(
    path: str | Path,
    *,
    public_key: str | Path | None = None,
    identity: str | None = None,
    issuer: str | None = None,
    deep: bool = False,
    hub: bool = False,
) -> Examined:
    """Check that a release, a network's folder or its archive is intact, and who signed it if a signer is named.

    `public_key` is a PEM file; `identity` and `issuer` name a keyless signer. `deep` also runs each ONNX file on its
    golden vectors. With `hub`, `path` may be a download of the Hugging Face Hub: files may be links into its cache's
    blobs/, and .gitattributes and .cache/huggingface/ are left aside. Raises `GateFailed` with a
    line for each thing that is wrong.

    >>> import cifar_export
    >>> cifar_export.verify("artifacts/releases/1.0.0").verdict
    'intact, origin not checked'
    """
    from .release.check.examine import examine
    from .release.signer import signer_of

    found = examine(_required(path), signer=signer_of(_path(public_key), identity, issuer), deep=deep, hub=hub)
    if not found.result.intact:
        raise GateFailed("\n".join(found.result.problems))
    return found


def _weights(
    name: str,
    source: str | Path,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    key: str | None = None,
    shortcut: str | None = None,
) -> Weights:
    require_known(name)
    from .networks.normalization import normalization_from
    from .weights.foreign import Reading
    from .weights.sources import load_weights, said_dataset

    spec = find_network(name)
    parts = parts_of(name)
    if spec is None and parts and source not in ("bundled", "upstream", "random"):
        said = said_dataset(_required(source))
        if isinstance(said, DatasetSpec) and said.name == parts[0]:
            spec = NetworkSpec(parts[1], said)
    normalization = None
    if (mean, std) != (None, None):
        try:
            normalization = normalization_from({"mean": list(mean or ()), "std": list(std or ())})
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"mean {mean} and std {std}: {error}. Give three numbers each.") from None
    return load_weights(spec or named(name), str(source), normalization, reading=Reading(key, shortcut))


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else _required(given)


def _required(given: str | Path) -> Path:
    if "\0" in str(given):
        raise InvalidInput(f"{str(given)!r}: no name holds a NUL character.")
    return Path(given)
