"""Small releases for tests: the real layout and the real assembly over networks with tiny stand-in files."""

import json
import random
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from exporter.files import sha256_file
from exporter.golden import tolerance
from exporter.release.assemble import Origin, assemble
from exporter.release.layout import (
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
from exporter.release.sums import write_sums
from exporter.zoo import NETWORKS, NetworkSpec

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fake_network(folder: Path, name: str, version: str = "1.0.0") -> Path:
    """A network folder with the files of a release and seeded contents; the ONNX files run, as golden vectors say."""
    spec = NETWORKS[name]
    rng = random.Random(name)
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(rng.randbytes(3000))
    weights_sha256 = sha256_file(folder / WEIGHTS)
    models = {}
    golden = {}
    for file, (format_name, variant) in MODELS.items():
        if format_name == "onnx":
            model = _tiny_onnx(spec, variant, weights_sha256, rng.randrange(2**32))
            (folder / file).write_bytes(model.SerializeToString(deterministic=True))
            golden[file] = _write_golden(model, folder / GOLDEN[file])
        else:
            (folder / file).write_bytes(rng.randbytes(2000))
        port = {"name": "input", "dtype": "float32", "shape": ["batch", 3, 32, 32]}
        if variant == "uint8":
            port = {"name": "image", "dtype": "uint8", "shape": ["batch", 32, 32, 3]}
        models[file] = {
            "format": format_name,
            "input": variant,
            "opset": 18 if format_name == "onnx" else None,
            "ir_version": 8 if format_name == "onnx" else None,
            "inputs": [port],
            "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", spec.dataset.classes]}],
        }
    accuracy = {"top1": 90.0, "top5": 99.0}
    config = {
        "schema": 1,
        "network": name,
        "model": spec.model.name,
        "dataset": spec.dataset.name,
        "version": version,
        "tool": {"name": "cifar-export", "version": "0.1.0"},
        "labels": list(spec.dataset.labels),
        "normalization": spec.dataset.normalization.as_dict(),
        "weights": {
            "sha256": weights_sha256,
            "source": "bundled",
            "recipe": {"name": "quick"},
            "seed": 0,
            "training": {},
        },
        "accuracy": {
            **accuracy,
            "images": 10000,
            "below_reference": False,
            "reference": {"top1": spec.reference.top1, "top5": spec.reference.top5},
            "runtimes": {"pytorch": accuracy, "onnxruntime-cpu": accuracy},
        },
        "models": models,
        "golden": {file: {"folder": GOLDEN[file], "atol": atol, "rtol": 0.0} for file, atol in golden.items()},
        "built_with": {"python": "3.11.7", "torch": "2.15.0", "onnx": "1.23.0", "onnxruntime": "1.31.0"},
    }
    parity = {
        "schema": 1,
        "passed": True,
        "reference": "PyTorch float64, CPU",
        "rule": {"multiple": 4.0, "ulps": 4.0},
        "inputs": {
            variant: [
                {"runtime": runtime, "passed": True, "images": 64}
                for runtime in ("torchscript", "torch-export", "onnxruntime-cpu")
            ]
            for variant in ("float32", "uint8")
        },
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    (folder / PARITY).write_text(json.dumps(parity, indent=1, sort_keys=True) + "\n")
    (folder / LABELS).write_text("\n".join(spec.dataset.labels) + "\n")
    (folder / CARD).write_text(f"# {name}\n")
    write_sums(folder)
    return folder


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
