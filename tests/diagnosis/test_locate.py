"""The search names the layer that was broken, whatever was done to it and wherever it stands."""

import copy
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from cifar_export.diagnosis.activations import activations
from cifar_export.diagnosis.locate import locate
from cifar_export.diagnosis.prove import prove
from cifar_export.diagnosis.repro import save_repro
from cifar_export.errors import GateFailed, InvalidInput
from cifar_export.exporting.artifact import export
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.gate import isolation
from cifar_export.gate.inputs import input_sets
from cifar_export.gate.node_outputs import load, run_all
from cifar_export.gate.report import ParityReport, RuntimeResult
from cifar_export.networks.folding import folded
from cifar_export.networks.resnet import ResNet, with_input
from cifar_export.networks.zoo import NETWORKS
from cifar_export.weights.core import build_network
from cifar_export.weights.seeded import random_weights

from support.planting import attribute, edit, node, nudge, plant, remove, together

BLOCKS = ["layer1.1", "layer2.0", "layer3.2"]  # one of each stage, one of them with a projection


@pytest.fixture(scope="module")
def pixels():
    return np.concatenate([images[:3] for images in input_sets().values()])


FAULTS = {
    # what is done to a block: the node that is to be named, how it is wrong
    "weight": (lambda block: edit(f"{block}.conv2.weight", nudge), "conv2", "numbers"),
    "bias": (lambda block: edit(f"{block}.conv1.bias", np.zeros_like), "conv1", "numbers"),
    "NaN": (lambda block: edit(f"{block}.conv1.bias", lambda array: array * np.nan), "conv1", "numbers"),
    "stride": (lambda block: attribute(f"{block}.conv2", "strides", [2, 2]), "conv2", "shape"),
    "padding": (lambda block: attribute(f"{block}.conv2", "pads", [0, 0, 2, 2]), "conv2", "numbers"),
    "no padding": (lambda block: attribute(f"{block}.conv2", "pads", [0, 0, 0, 0]), "conv2", "shape"),
    "missing Relu": (lambda block: remove(f"{block}.conv1.relu"), "conv1.relu", "missing"),
    "missing last Relu": (lambda block: remove(f"{block}.relu"), "relu", "missing"),
    "half a kernel": (lambda block: edit(f"{block}.conv2.weight", lambda array: array[:, ::2]), "conv2", "refused"),
}


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_broken_layer_is_named(weights20, exported, pixels, tmp_path, block, fault):
    change, name, kind = FAULTS[fault]
    file = plant(exported("onnx", "float32", 17).path, tmp_path / "broken.onnx", change(block))
    found = locate(weights20, file, "float32", pixels).divergence
    assert (found.node, found.kind) == (f"{block}.{name}", kind)
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize("block", BLOCKS)
def test_another_epsilon_in_one_batch_norm_is_named(weights20, pixels, tmp_path, block):
    network = build_network(weights20)
    network.get_submodule(f"{block}.bn1").eps = 1e-3
    file = tmp_path / "epsilon.onnx"
    export(weights20, "onnx", choices=OnnxChoices(17), output=file, checked=False, module=network)
    found = locate(weights20, file, "float32", pixels).divergence
    assert (found.node, found.op, found.kind) == (f"{block}.conv1", "Conv", "numbers")
    assert all(weight.max_abs_difference > 0 for weight in found.weights)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (edit("fc.weight", nudge), "fc"),
        (edit("normalize.sub.operand", lambda array: array[:, ::-1]), "normalize.sub"),
        (attribute("channels_first", "perm", [0, 3, 2, 1]), "channels_first"),
        (edit("layer3.0.downsample.0.bias", np.zeros_like), "layer3.0.downsample.0"),
    ],
    ids=["fc", "mean", "layout", "projection"],
)
def test_what_is_outside_the_blocks_is_named_too(weights20, exported, pixels, tmp_path, change, name):
    file = plant(exported("onnx", "uint8", 17).path, tmp_path / "broken.onnx", change)
    assert locate(weights20, file, "uint8", pixels).divergence.node == name


