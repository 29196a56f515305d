"""The canonical form: one network has one file, however an exporter wrote it down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cifar_export.errors import GateFailed
from cifar_export.formats.onnx_canonical import canonicalize, serialize

CONV = {"strides": [1, 1], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3], "group": 1, "dilations": [1, 1]}
GEMM = {"transB": 1, "beta": 1.0, "alpha": 1.0}


def model_of(
    conv: dict[str, Any],
    gemm: dict[str, Any],
    *,
    domain: str = "",
    doc: str = "",
    opsets: Sequence[tuple[str, int]] = (("", 18),),
) -> onnx.ModelProto:
    """A convolution, its ReLU, an average and a linear layer, as exporters write them: weights called by module."""
    rng = np.random.default_rng(0)
    weights = {"conv1.weight": (4, 3, 3, 3), "conv1.bias": (4,), "fc.weight": (2, 4), "fc.bias": (2,)}
    tensors = [numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), n) for n, shape in weights.items()]
    nodes = [
        helper.make_node("Conv", ["input", "conv1.weight", "conv1.bias"], ["a"], **conv),
        helper.make_node("Relu", ["a"], ["b"], domain=domain),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"], axis=1),
        helper.make_node("Gemm", ["d", "fc.weight", "fc.bias"], ["logits"], **gemm),
    ]
    # make_node sorts them
    for node, order in ((nodes[0], conv), (nodes[-1], gemm)):
        written = {attribute.name: attribute for attribute in node.attribute}
        del node.attribute[:]
        node.attribute.extend(written[name] for name in order)
    for node in nodes:
        node.doc_string = doc
        for attribute in node.attribute:
            attribute.doc_string = doc
    ports = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 8, 8]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2]),
    ]
    graph = helper.make_graph(nodes, "main_graph", ports[:1], ports[1:], tensors, doc_string=doc)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid(*pair) for pair in opsets])
    return model


def canonical(model: onnx.ModelProto) -> bytes:
    return serialize(canonicalize(model, opset=18, name="cifar10_resnet20"))


def turned(attributes: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(attributes.items()))


def test_the_order_of_attributes_does_not_matter_and_is_that_of_their_names() -> None:
    plain = canonical(model_of(CONV, GEMM))
    assert canonical(model_of(turned(CONV), turned(GEMM))) == plain
    nodes = onnx.load_model_from_string(plain).graph.node
    assert [[a.name for a in node.attribute] for node in (nodes[0], nodes[-1])] == [sorted(CONV), sorted(GEMM)]


@pytest.mark.parametrize(
    ("conv", "gemm"),
    [({"auto_pad": "NOTSET"}, {}), ({}, {"transA": 0}), ({"auto_pad": "NOTSET"}, {"transA": 0})],
    ids=["auto_pad", "transA", "both"],
)
def test_a_default_that_is_written_out_is_left_out(conv: dict[str, Any], gemm: dict[str, Any]) -> None:
    assert canonical(model_of(CONV | conv, GEMM | gemm)) == canonical(model_of(CONV, GEMM))


@pytest.mark.parametrize(("conv", "gemm"), [({"auto_pad": "SAME_UPPER"}, {}), ({}, {"transA": 1})])
def test_what_is_no_default_stays(conv: dict[str, Any], gemm: dict[str, Any]) -> None:
    kept = onnx.load_model_from_string(canonical(model_of(CONV | conv, GEMM | gemm))).graph.node
    assert {a.name for node in kept for a in node.attribute} >= conv.keys() | gemm.keys()


def test_paths_and_names_of_the_exporter_are_gone() -> None:
    noted = model_of(CONV, GEMM, doc="File /home/somebody/network.py, line 7")
    noted.producer_name, noted.domain = "pytorch", "here"
    noted.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N", 4, 8, 8]))
    helper.set_model_props(noted, {"made": "yesterday"})
    assert canonical(noted) == canonical(model_of(CONV, GEMM))
    assert b"somebody" not in canonical(noted)


def test_values_are_named_by_where_they_are_made_and_the_batch_is_called_batch() -> None:
    graph = onnx.load_model_from_string(canonical(model_of(CONV, GEMM))).graph
    assert [node.name for node in graph.node] == ["conv1", "conv1.relu", "avgpool", "flatten", "fc"]
    assert [node.output[0] for node in graph.node] == ["conv1", "conv1.relu", "avgpool", "flatten", "logits"]
    assert [port.type.tensor_type.shape.dim[0].dim_param for port in (*graph.input, *graph.output)] == ["batch"] * 2


def another_domain(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "com.microsoft"


def a_function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Relu", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("local", "F", ["x"], ["y"], body, opsets))


def another_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 17


@pytest.mark.parametrize("change", [another_domain, a_function, another_opset])
def test_what_was_not_asked_for_is_refused(change: Callable[[onnx.ModelProto], None]) -> None:
    model = model_of(CONV, GEMM, opsets=[("", 18), ("com.microsoft", 1)])
    canonical(model)
    change(model)
    with pytest.raises(
        GateFailed, match=r"asked for opset 18, the exporter delivered ai\.onnx 1[78], com\.microsoft 1"
    ):
        canonical(model)
