"""Faults that exports are known for, planted one by one: each is refused, and by the check that is there for it."""

import json
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cifar_export.diagnosis.prove import prove
from cifar_export.errors import CifarExportError, GateFailed
from cifar_export.exporting.artifact import export
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.gate.check import check
from cifar_export.gate.divergence import Located
from cifar_export.gate.inputs import few_of_each, input_sets
from cifar_export.networks.resnet import with_input
from cifar_export.networks.zoo import CIFAR10, NETWORKS, Normalization
from cifar_export.weights.core import build_network
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.planting import attribute, edit, edit_all, keep_mantissa_bits, node, nudge, plant, remove, swap, together

SPEC = NETWORKS["cifar10_resnet20"]
# What each check says when it refuses.
CHECKS = {
    "numeric gate": r"onnxruntime-cpu: (error .* exceeds|NaN or infinite logits)",
    "metadata check": r"^metadata says ",
    "shape check": r"its input is not known|logits are float32|has shape|not what was asked for: .*input",
    # ONNX Runtime 1.25 looks at some shapes only when it runs
    "loader": r"onnxruntime-cpu cannot load|not an ONNX file|damaged safetensors|InvalidArgument: .* bias shape",
    "mode check": r"is in training mode",
}


@dataclass
class Bench:
    """What a fault is planted in: seeded weights, their file and their exports."""

    weights: object
    weights_file: object
    exported: object
    folder: object

    def onnx(self, change, variant="float32"):
        """The ONNX file changed, and judged."""
        file = plant(self.exported("onnx", variant, 17).path, self.folder / "faulty.onnx", change)
        return self.judge(file)

    def judge(self, file, weights=None):
        """All that parity holds against `file`."""
        report = prove(weights or self.weights, file=file, runtimes=["onnxruntime-cpu"])
        return report.failures

    def from_module(self, change, variant="float32", checked=True):
        """An ONNX file made from a network that `change` has changed."""
        module = with_input(build_network(self.weights), variant, self.weights.normalization).eval()
        change(module)
        export(self.weights, "onnx", choices=OnnxChoices(17), variant=variant, module=module, checked=checked,
               output=self.folder / "faulty.onnx")  # fmt: skip
        return []

    def from_state(self, change):
        """A checkpoint that `change` has changed, loaded."""
        state = load_file(self.weights_file)
        target = self.folder / "cifar10_resnet20.safetensors"
        save_file(change(state), target)
        load_weights(SPEC, str(target), self.weights.normalization)
        return []


def swapped_normalization(bench):
    return bench.onnx(swap("normalize.sub.operand", "normalize.div_2.operand"), "uint8")


def swapped_normalization_in_metadata(bench):
    old = bench.weights.normalization
    other = replace(bench.weights, normalization=Normalization(old.std, old.mean))
    export(other, "onnx", choices=OnnxChoices(17), output=bench.folder / "a.onnx", checked=False)
    return bench.judge(bench.folder / "a.onnx")


def bgr(bench):
    return bench.onnx(edit("conv1.weight", lambda kernel: np.ascontiguousarray(kernel[:, ::-1])))


def bgr_pixels(bench):
    operands = [f"normalize.{name}.operand" for name in ("sub", "div_2")]
    kernels = [edit(name, lambda array: array[:, ::-1]) for name in ("conv1.weight", *operands)]
    return bench.onnx(together(*kernels), "uint8")


def rows_for_columns(bench):
    return bench.onnx(attribute("channels_first", "perm", [0, 3, 2, 1]), "uint8")


def channels_last(bench):
    def change(model):
        for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim[1:], (32, 32, 3), strict=True):
            dim.dim_value = size

    return bench.onnx(change)


def train_mode(bench):
    return bench.from_module(lambda module: module.train())


def one_batch_norm_in_train_mode(bench):
    return bench.from_module(lambda module: module.layer2[0].bn1.train())


def batch_statistics(bench):
    """What a file exported in training mode computes: the statistics of the batch that it was traced with."""
    pixels = torch.from_numpy(input_sets()["noise"][:8]).permute(0, 3, 1, 2) / 255.0

    def change(module):
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = 1.0
        module.train()
        with torch.no_grad():
            module(pixels)
        module.eval()

    return bench.from_module(change)


def wrong_epsilon(bench):
    def change(module):
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.eps = 1e-3  # TensorFlow's

    return bench.from_module(change)


def tf32(bench):
    return bench.onnx(edit_all(keep_mantissa_bits(10)))


def bfloat16(bench):
    return bench.onnx(edit_all(keep_mantissa_bits(7)))


def truncated_weights(bench):
    target = bench.folder / "cifar10_resnet20.safetensors"
    target.write_bytes(bench.weights_file.read_bytes()[:-1000])
    load_weights(SPEC, str(target), bench.weights.normalization)
    return []


def truncated_file(bench):
    file = bench.folder / "a.onnx"
    file.write_bytes(bench.exported("onnx", "float32", 17).path.read_bytes()[:-9000])
    return bench.judge(file)


def zeroed_tail(bench):
    """A layer that a broken download left without its numbers."""
    return bench.onnx(edit("layer3.2.conv2.weight", np.zeros_like))


def transposed_fc(bench):
    return bench.from_state(lambda state: state | {"fc.weight": state["fc.weight"].T.contiguous()})


def transposed_fc_in_the_graph(bench):
    return bench.onnx(edit("fc.weight", lambda matrix: np.ascontiguousarray(matrix.T)))