def test_a_divergence_says_what_is_wrong_with_the_node(weights20, exported, pixels, tmp_path):
    file = plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", edit("layer2.0.conv2.weight", nudge))
    found = locate(weights20, file, "float32", pixels).divergence
    assert (found.op, found.inputs) == ("Conv", ("layer2.0.conv1.relu",))
    kernel, bias = found.weights
    assert (kernel.name, kernel.shape) == ("layer2.0.conv2.weight", (32, 32, 3, 3))
    assert kernel.max_abs_difference == pytest.approx(1e-2, rel=1e-3)
    assert (bias.name, bias.max_abs_difference) == ("layer2.0.conv2.bias", None)
    assert found.max_abs_error > 100 * found.allowed
    assert found.ulp_error > 100
    assert "layer2.0.conv2.weight is not the network's" in found.reason


def test_a_weight_that_is_off_by_a_hundred_roundings_is_named_and_one_that_is_off_by_four_is_not(
    weights20, exported, pixels, tmp_path
):
    """In units in the last place of the layer's largest weight; the divergence itself is the bias's."""

    def off_by(ulps):
        def change(array):
            array.flat[5] += np.float32(ulps) * np.spacing(np.abs(array).max())
            return array

        return change

    for ulps, named in ((4, False), (100, True)):
        change = together(edit("layer2.1.conv1.weight", off_by(ulps)), edit("layer2.1.conv1.bias", nudge))
        file = plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", change)
        kernel, bias = locate(weights20, file, "float32", pixels).divergence.weights
        assert bias.max_abs_difference == pytest.approx(1e-2, rel=1e-3)
        assert (kernel.max_abs_difference is not None) is named


def test_wrong_geometry_is_put_in_words(weights20, exported, pixels, tmp_path):
    change = attribute("layer1.0.conv1", "strides", [2, 2])
    found = locate(
        weights20, plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", change), "float32", pixels
    ).divergence
    assert found.attributes == ("strides [2, 2], not [1, 1]",)
    assert "its output has shape [12, 16, 16, 16], not [12, 16, 32, 32]" in found.reason


@pytest.mark.parametrize("variant", ["float32", "uint8"])
def test_a_clean_file_diverges_nowhere(weights20, exported, pixels, variant):
    file = exported("onnx", variant, 17).path
    result = locate(weights20, file, variant, pixels)
    assert result.divergence is None
    made = [value for made in onnx.load(file).graph.node for value in made.output]
    assert sorted(layer.name for layer in result.layers) == sorted(made)
    assert max(layer.max_abs_error / layer.allowed for layer in result.layers) < 1


@pytest.mark.parametrize("name", ["cifar100_resnet56", "cifar10_resnet44"])
def test_deep_networks_diverge_nowhere(tmp_path, pixels, name):
    weights, file = random_weights(NETWORKS[name], seed=5), tmp_path / "a.onnx"
    export(weights, "onnx", variant="uint8", choices=OnnxChoices(17), output=file, checked=False)
    assert locate(weights, file, "uint8", pixels[:4]).divergence is None


def test_a_file_without_names_of_layers_is_not_blamed(weights20, exported, pixels, tmp_path):
    def rename(model):
        for value in [made.output[0] for made in model.graph.node[:-1]]:
            for other in model.graph.node:
                other.input[:] = [f"x{value}" if name == value else name for name in other.input]
                other.output[:] = [f"x{value}" if name == value else name for name in other.output]

    file = plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", rename)
    assert locate(weights20, file, "float32", pixels).divergence is None


