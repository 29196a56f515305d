"""What an ONNX file says of itself, read without running it."""

import atheris
from harness import fuzz, memory_folder

with atheris.instrument_imports(include=["cifar_export.formats"]):
    from cifar_export.exporting.artifact import write_file
    from cifar_export.exporting.subject import contradicting, facts_of

from cifar_export.errors import CifarExportError
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.networks.resnet import with_input
from cifar_export.networks.zoo import CIFAR10, Accuracy, ModelSpec, NetworkSpec
from cifar_export.weights.core import build_network
from cifar_export.weights.seeded import random_weights

SPEC = NetworkSpec(ModelSpec("resnet8", 1), CIFAR10, Accuracy(0.0, 0.0), "")
FOLDER = memory_folder()
WEIGHTS = random_weights(SPEC, 0)


def target(data: bytes) -> None:
    file = FOLDER / "model.onnx"
    file.write_bytes(data)
    contradicting(facts_of(file, None, trust=False), WEIGHTS)


def written(variant: str, choices: OnnxChoices) -> bytes:
    module = with_input(build_network(WEIGHTS), variant, WEIGHTS.normalization).eval()
    write_file(FOLDER / "seed.onnx", WEIGHTS, "onnx", variant, module, choices=choices, checked=True)
    return (FOLDER / "seed.onnx").read_bytes()


def without_weights(data: bytes) -> bytes:
    """The same file with small initializers: mutations hit what is parsed."""
    import onnx

    model = onnx.load_model_from_string(data)
    for tensor in model.graph.initializer:
        tensor.raw_data = b""
    return model.SerializeToString()


FILES = (written("float32", OnnxChoices()), written("uint8", OnnxChoices(9, 2)), written("unit", OnnxChoices(26)))
fuzz("onnx_file", target, map(without_weights, FILES), (CifarExportError,))
