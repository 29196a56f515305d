"""The names in a release, as data.

<version>/
  <network>/            WEIGHTS, MODELS, some of REDUCED and of FURTHER, GOLDEN_FILES in the folders of GOLDEN, CONFIG,
                        LABELS, PARITY, CARD, SUMS
  index.json  SHA256SUMS  sbom.cdx.json  provenance.intoto.json  test-result.intoto.json  (model.sig)
  <network>-<version>.tar.gz
<version>.measurements.json
index.json
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidInput
from ..formats import FORMATS
from ..networks.zoo import InputVariant

if TYPE_CHECKING:
    from ..formats.onnx_choices import Precision

SUMS = "SHA256SUMS"
INDEX = "index.json"
SBOM = "sbom.cdx.json"
PROVENANCE = "provenance.intoto.json"
TEST_RESULT = "test-result.intoto.json"
SIGNATURE = "model.sig"
UNLISTED = (SUMS, SIGNATURE)
"""What SHA256SUMS cannot list: itself, and the signature over it."""

CONFIG = "config.json"
LABELS = "labels.txt"
PARITY = "parity.json"
CARD = "README.md"
WEIGHTS = "model.safetensors"


class ModelFile(NamedTuple):
    """What a model file of a release is."""

    format: str
    input: InputVariant
    precision: Precision = "float32"


MODELS: dict[str, ModelFile] = {
    # in every network's folder
    "model.onnx": ModelFile("onnx", "float32"),
    "model-uint8.onnx": ModelFile("onnx", "uint8"),
    "model.torchscript.pt": ModelFile("torchscript", "float32"),
    "model.pt2": ModelFile("torch-export", "float32"),
}
REDUCED: dict[Precision, str] = {
    # where they were asked for; both take pixels as they are, as model-uint8.onnx does
    "float16": "model-float16.onnx",
    "int8": "model-int8.onnx",
}
FULL = "model-uint8.onnx"
"""What a file in reduced precision is compared with."""
FURTHER_INPUT: InputVariant = "uint8"
"""Of files in further formats, which share the golden vectors of FULL."""
FURTHER: dict[str, str] = {
    # what the model card says of it by format, where it was asked for; any of `formats.FORMATS` joins by its line here
    "openvino": "OpenVINO's own files in an archive, pixels as they are",
    "ort": "ONNX Runtime's own format, for its mobile packages, pixels as they are",
    "c": "C99 source, pixels as they are, one image at a time",
    "litert": "LiteRT, formerly TensorFlow Lite, pixels as they are, one image at a time",
    "executorch": "an ExecuTorch program for XNNPACK, pixels as they are, 1 to 64 images at a time",
}


def further_file(format_name: str) -> str:
    """The file of a network in that further format."""
    return f"{FULL.removesuffix(FORMATS['onnx'].suffix)}{FORMATS[format_name].suffix}"


def beside_further(format_name: str) -> dict[str, str]:
    """What stands beside a file in that further format, by name: what it is."""
    spec = FORMATS[format_name]
    places = spec.beside_of(Path(further_file(format_name)))
    return dict(zip((path.name for path in places), spec.beside.values(), strict=True))


ALL_MODELS = (
    MODELS
    | {file: ModelFile("onnx", MODELS[FULL].input, precision) for precision, file in REDUCED.items()}
    | {further_file(name): ModelFile(name, FURTHER_INPUT) for name in FURTHER}
)
GOLDEN: dict[str, str] = {
    # the ONNX file: where its test inputs and outputs are
    "model.onnx": "test_data_set_0",
    "model-uint8.onnx": "uint8/test_data_set_0",
    "model-float16.onnx": "float16/test_data_set_0",
    "model-int8.onnx": "int8/test_data_set_0",
}
GOLDEN_FILES = ("input_0.pb", "output_0.pb")

DEFAULT_EPOCH = 315532800
"""1980-01-01 UTC, the first date that zip archives hold: the time of everything where SOURCE_DATE_EPOCH is unset."""


_LONGEST_VERSION = 64
"""Characters; it is part of the names of files."""


def models_with(precisions: Iterable[Precision] = (), formats: Iterable[str] = ()) -> dict[str, ModelFile]:
    """The model files of a network released in those precisions and formats too, in the order of `ALL_MODELS`."""
    files = {*MODELS, *(REDUCED[precision] for precision in precisions), *map(further_file, formats)}
    return {file: made for file, made in ALL_MODELS.items() if file in files}


def models_of(config: Mapping[str, Any]) -> dict[str, ModelFile]:
    """The model files that a network's config.json promises.

    Before schema 2 there were none in reduced precision, before schema 3 none in further formats.
    """
    precisions = (precision for precision in REDUCED if precision in config.get("reduced", ()))
    return models_with(precisions, (name for name in FURTHER if name in config.get("further", ())))


def archive_name(network: str, version: str) -> str:
    """The name of a network's archive."""
    return f"{network}-{version}.tar.gz"


def measurements_name(version: str) -> str:
    """What was measured during the build, beside the release."""
    return f"{version}.measurements.json"


def release_version(text: str) -> str:
    """`text` as a normalized PEP 440 version ("1.0.0", "1.1rc1"), fit for the name of a folder.

    Raises `InvalidInput` for anything else.
    """
    from packaging.version import InvalidVersion, Version

    try:
        version = Version(text)
    except InvalidVersion:
        raise InvalidInput(f"{text[:100]!r} is not a version. Use one like 1.0.0 or 1.1rc1 (PEP 440).") from None
    if version.epoch or len(str(version)) > _LONGEST_VERSION:
        raise InvalidInput(f"{text[:100]!r} cannot be the version of a release. Use a short one without an epoch (1!).")
    return str(version)


def source_date_epoch(environment: dict[str, str]) -> int:
    """The time of a build, in seconds since 1970: SOURCE_DATE_EPOCH, else `DEFAULT_EPOCH`.

    Raises `InvalidInput` where the variable is no such number.
    """
    text = environment.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return DEFAULT_EPOCH
    # 2**32: what gzip's header can hold
    if not text.isascii() or not text.isdecimal() or int(text) >= 2**32:
        raise InvalidInput(
            f"SOURCE_DATE_EPOCH={text!r} is not a number of seconds since 1970. Correct it, or unset it."
        )
    return int(text)
