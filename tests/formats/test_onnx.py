"""ONNX files: what is asked is delivered, under the contract's names."""

import json

import numpy as np
import onnx
import pytest

from cifar_export.errors import GateFailed
from cifar_export.exporting.artifact import export
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.networks.zoo import CIFAR10, NETWORKS
from cifar_export.weights.seeded import random_weights


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("opset", "ir_version"), [(9, 4), (13, 7), (17, 8), (18, 8), (21, 10), (26, 13)])
def test_the_opset_asked_for_is_in_the_file_with_the_lowest_ir_version(exported, opset, ir_version):
    artifact = exported("onnx", "uint8" if opset < 18 else "float32", opset)
    model = onnx.load(artifact.path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert (model.ir_version, artifact.opset, artifact.ir_version) == (ir_version, opset, ir_version)
    onnx.checker.check_model(model, full_check=True)


def later_opset(model):
    model.opset_import[0].version = 18


def later_ir(model):
    model.ir_version = 10


def another_input(model):
    model.graph.input[0].name = model.graph.node[0].input[0] = "x"


def fixed_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def another_output(model):
    model.graph.output[0].name = model.graph.node[-1].output[0] = "scores"


def fewer_classes(model):
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9


def weights_elsewhere(model):
    for tensor in model.graph.initializer:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (later_opset, r"opsets \[\('', 18\)\], not 17"),
        (later_ir, "IR version 10 is not the lowest for opset 17"),
        (another_input, "another input than the contract's"),
        (fixed_batch, "another input than the contract's"),
        (another_output, "another output than the contract's"),
        (fewer_classes, "another output than the contract's"),
        (weights_elsewhere, "weights outside the file"),
    ],
)
def test_what_was_asked_for_is_read_back_from_the_finished_file(weights20, tmp_path, monkeypatch, change, said):
    """Whatever the steps before did: the last one looks at the bytes that would be written."""
    from cifar_export.formats import onnx as onnx_format

    real = onnx_format.onnx_model

    def changed(*arguments, **options):
        model = real(*arguments, **options)
        change(model)
        return model

    monkeypatch.setattr(onnx_format, "onnx_model", changed)
    with pytest.raises(GateFailed, match=f"the ONNX file is not what was asked for: .*{said}"):
        export(weights20, "onnx", choices=OnnxChoices(17), output=tmp_path / "a.onnx", checked=False)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("opset", [8, 27, -1])
def test_opsets_that_cannot_be_delivered_are_wrong_usage(run, weights20_file, tmp_path, opset):
    result = run("onnx", "resnet20", "--weights", weights20_file, "--opset", opset, "--output", tmp_path / "a.onnx")
    assert result.exit_code == 2
    assert "Choose one from 9 to 26" in result.stderr
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("variant", "name", "elem_type", "shape"),
    [("float32", "input", 1, ["batch", 3, 32, 32]), ("uint8", "image", 2, ["batch", 32, 32, 3])],
)
def test_onnx_ports_are_the_contract(exported, variant, name, elem_type, shape):
    graph = onnx.load(exported("onnx", variant, 17).path).graph
    (port,), (output,) = graph.input, graph.output
    assert (port.name, port.type.tensor_type.elem_type) == (name, elem_type)
    assert [dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim] == shape
    assert output.name == "logits"
    assert [dim.dim_param or dim.dim_value for dim in output.type.tensor_type.shape.dim] == ["batch", 10]
    assert not graph.value_info


def test_onnx_metadata_says_what_the_file_is(exported, weights20):
    artifact = exported("onnx", "uint8", 17)
    model = onnx.load(artifact.path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert (properties["model"], properties["dataset"]) == ("resnet20", "cifar10")
    assert json.loads(properties["labels"]) == list(CIFAR10.labels)
    assert json.loads(properties["mean"]) == list(weights20.normalization.mean)
    assert json.loads(properties["std"]) == list(weights20.normalization.std)
    assert properties["weights_sha256"] == weights20.sha256
    assert properties["parity"] == "passed"
    assert properties["Image.BitmapPixelFormat"] == "Rgb8"
    assert model.graph.input[0].type.denotation == "IMAGE"
    assert [dim.denotation for dim in model.graph.input[0].type.tensor_type.shape.dim][-1] == "DATA_CHANNEL"


def test_image_metadata_is_for_pixels_only(exported):
    model = onnx.load(exported("onnx", "float32", 17).path)
    assert not [entry.key for entry in model.metadata_props if entry.key.startswith("Image.")]
    assert not model.graph.input[0].type.denotation


def test_values_are_named_by_layer(exported):
    graph = onnx.load(exported("onnx", "float32", 17).path).graph
    names = [node.name for node in graph.node]
    assert {"conv1", "layer2.0.downsample.0", "layer2.0.conv1.relu", "layer3.2.add", "fc"} <= set(names)
    assert [node.output[0] for node in graph.node] == [*names[:-1], "logits"]
    assert {tensor.name for tensor in graph.initializer} >= {"layer2.0.downsample.0.weight", "fc.bias"}


def test_class_count_and_labels_are_the_data_sets(tmp_path):
    weights = random_weights(NETWORKS["cifar100_resnet20"], seed=1)
    artifact = export(weights, "onnx", choices=OnnxChoices(17), output=tmp_path / "a.onnx", checked=False)
    model = onnx.load(artifact.path)
    labels = json.loads({entry.key: entry.value for entry in model.metadata_props}["labels"])
    assert len(labels) == 100 == model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    assert (labels[0], labels[-1]) == ("apple", "worm")
    assert np.all(np.array(sorted(labels)) == np.array(labels))
