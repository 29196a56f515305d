"""The graph that we write: right in every opset, folded in float64, the same bytes whatever torch's exporters do."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from cifar_export.errors import InvalidInput, Unavailable
from cifar_export.formats.onnx_choices import HIGHEST_OPSET, LOWEST_OPSET, OnnxChoices
from cifar_export.formats.onnx_graph import onnx_model, serialize
from cifar_export.gate.compare import bound, compare
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.preprocess import as_variant
from cifar_export.networks.resnet import with_input
from cifar_export.networks.zoo import CIFAR10, MODELS, NETWORKS, Accuracy, InputVariant, ModelSpec, NetworkSpec
from cifar_export.runtimes.pytorch import Eager, Reference
from cifar_export.weights.core import Weights, build_network
from cifar_export.weights.seeded import random_weights

from support.torch_onnx import by_torch

# by opset: https://github.com/onnx/onnx/blob/main/docs/Versioning.md#released-versions
LOWEST_IR = {
    9: 4,
    10: 5,
    11: 6,
    **dict.fromkeys(range(12, 15), 7),
    **dict.fromkeys(range(15, 19), 8),
    **dict.fromkeys((19, 20), 9),
    **dict.fromkeys((21, 22), 10),
    23: 11,
    24: 12,
    25: 13,
    26: 13,
}
DEPTHS = [pytest.param(name, marks=[] if name == "resnet20" else [pytest.mark.slow]) for name in MODELS]
TINY = NetworkSpec(ModelSpec("resnet8", 1), CIFAR10, Accuracy(0.0, 0.0), "")
PIXELS = bundled_images()[:16]


@functools.cache
def seeded(model: str) -> Weights:
    return random_weights(NETWORKS[f"cifar10_{model}"], seed=3)


@functools.cache
def network_of(model: str, variant: InputVariant) -> nn.Module:
    weights = seeded(model)
    return with_input(build_network(weights), variant, weights.normalization).eval()


@functools.cache
def by_pytorch(model: str, variant: InputVariant) -> tuple[Any, Any]:
    """Logits of `PIXELS` in float64 and in float32."""
    weights = seeded(model)
    images = as_variant(PIXELS, variant, weights.normalization)
    double = with_input(build_network(weights).double(), variant, weights.normalization).eval()
    return Reference(double).logits(images), Eager(network_of(model, variant), "cpu").logits(images)


def problem_of(model: onnx.ModelProto, name: str, variant: InputVariant) -> str | None:
    """What the gate says of `model` in ONNX Runtime; None where float32 explains its errors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # the exporters' files draw warnings of unused initializers
    session = onnxruntime.InferenceSession(serialize(model), options, providers=["CPUExecutionProvider"])
    images = as_variant(PIXELS, variant, seeded(name).normalization)
    parts = [images[:1], images[1:8], images[8:]]  # any batch
    logits = np.concatenate([session.run(None, {session.get_inputs()[0].name: part})[0] for part in parts])
    reference, single = by_pytorch(name, variant)
    return compare("images", reference, logits, bound(reference, [single])).problem


@pytest.mark.parametrize("variant", ["float32", "uint8"])
@pytest.mark.parametrize("opset", range(LOWEST_OPSET, HIGHEST_OPSET + 1))
@pytest.mark.parametrize("name", DEPTHS)
def test_in_every_opset_the_graph_is_valid_and_computes_what_the_network_does(
    name: str, opset: int, variant: InputVariant
) -> None:
    model = onnx_model(network_of(name, variant), "network", OnnxChoices(opset))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert model.ir_version == LOWEST_IR[opset]
    for port in (*model.graph.input, *model.graph.output):
        assert port.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert problem_of(model, name, variant) is None


def test_the_graph_is_the_same_in_every_opset() -> None:
    first, *others = (
        onnx_model(network_of("resnet20", "uint8"), "network", OnnxChoices(opset)).graph for opset in (9, 17, 18, 26)
    )
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    "opset", [17, *(pytest.param(opset, marks=pytest.mark.slow) for opset in (13, 18, 21))]
)  # 18 and 21 by the exporter based on torch.export
@pytest.mark.parametrize("variant", ["float32", "uint8"])
def test_torchs_exporters_write_graphs_that_compute_the_same(opset: int, variant: InputVariant) -> None:
    network = network_of("resnet20", variant)
    witness, ours = by_torch(network, variant, opset), onnx_model(network, "network", OnnxChoices(opset))
    assert [entry.version for entry in witness.opset_import if entry.domain == ""] == [opset]
    assert [problem_of(model, "resnet20", variant) for model in (witness, ours)] == [None, None]
    assert witness.graph.input[0].type == ours.graph.input[0].type
    assert witness.graph.output[0].type == ours.graph.output[0].type


