"""Whatever is chosen for an ONNX file: it is valid, says so of itself, and computes what the network does."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto

from cifar_export.errors import GateFailed, InvalidInput
from cifar_export.exporting.artifact import write_file
from cifar_export.exporting.sidecar import sidecar_text
from cifar_export.formats.onnx import inspect
from cifar_export.formats.onnx_choices import (
    BATCH_NORMS,
    CLASSIFIERS,
    HIGHEST_BATCH,
    HIGHEST_OPSET,
    LAYOUTS,
    LOWEST_OPSET,
    POOLINGS,
    PORT_TYPES,
    TARGETS,
    OnnxChoices,
    chosen,
    require_choices,
    target_of,
)
from cifar_export.gate.compare import Bound, bound, compare
from cifar_export.gate.inputs import few_of_each
from cifar_export.networks.preprocess import Images, as_variant
from cifar_export.networks.resnet import with_input
from cifar_export.networks.zoo import CIFAR10, INPUT_VARIANTS, Accuracy, InputVariant, ModelSpec, NetworkSpec
from cifar_export.runtimes import open_runtime
from cifar_export.runtimes.pytorch import Eager, Reference
from cifar_export.weights.core import build_network
from cifar_export.weights.seeded import random_weights

WEIGHTS = random_weights(NetworkSpec(ModelSpec("resnet8", 1), CIFAR10, Accuracy(0.0, 0.0), ""), seed=11)
PIXELS = np.concatenate(list(few_of_each().values()))[::5]


@functools.cache
def expected(variant: InputVariant) -> tuple[Images, NDArray[np.float64], Bound]:
    """Images, their logits in float64, and what a float32 runtime may be off by."""
    images = as_variant(PIXELS, variant, WEIGHTS.normalization)
    network = with_input(build_network(WEIGHTS), variant, WEIGHTS.normalization).eval()
    double = with_input(build_network(WEIGHTS).double(), variant, WEIGHTS.normalization).eval()
    reference = Reference(double).logits(images)
    return images, reference, bound(reference, [Eager(network, "cpu").logits(images)])


def written(folder: Path, variant: InputVariant, choices: OnnxChoices) -> Path:
    path = folder / "a.onnx"
    module = with_input(build_network(WEIGHTS), variant, WEIGHTS.normalization).eval()
    write_file(path, WEIGHTS, "onnx", variant, module, choices=choices, checked=True)
    return path


def problem_of(path: Path, variant: InputVariant, runtime: str = "onnxruntime-cpu") -> str | None:
    """What the gate says of the file; None where float32 explains its errors."""
    images, reference, allowed = expected(variant)
    with open_runtime(runtime, path) as opened:
        logits = np.concatenate([opened.logits(part) for part in (images[:1], images[1:6], images[6:])])
    return compare("images", reference, logits, allowed).problem


@st.composite
def asked(draw: st.DrawFn) -> tuple[InputVariant, OnnxChoices]:
    variant = draw(st.sampled_from(list(INPUT_VARIANTS)))
    layouts = LAYOUTS if variant != "uint8" else LAYOUTS[:1]
    choices = OnnxChoices(
        opset=draw(st.integers(LOWEST_OPSET, HIGHEST_OPSET)),
        batch=draw(st.none() | st.integers(1, 9)),
        batch_norm=draw(st.sampled_from(BATCH_NORMS)),
        pooling=draw(st.sampled_from(POOLINGS)),
        classifier=draw(st.sampled_from(CLASSIFIERS)),
        layout=draw(st.sampled_from(layouts)),
    )
    return variant, choices


@given(asked())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_combination_is_delivered_read_back_and_right(
    tmp_path: Path, wanted: tuple[InputVariant, OnnxChoices]
) -> None:
    variant, choices = wanted
    path = written(tmp_path, variant, choices)
    facts = inspect(path)
    assert (facts.variant, facts.choices, facts.opset) == (variant, choices, choices.opset)
    assert facts.metadata is not None
    assert facts.metadata["choices"] == choices.as_dict()
    onnx.checker.check_model(path, full_check=True)
    assert problem_of(path, variant) is None


@pytest.mark.parametrize("target", TARGETS)
def test_the_file_for_each_target_is_what_the_table_says(tmp_path: Path, target: str) -> None:
    choices, variant = chosen(target)
    assert (choices, variant) == (TARGETS[target].choices, TARGETS[target].variant)
    path = written(tmp_path, variant, choices)
    assert inspect(path).choices == choices
    assert problem_of(path, variant) is None


OPERATORS = {
    # what is asked, the operators that come of it, those that go
    "batch_norm": ("separate", {"BatchNormalization"}, set()),
    "pooling": ("average", {"AveragePool"}, {"GlobalAveragePool"}),
    "classifier": ("matmul", {"MatMul"}, {"Gemm"}),
    "layout": ("nhwc", {"Transpose"}, set()),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_a_choice_changes_the_operators_that_it_names_and_no_others(tmp_path: Path, name: str) -> None:
    def operators(choices: OnnxChoices) -> set[str]:
        return {node.op_type for node in onnx.load(written(tmp_path, "float32", choices)).graph.node}

    value, new, gone = OPERATORS[name]
    asked: dict[str, Any] = {name: value}
    assert operators(OnnxChoices(**asked)) == (operators(OnnxChoices()) - gone) | new


def test_a_fixed_batch_is_in_the_ports_of_file_and_sidecar(tmp_path: Path) -> None:
    path = written(tmp_path, "unit", OnnxChoices(batch=3, layout="nhwc"))
    graph = onnx.load(path).graph
    shapes = [[dim.dim_value for dim in port.type.tensor_type.shape.dim] for port in (*graph.input, *graph.output)]
    assert shapes == [[3, 32, 32, 3], [3, 10]]
    text = sidecar_text(inspect(path), 10, sha256="0" * 64, size=1)
    for part in ('"scaled_image"', '"batch": 3', '"layout": "nhwc"'):
        assert part in text


def test_images_go_into_a_fixed_batch_whatever_their_number(tmp_path: Path) -> None:
    """A last batch is filled up, and what filled it is dropped: the logits are those of a file of any batch."""
    free, fixed = (written(folder, "uint8", choices) for folder, choices in _two(tmp_path))
    with open_runtime("onnxruntime-cpu", free) as any_size, open_runtime("onnxruntime-cpu", fixed) as fours:
        for count in (1, 3, 4, 5, 9):
            logits = fours.logits(PIXELS[:count])
            assert logits.shape == (count, 10)
            assert np.allclose(logits, any_size.logits(PIXELS[:count]), atol=1e-5)


@pytest.mark.parametrize("variant", ["float32", "uint8"])
@pytest.mark.parametrize("runtime", ["onnxruntime-cpu", "onnx-reference"])
def test_float16_ports_give_what_float32_ones_give(tmp_path: Path, variant: InputVariant, runtime: str) -> None:
    """To the last bit: the file with float32 ports casts to float16 and back itself."""
    answers = []
    for io in PORT_TYPES:
        choices = OnnxChoices(batch=4, layout="nchw" if variant == "uint8" else "nhwc", precision="float16", io=io)
        path = written(tmp_path, variant, choices)
        assert inspect(path).choices == choices
        graph = onnx.load(path).graph
        floats = [port.type.tensor_type.elem_type for port in (*graph.input, *graph.output)][variant == "uint8" :]
        assert set(floats) == {{"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[io]}
        with open_runtime(runtime, path) as opened:
            answers.append(opened.logits(as_variant(PIXELS[:6], variant, WEIGHTS.normalization)))
    assert answers[0].dtype == answers[1].dtype == np.float32
    # ONNX Runtime leaves out a cast to float16 and back before its first convolution and after the classifier
    assert np.allclose(*answers, atol=0 if runtime == "onnx-reference" else 0.02)


def _two(folder: Path) -> list[tuple[Path, OnnxChoices]]:
    pairs = [(folder / "free", OnnxChoices()), (folder / "fixed", OnnxChoices(batch=4))]
    for path, _ in pairs:
        path.mkdir()
    return pairs


def test_a_file_with_a_batch_too_large_to_be_fed_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "float32", OnnxChoices(batch=4))
    for size, refused in ((4096, False), (4097, True)):
        model = onnx.load(path)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = size
        (tmp_path / "large.onnx").write_bytes(model.SerializeToString())
        if refused:
            with pytest.raises(InvalidInput, match=r"takes batches of 4,097 images; at most 4,096"):
                open_runtime("onnxruntime-cpu", tmp_path / "large.onnx")
        else:
            open_runtime("onnxruntime-cpu", tmp_path / "large.onnx").close()


@pytest.mark.parametrize(
    ("choices", "variant", "said"),
    [
        (OnnxChoices(opset=LOWEST_OPSET - 1), "float32", "opset 8 cannot be delivered. Choose one from 9 to 26"),
        (OnnxChoices(opset=HIGHEST_OPSET + 1), "float32", "opset 27 cannot be delivered"),
        (OnnxChoices(batch=0), "unit", "a batch of 0 cannot be delivered. Choose 1 to 1024, or dynamic"),
        (OnnxChoices(batch=HIGHEST_BATCH + 1), "unit", "a batch of 1025 cannot be delivered"),
        (OnnxChoices(pooling="max"), "unit", "no pooling 'max'. Known: global, average, reduce-mean"),  # type: ignore[arg-type]
        (OnnxChoices(layout="nhwc"), "uint8", "a layout is for float inputs"),
        (OnnxChoices(io="float16"), "float32", "float16 input and logits are for --precision float16"),
        (
            OnnxChoices(precision="float16", io="float16"),
            "unit",
            "float16 input and logits are for --precision float16",
        ),
    ],
)
def test_what_cannot_be_delivered_is_refused(choices: OnnxChoices, variant: InputVariant, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        require_choices(choices, variant)


def test_the_ends_of_each_range_are_delivered() -> None:
    for opset in (LOWEST_OPSET, HIGHEST_OPSET):
        for batch in (1, HIGHEST_BATCH):
            assert chosen(None, opset=opset, batch=batch) == (OnnxChoices(opset, batch), "float32")


def test_an_option_beats_the_target_and_dynamic_beats_a_fixed_batch() -> None:
    assert chosen("vnn", opset=11, batch="dynamic") == (replace(TARGETS["vnn"].choices, opset=11, batch=None), "unit")
    assert chosen("vnn", "float32", pooling=None)[1] == "float32"
    assert chosen(None) == (OnnxChoices(), "float32")
    with pytest.raises(InvalidInput, match=r"no target 'vn'. Known: onnxruntime, tensorrt"):
        target_of("vn")


def test_a_file_that_says_other_choices_than_asked_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cifar_export.formats.onnx as writer

    real = writer.onnx_model
    monkeypatch.setattr(
        writer, "onnx_model", lambda module, name, choices, _: real(module, name, replace(choices, pooling="global"))
    )
    with pytest.raises(GateFailed, match="pooling global, not average"):
        written(tmp_path, "float32", OnnxChoices(pooling="average"))


@pytest.mark.parametrize(
    ("variant", "choices", "sha256"),
    [
        ("unit", OnnxChoices(13, 1), "e63454cafc7d6935e6b8e27edf3dc21c1c595bf2a247963effd6d6232118c362"),
        (
            "float32",
            OnnxChoices(11, 1, "separate", "average", "matmul", "nhwc"),
            "c9867f5ec30c1f204fbdc5596840e69a2d387a25bd9cd732c5eb7379fff4039c",
        ),
        (
            "uint8",
            OnnxChoices(18, None, "folded", "reduce-mean"),
            "407d779ba92f9e8181126f5f88593d0ae1c866080ce5d5c222662ec3cd565595",
        ),
    ],
)
def test_the_bytes_depend_on_weights_and_choices_alone(
    tmp_path: Path, variant: InputVariant, choices: OnnxChoices, sha256: str
) -> None:
    graph = onnx.load(written(tmp_path, variant, choices)).graph
    assert hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest() == sha256