def test_more_images_than_a_batch_are_all_looked_at(weights20, exported, tmp_path):
    """The only image that shows the fault is the last one."""
    pixels = np.zeros((19, 32, 32, 3), np.uint8)
    pixels[-1] = 255

    def clamp(model):  # right up to the pixel values of gray
        first = node(model, "pixels")
        index = list(model.graph.node).index(first)
        limit = onnx.helper.make_node("Clip", ["raw", "", "limit"], ["pixels"], name="clip")
        first.output[0] = "raw"
        model.graph.initializer.append(numpy_helper.from_array(np.float32(100), "limit"))
        model.graph.node.insert(index + 1, limit)

    file = plant(exported("onnx", "uint8", 17).path, tmp_path / "a.onnx", clamp)
    assert locate(weights20, file, "uint8", pixels[:-1]).divergence is None
    found = locate(weights20, file, "uint8", pixels).divergence
    assert (found.node, found.worst_image) == ("clip", 18)


def test_the_network_is_copied_to_float64_once_for_all_batches(weights20, exported, monkeypatch):
    file = exported("onnx", "float32", 17).path
    copied, honest = [], copy.deepcopy

    def deepcopy(thing, *memo):
        copied.append(thing)
        return honest(thing, *memo)

    monkeypatch.setattr(copy, "deepcopy", deepcopy)
    pixels = input_sets()["noise"][:33]  # three batches
    assert locate(weights20, file, "float32", pixels).divergence is None
    assert len([thing for thing in copied if isinstance(thing, ResNet)]) == 1


def test_activations_are_what_the_network_computes(weights20):
    network = build_network(weights20)
    images = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    module = with_input(network, "uint8", weights20.normalization)
    found = activations(module, images)
    assert list(found)[:7] == [
        "channels_first", "pixels", "normalize.div", "normalize.sub", "normalize.div_2", "conv1", "conv1.relu",
    ]  # fmt: skip
    assert np.array_equal(np.maximum(found["layer2.0.add"], 0), found["layer2.0.relu"])
    assert found["layer2.0.conv1"].min() < 0
    sums = found["layer2.0.conv2"] + found["layer2.0.downsample.0"]
    assert np.array_equal(sums, found["layer2.0.add"])
    head = folded(network)
    assert np.allclose(found["flatten"] @ head["fc.weight"].T + head["fc.bias"], found["logits"], atol=1e-4)


# Files that others have changed, and files that hurt.


def fix_batch(size):
    def change(model):
        for value in [*model.graph.input, *model.graph.output]:
            value.type.tensor_type.shape.dim[0].dim_value = size

    return change


@pytest.mark.parametrize("size", [1, 5])
def test_a_file_of_one_batch_size_is_searched_in_such_batches(weights20, exported, pixels, tmp_path, size):
    def change(model):
        fix_batch(size)(model)
        edit("layer2.0.conv2.weight", nudge)(model)

    file = plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", change)
    assert locate(weights20, file, "float32", pixels).divergence.node == "layer2.0.conv2"


def test_a_file_for_more_images_than_there_are_is_searched_as_if_it_took_any(weights20, exported, pixels, tmp_path):
    def change(model):
        fix_batch(500)(model)
        edit("layer2.0.conv2.weight", nudge)(model)

    file = plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", change)
    assert locate(weights20, file, "float32", pixels).divergence.node == "layer2.0.conv2"


def test_a_file_for_a_batch_that_nobody_can_feed_is_refused(run, weights20_file, exported, tmp_path):
    file = plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", fix_batch(10**12))
    result = run("parity", "resnet20", "--weights", weights20_file, "--file", file, "--runtime", "onnxruntime-cpu",
                 "--json")  # fmt: skip
    document = json.loads(result.stdout)
    assert (result.exit_code, document["passed"], document["divergence"]) == (1, False, None)
    assert "takes batches of 1,000,000,000,000 images; at most 4,096 are fed" in document["runtimes"][0]["reason"]


SEARCHED = {
    # what is chosen, the weight that is changed, the node that is to be named
    "separate": (OnnxChoices(9, batch_norm="separate"), "layer2.0.bn1.running_mean", "layer2.0.bn1"),
    "conv before a separate one": (OnnxChoices(batch_norm="separate"), "layer2.0.conv2.weight", "layer2.0.conv2"),
    "matmul": (OnnxChoices(classifier="matmul"), "fc.weight", "fc"),
    "added": (OnnxChoices(classifier="matmul"), "fc.bias", "fc.add"),
    "average": (OnnxChoices(11, 1, pooling="average"), "layer3.2.conv2.weight", "layer3.2.conv2"),
    "mean, channels last": (OnnxChoices(batch=2, pooling="reduce-mean", layout="nhwc"), "conv1.bias", "conv1"),
}


