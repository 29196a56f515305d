"""Small releases for tests: the real layout and the real assembly over networks with tiny stand-in files."""

import json
import random
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cifar_export.exporting.golden import tolerance
from cifar_export.formats import FileFacts
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.gate.compare import Comparison
from cifar_export.gate.inputs import input_sets
from cifar_export.gate.report import ParityReport, RuntimeResult
from cifar_export.networks.zoo import INPUT_VARIANTS, NETWORKS, InputVariant, NetworkSpec
from cifar_export.release.build.assemble import Origin, assemble, write_json
from cifar_export.release.documents.config import config_document, parity_document
from cifar_export.release.layout import (
    CARD,
    CONFIG,
    DEFAULT_EPOCH,
    GOLDEN,
    GOLDEN_FILES,
    LABELS,
    MODELS,
    PARITY,
    WEIGHTS,
)
from cifar_export.release.required import REQUIRED, YARDSTICK
from cifar_export.release.sums import write_sums
from cifar_export.system.files import sha256_file
from cifar_export.training.recipe import PRESETS
from cifar_export.weights.index import BundledEntry

NETWORK_FILES = (
    "model.safetensors",
    "model.onnx",
    "model-uint8.onnx",
    "model.torchscript.pt",
    "model.pt2",
    "config.json",
    "labels.txt",
    "test_data_set_0/input_0.pb",
    "test_data_set_0/output_0.pb",
    "uint8/test_data_set_0/input_0.pb",
    "uint8/test_data_set_0/output_0.pb",
    "parity.json",
    "README.md",
    "SHA256SUMS",
)
"""The files of a network in a release, which strangers' programs name."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fake_network(folder: Path, name: str, version: str = "1.0.0") -> Path:
    """A network folder with the files of a release and seeded contents; the ONNX files run, as golden vectors say."""
    spec = NETWORKS[name]
    rng = random.Random(name)
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(rng.randbytes(3000))
    weights_sha256 = sha256_file(folder / WEIGHTS)
    facts, tolerances = {}, {}
    for file, (format_name, variant, _) in MODELS.items():
        facts[file] = FileFacts(format_name, variant, None)
        if format_name == "onnx":
            facts[file] = FileFacts(format_name, variant, None, ir_version=8, choices=OnnxChoices(18))
            model = _tiny_onnx(spec, variant, weights_sha256, rng.randrange(2**32))
            (folder / file).write_bytes(model.SerializeToString(deterministic=True))
            tolerances[file] = _write_golden(model, folder / GOLDEN[file])
        else:
            (folder / file).write_bytes(rng.randbytes(2000))
    entry = fake_entry(spec, weights_sha256)
    config = config_document(entry, spec, version, facts, tolerances)
    parity = parity_document(entry, {variant: _passed(entry, variant) for variant in INPUT_VARIANTS})
    write_json(folder / CONFIG, config)
    write_json(folder / PARITY, parity)
    (folder / LABELS).write_text("\n".join(spec.dataset.labels) + "\n")
    (folder / CARD).write_text(f"# {name}\n")
    write_sums(folder)
    return folder


def fake_entry(spec: NetworkSpec, sha256: str = "0" * 64, top1: float = 90.0, top5: float = 99.0) -> BundledEntry:
    """A line of the index of weights, of that accuracy."""
    return BundledEntry(
        network=spec.name,
        model=spec.model.name,
        dataset=spec.dataset.name,
        file=f"{spec.name}-{sha256[:8]}.safetensors",
        sha256=sha256,
        normalization=spec.dataset.normalization,
        recipe=PRESETS["quick"].as_dict(),
        seed=0,
        metrics={"images": 10000, "top1": top1, "top5": top5, "pytorch_top1": top1, "pytorch_top5": top5},
        below_reference=top1 < spec.reference.top1,
        provenance={"hardware": "a processor", "precision": "float32", "seconds": 60.0, "log": "a.jsonl"},
    )


def _passed(entry: BundledEntry, variant: InputVariant) -> ParityReport:
    """A report in which every required runtime passed."""
    rows = []
    for name in REQUIRED:
        sets = [Comparison(inputs, len(some), 1e-6, 1e-7, 1e-5, 1, 1, 0, None) for inputs, some in input_sets().items()]
        rows.append(RuntimeResult(name, "CPU", "yardstick" if name == YARDSTICK else "passed", None, tuple(sets)))
    return ParityReport(entry.network, variant, entry.sha256, {}, {}, tuple(rows))


def fake_release(
    release: Path, names: tuple[str, ...] = ("cifar10_resnet20", "cifar100_resnet20"), version: str = "1.0.0"
) -> Path:
    """A whole release folder of such networks."""
    for name in names:
        fake_network(release / name, name, version)
    assemble(release, Origin(version, COMMIT, DEFAULT_EPOCH))
    return release


def _tiny_onnx(spec: NetworkSpec, variant: str, weights_sha256: str, seed: int) -> onnx.ModelProto:
    """The mean of each color channel, and a linear layer, behind the ports and with the metadata of a real export."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(3, spec.dataset.classes)).astype(np.float32)
    tensors = [numpy_helper.from_array(weight, "weight")]
    name, element, shape, axes = "input", TensorProto.FLOAT, ["batch", 3, 32, 32], [2, 3]
    if variant == "uint8":
        name, element, shape, axes = "image", TensorProto.UINT8, ["batch", 32, 32, 3], [1, 2]
    tensors.append(numpy_helper.from_array(np.array(axes, np.int64), "axes"))
    nodes = [
        helper.make_node("Cast", [name], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weight"], ["logits"]),
    ]
    value = helper.make_tensor_value_info(name, element, shape)
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", spec.dataset.classes])
    graph = helper.make_graph(nodes, "tiny", [value], [logits], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    normalization = {key: json.dumps(value) for key, value in spec.dataset.normalization.as_dict().items()}
    helper.set_model_props(
        model,
        {
            "schema": "1",
            "model": spec.model.name,
            "dataset": spec.dataset.name,
            "input": variant,
            "labels": json.dumps(list(spec.dataset.labels)),
            **normalization,
            "weights_sha256": weights_sha256,
            "parity": "passed",
        },
    )
    return model


def _write_golden(model: onnx.ModelProto, folder: Path) -> float:
    """Two images and the logits of `model` for them; the tolerance."""
    port = model.graph.input[0]
    shape = (2, *(dim.dim_value for dim in port.type.tensor_type.shape.dim[1:]))
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    if port.name == "input":
        images = images.astype(np.float32)
    logits = ReferenceEvaluator(model).run(None, {port.name: images})[0]
    folder.mkdir(parents=True)
    for file, values, name in zip(GOLDEN_FILES, (images, logits), (port.name, "logits"), strict=True):
        (folder / file).write_bytes(numpy_helper.from_array(values, name).SerializeToString(deterministic=True))
    return tolerance(logits)