def reinterpreted_fc(bench):
    return bench.onnx(edit("fc.weight", lambda matrix: np.ascontiguousarray(matrix.T).reshape(matrix.shape)))


def padding_off_by_one(bench):
    return bench.onnx(attribute("layer1.1.conv1", "pads", [0, 0, 2, 2]))


def no_padding(bench):
    return bench.onnx(attribute("layer3.2.conv1", "pads", [0, 0, 0, 0]))


def stride_of_a_stage(bench):
    names = ("layer3.0.conv1", "layer3.0.downsample.0")
    return bench.onnx(together(*(attribute(name, "strides", [1, 1]) for name in names)))


def stride_of_one_branch(bench):
    return bench.onnx(attribute("layer3.0.conv1", "strides", [1, 1]))


def missing_relu(bench):
    return bench.onnx(remove("layer2.1.conv1.relu"))


def missing_last_relu(bench):
    return bench.onnx(remove("layer3.2.relu"))


def shortcut_left_out(bench):
    def change(model):
        node(model, "layer1.2.add").input[1] = "layer1.2.conv2"

    return bench.onnx(change)


def permuted_labels(bench):
    def change(model):
        entry = next(entry for entry in model.metadata_props if entry.key == "labels")
        entry.value = json.dumps(sorted(json.loads(entry.value), reverse=True))

    return bench.onnx(change)


def permuted_classes(bench):
    return bench.onnx(
        together(*(edit(f"fc.{name}", lambda array: np.roll(array, 1, axis=0)) for name in ("weight", "bias")))
    )


def labels_of_another_data_set(bench):
    def change(model):
        next(entry for entry in model.metadata_props if entry.key == "dataset").value = "cifar100"

    return bench.onnx(change)


def other_weights(bench):
    other = random_weights(SPEC, seed=1)
    return bench.judge(bench.exported("onnx", "float32", 17).path, replace(bench.weights, sha256=other.sha256))


def another_network(bench):
    """The numbers of other weights, under the name of these."""
    other = replace(random_weights(SPEC, seed=1), sha256=bench.weights.sha256)
    export(other, "onnx", choices=OnnxChoices(17), output=bench.folder / "a.onnx", checked=False)
    return bench.judge(bench.folder / "a.onnx")


def softmax_at_the_end(bench):
    def change(model):
        last = node(model, "fc")
        last.output[0] = "raw"
        model.graph.node.append(softmax())

    return bench.onnx(change)


def softmax():
    from onnx import helper

    return helper.make_node("Softmax", ["raw"], ["logits"], name="softmax", axis=1)


def one_number(bench):
    return bench.onnx(edit("layer2.2.conv1.weight", nudge))


FAULTS = {
    swapped_normalization: "numeric gate",
    swapped_normalization_in_metadata: "metadata check",
    bgr: "numeric gate",
    bgr_pixels: "numeric gate",
    rows_for_columns: "numeric gate",
    channels_last: "metadata check",
    train_mode: "mode check",
    one_batch_norm_in_train_mode: "mode check",
    batch_statistics: "numeric gate",
    wrong_epsilon: "numeric gate",
    tf32: "numeric gate",
    bfloat16: "numeric gate",
    truncated_weights: "loader",
    truncated_file: "loader",
    zeroed_tail: "numeric gate",
    transposed_fc: "shape check",
    transposed_fc_in_the_graph: "loader",
    reinterpreted_fc: "numeric gate",
    padding_off_by_one: "numeric gate",
    no_padding: "loader",
    stride_of_a_stage: "numeric gate",
    stride_of_one_branch: "loader",
    missing_relu: "numeric gate",
    missing_last_relu: "numeric gate",
    shortcut_left_out: "numeric gate",
    permuted_labels: "metadata check",
    permuted_classes: "numeric gate",
    labels_of_another_data_set: "metadata check",
    other_weights: "metadata check",
    another_network: "numeric gate",
    softmax_at_the_end: "numeric gate",
    one_number: "numeric gate",
}


@pytest.fixture
def bench(weights20, weights20_file, exported, tmp_path, monkeypatch):
    """A bench with a part of the images that prove a single export, that runs everything in this process."""
    few = {name: images[:6] for name, images in few_of_each().items()}
    monkeypatch.setattr("cifar_export.diagnosis.prove.input_sets", lambda: few)
    monkeypatch.setattr("cifar_export.exporting.artifact.few_of_each", lambda: few)
    monkeypatch.setattr(
        "cifar_export.diagnosis.prove.check", lambda *args, isolated=False, **kwargs: check(*args, **kwargs)
    )
    monkeypatch.setattr("cifar_export.diagnosis.prove.locate", lambda *args: Located((), None))  # has tests of its own
    return Bench(weights20, weights20_file, exported, tmp_path)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_check_that_is_meant_for_it_refuses_the_fault(bench, fault):
    try:
        said = fault(bench)
    except CifarExportError as error:
        said = [str(error).replace("parity failed: ", "")]
    named = {name for name, words in CHECKS.items() if any(re.search(words, line) for line in said)}
    assert named == {FAULTS[fault]}, said


def test_the_same_bench_lets_a_clean_network_pass(bench):
    assert bench.onnx(lambda model: None) == []
    assert bench.onnx(lambda model: None, "uint8") == []
    assert bench.from_module(lambda module: None) == []
    assert bench.from_state(lambda state: state) == []
    assert CIFAR10.normalization == bench.weights.normalization
    with pytest.raises(GateFailed):  # and what it refuses leaves nothing
        bench.from_module(lambda module: module.fc.weight.mul_(1.001))