def test_every_weight_is_the_float32_that_is_nearest_to_the_folded_one() -> None:
    """Folded once more, in extended precision: batch norm in float32 would round two or three times."""
    network = build_network(seeded("resnet20"))
    parts = dict(network.named_modules())
    model = onnx_model(network, "network", OnnxChoices(17))
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    convolutions = [name for name, part in parts.items() if isinstance(part, nn.Conv2d)]
    assert len(found) == 2 * (len(convolutions) + 1)
    for name in convolutions:
        norm: Any = parts[name[:-1] + "1" if name.endswith("downsample.0") else name.replace("conv", "bn")]
        kernel, gain, shift, mean, variance = (
            tensor.detach().numpy().astype(np.longdouble)
            for tensor in (parts[name].weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        )
        scale = gain / np.sqrt(variance + np.longdouble(1e-5))
        for part, exact in (("weight", kernel * scale.reshape(-1, 1, 1, 1)), ("bias", shift - mean * scale)):
            rounded = found[f"{name}.{part}"]
            assert rounded.dtype == np.float32
            off = np.abs(rounded - exact) / np.spacing(np.abs(rounded))
            assert float(off.max()) <= 0.5 + 1e-6, f"{name}.{part}"
    assert np.array_equal(found["fc.weight"], network.fc.weight.numpy())
    assert np.array_equal(found["fc.bias"], network.fc.bias.numpy())


def test_the_epsilon_of_each_batch_norm_is_its_own() -> None:
    network = build_network(seeded("resnet20"))
    network.get_submodule("layer2.0.bn1").eps = 0.5  # type: ignore[assignment]
    changed, before = (
        {tensor.name: tensor for tensor in onnx_model(module, "network", OnnxChoices(17)).graph.initializer}
        for module in (network, network_of("resnet20", "float32"))
    )
    different = {name for name in before if changed[name] != before[name]}
    assert different == {"layer2.0.conv1.weight", "layer2.0.conv1.bias"}


@pytest.mark.parametrize(
    ("variant", "sha256"),
    [
        ("float32", "9ec7b5821e3db0e4a4f69358682a2db23772be04586723f295c25e04d9193293"),
        ("uint8", "568411752ae4a28fd1b130ce82fb93cf4a3eedd0aec7b6c8561d7b98942e62bb"),
    ],
)
def test_the_bytes_are_those_of_every_machine_and_torch(
    monkeypatch: pytest.MonkeyPatch, variant: InputVariant, sha256: str
) -> None:
    def never(*_arguments: object, **_options: object) -> None:
        raise AssertionError("torch's exporter was called")

    monkeypatch.setattr(torch.onnx, "export", never)
    monkeypatch.setattr(torch.jit, "trace", never)
    weights = random_weights(TINY, seed=11)
    module = with_input(build_network(weights), variant, weights.normalization).eval()
    data = serialize(onnx_model(module, "cifar10_resnet8", OnnxChoices(17)))
    assert hashlib.sha256(data).hexdigest() == sha256


WITHOUT = """
import sys
sys.modules["onnxscript"] = sys.modules["onnx_ir"] = None  # an import of them fails
import cifar_export.__main__ as cli
cli.main()
"""


@pytest.mark.parametrize(("command", "suffix"), [("onnx", ".onnx"), ("torch-export", ".pt2")])
def test_nothing_that_users_run_needs_onnxscript(tmp_path: Path, command: str, suffix: str) -> None:
    output = tmp_path / f"a{suffix}"
    arguments = [command, "resnet8", "--weights", "random", "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert output.is_file()


class Doubled(nn.Module):
    """No network of ours."""


def test_another_module_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidInput, match="Doubled cannot be written as ONNX"):
        onnx_model(Doubled().eval(), "network", OnnxChoices(17))
    network = build_network(seeded("resnet20"))
    network.layer2[1] = nn.Identity()
    with pytest.raises(InvalidInput, match=r"layer2\.1 is a Identity, not the network's block"):
        onnx_model(network, "network", OnnxChoices(17))


@pytest.mark.parametrize(
    ("norm", "said"),
    [
        (nn.Identity(), r"layer2\.1\.conv1 has no batch norm"),
        (nn.BatchNorm2d(32, affine=False), "a batch norm lacks weights"),
        (nn.BatchNorm2d(32, track_running_stats=False), "a batch norm lacks weights or running statistics"),
    ],
    ids=["none", "no scale", "no statistics"],
)
def test_a_network_with_nothing_to_fold_is_refused(norm: nn.Module, said: str) -> None:
    network = build_network(seeded("resnet20"))
    network.get_submodule("layer2.1").bn1 = norm.eval()
    with pytest.raises(InvalidInput, match=said):
        onnx_model(network, "network", OnnxChoices(17))


def test_an_onnx_that_does_not_know_the_opset_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(onnx.helper.OP_SET_ID_VERSION_MAP, ("ai.onnx", 26))
    with pytest.raises(Unavailable, match=r"does not know opset 26\. `pip install --upgrade onnx`"):
        onnx_model(network_of("resnet20", "float32"), "network", OnnxChoices(26))