@pytest.mark.parametrize("case", SEARCHED)
def test_every_graph_that_is_written_can_be_searched(weights20, pixels, tmp_path, case):
    choices, weight, name = SEARCHED[case]
    file, broken = tmp_path / "a.onnx", tmp_path / "b.onnx"
    export(weights20, "onnx", variant="unit", choices=choices, output=file, checked=False)
    found = locate(weights20, file, "unit", pixels)
    assert (found.divergence, len(found.layers)) == (None, len(onnx.load(file).graph.node))
    divergence = locate(weights20, plant(file, broken, edit(weight, nudge)), "unit", pixels).divergence
    assert (divergence.node, divergence.kind) == (name, "numbers")


def test_weights_beside_the_file_are_read(weights20, exported, pixels, tmp_path):
    model = onnx.load(exported("onnx", "float32", 17).path)
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0)
    result = locate(weights20, tmp_path / "a.onnx", "float32", pixels)
    assert (result.divergence, len(result.layers)) == (None, len(model.graph.node))
    (tmp_path / "a.data").unlink()
    with pytest.raises(InvalidInput, match=r"a\.onnx"):
        locate(weights20, tmp_path / "a.onnx", "float32", pixels)


def test_weights_that_are_listed_as_inputs_are_no_images(weights20, exported, pixels, tmp_path):
    def change(model):
        images = model.graph.input.pop()
        for tensor in model.graph.initializer:
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        model.graph.input.append(images)

    file = plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", change)
    assert len(locate(weights20, file, "float32", pixels).layers) == len(onnx.load(file).graph.node)


def test_a_weight_with_too_few_bytes_is_named(weights20, exported, pixels, tmp_path):
    def change(model):
        tensor = next(t for t in model.graph.initializer if t.name == "layer1.0.conv1.weight")
        tensor.raw_data = tensor.raw_data[:-4]

    file = plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", change)
    found = locate(weights20, file, "float32", pixels).divergence
    assert (found.kind, "layer1.0.conv1.weight is not the network's" in found.reason) == ("refused", True)


def endless(model):
    """Put a loop of 2^60 rounds before the first convolution."""
    value = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["on"], ["more"]), onnx.helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [value("i", onnx.TensorProto.INT64, []), value("on", onnx.TensorProto.BOOL, []),
         value("x", onnx.TensorProto.FLOAT, None)],
        [value("more", onnx.TensorProto.BOOL, []), value("y", onnx.TensorProto.FLOAT, None)],
    )  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.int64(2**60), "rounds"))
    first = node(model, "conv1")
    loop = onnx.helper.make_node("Loop", ["rounds", "", first.input[0]], ["looped"], name="loop", body=body)
    first.input[0] = "looped"
    model.graph.node.insert(0, loop)


def test_a_node_that_never_ends_is_named(weights20, exported, pixels, tmp_path, monkeypatch):
    file = plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", endless)
    monkeypatch.setattr(isolation, "_GRAPH_PATIENCE_S", 1.0)

    def run(model, images):
        loops = "looped" in [value.name for value in model.graph.output]
        return room.run(model, images) if loops else run_all(model, images)

    with isolation.GraphIsolation() as room:
        found = locate(weights20, file, "float32", pixels, run).divergence
    assert (found.node, found.kind) == ("loop", "refused")
    assert "no answer within 1 s" in found.reason


def test_in_a_process_of_its_own_the_values_are_the_same(weights20, exported, pixels):
    model, images = load(exported("onnx", "uint8", 17).path), pixels[:2]
    with isolation.GraphIsolation() as room:
        there, here = room.run(model, images), run_all(model, images)
        assert there.keys() == here.keys() == {"logits"}
        assert np.array_equal(there["logits"], here["logits"])
        with pytest.raises(GateFailed, match="dimensions"):
            room.run(model, images[:, :, :31])
        assert np.array_equal(room.run(model, images)["logits"], here["logits"])  # an error does not end the process


