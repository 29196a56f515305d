"""Small releases for tests: the real layout and the real assembly over networks with tiny stand-in files."""

import json
import random
from pathlib import Path

import onnx
from onnx import TensorProto, helper

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
from exporter.zoo import NETWORKS

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fake_network(folder: Path, name: str, version: str = "1.0.0") -> Path:
    """A network folder with the files of a release and seeded contents; the ONNX files parse."""
    spec = NETWORKS[name]
    rng = random.Random(name)
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(rng.randbytes(3000))
    models = {}
    for file, (format_name, variant) in MODELS.items():
        if format_name == "onnx":
            (folder / file).write_bytes(_tiny_onnx(rng).SerializeToString())
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
    for golden in GOLDEN.values():
        (folder / golden).mkdir(parents=True)
        for file in GOLDEN_FILES:
            (folder / golden / file).write_bytes(rng.randbytes(500))
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
        "weights": {"sha256": "0" * 64, "source": "bundled", "recipe": {"name": "quick"}, "seed": 0, "training": {}},
        "accuracy": {
            **accuracy,
            "images": 10000,
            "below_reference": False,
            "reference": {"top1": spec.reference.top1, "top5": spec.reference.top5},
            "runtimes": {"pytorch": accuracy, "onnxruntime-cpu": accuracy},
        },
        "models": models,
        "golden": {file: {"folder": golden, "atol": 1e-4} for file, golden in GOLDEN.items()},
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


def _tiny_onnx(rng: random.Random) -> onnx.ModelProto:
    value = helper.make_tensor("w", TensorProto.FLOAT, [4], [rng.random() for _ in range(4)])
    x = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph([helper.make_node("Add", ["input", "w"], ["logits"])], "tiny", [x], [y], [value])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