# The repro.


def run_repro(folder):
    """What the model in `folder` makes of its input, and what it should."""

    def tensor(name):
        return numpy_helper.to_array(onnx.TensorProto.FromString((folder / "test_data_set_0" / name).read_bytes()))

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    return session.run(None, {port.name: tensor("input_0.pb")})[0], tensor("output_0.pb")


def test_a_repro_shows_the_fault_alone(run, weights20_file, exported, tmp_path):
    file = plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", edit("layer2.0.conv2.weight", nudge))
    folder = tmp_path / "repro"
    result = run("parity", "resnet20", "--weights", weights20_file, "--file", file, "--runtime", "onnxruntime-cpu",
                 "--save-repro", folder, "--json")  # fmt: skip
    document = json.loads(result.stdout)
    assert (result.exit_code, document["divergence"]["node"]) == (1, "layer2.0.conv2")
    assert [made.name for made in onnx.load(folder / "model.onnx").graph.node] == ["layer2.0.conv2"]
    onnx.checker.check_model(onnx.load(folder / "model.onnx"), full_check=True)
    actual, expected = run_repro(folder)
    assert actual.shape == expected.shape == (1, 32, 16, 16)
    assert np.abs(actual - expected).max() == pytest.approx(document["divergence"]["max_abs_error"], rel=0.1)
    assert f"the repro was written to {folder}" in result.stderr


def test_the_repro_of_a_missing_node_is_the_node_that_takes_its_input(weights20, exported, pixels, tmp_path):
    file = plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", remove("layer3.1.conv1.relu"))
    found = locate(weights20, file, "float32", pixels).divergence
    save_repro(weights20, file, "float32", pixels, found, tmp_path / "repro")
    actual, expected = run_repro(tmp_path / "repro")
    assert onnx.load(tmp_path / "repro" / "model.onnx").graph.node[0].name == "layer3.1.conv2"
    assert np.abs(actual - expected).max() > 0.01


def test_a_clean_file_leaves_no_repro(run, weights20_file, exported, tmp_path):
    file, folder = exported("onnx", "float32", 17).path, tmp_path / "repro"
    result = run("parity", "resnet20", "--weights", weights20_file, "--file", file, "--runtime", "onnxruntime-cpu",
                 "--save-repro", folder, "--json")  # fmt: skip
    assert (result.exit_code, json.loads(result.stdout)["divergence"]) == (0, None)
    assert "no repro was written" in result.stderr
    assert not folder.exists()


def test_the_table_names_the_first_wrong_node(run, weights20_file, exported, tmp_path):
    file = plant(exported("onnx", "float32", 17).path, tmp_path / "a.onnx", remove("layer1.2.relu"))
    result = run("parity", "resnet20", "--weights", weights20_file, "--file", file, "--runtime", "onnxruntime-cpu")
    assert result.exit_code == 1
    assert "first wrong node  layer1.2.relu (Relu)" in result.stderr
    assert "the network has a Relu here, the file has not" in result.stderr


def test_a_fault_of_the_runtime_alone_blames_no_node(weights20, exported, monkeypatch):
    row = RuntimeResult("onnxruntime-cpu", "CPUExecutionProvider", "failed", "crashed: RuntimeError: x")
    failed = ParityReport("cifar10_resnet20", "float32", weights20.sha256, {}, {}, (row,))
    monkeypatch.setattr("cifar_export.diagnosis.prove.check", lambda *args, **kwargs: failed)
    monkeypatch.setattr("cifar_export.diagnosis.prove.input_sets", lambda: {"noise": input_sets()["noise"][:4]})
    report = prove(weights20, file=exported("onnx", "float32", 17).path, runtimes=["onnxruntime-cpu"])
    assert (report.passed, report.divergence) == (False, None)
