"""What an int8 or float16 file computes, against witnesses that share no code with the simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from cifar_export.exporting.precision import quantized
from cifar_export.formats.onnx_choices import OnnxChoices, Precision
from cifar_export.formats.onnx_graph import onnx_model
from cifar_export.gate.inputs import bundled_images
from cifar_export.gate.standard import int8_unit, simulated
from cifar_export.networks.preprocess import as_variant
from cifar_export.networks.zoo import network
from cifar_export.quantization.grids import SCHEMES, Scheme
from cifar_export.weights.core import Weights, build_network
from cifar_export.weights.seeded import random_weights


@pytest.fixture(scope="module")
def float_weights() -> Weights:
    return random_weights(network("resnet8", "cifar10"), seed=3)


@pytest.fixture(scope="module")
def images(float_weights: Weights) -> NDArray[np.float32]:
    return as_variant(bundled_images()[:16], "float32", float_weights.normalization)


def _simulated(weights: Weights, precision: Precision, images: NDArray[np.float32]) -> NDArray[np.float64]:
    with torch.no_grad():
        return simulated(weights, precision)(torch.from_numpy(images)).numpy()


def _in_onnxruntime(model: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})[0]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_onnx_runtime_computes_most_images_as_the_simulation_does(
    float_weights: Weights, images: NDArray[np.float32], scheme: Scheme
) -> None:
    weights = quantized(float_weights, bundled_images()[:64], scheme=scheme)
    model = onnx_model(build_network(weights), "n", OnnxChoices(precision="int8"), weights.grids)
    onnx.checker.check_model(model, full_check=True)
    error = np.abs(_in_onnxruntime(model, images) - _simulated(weights, "int8", images)).max(axis=1)
    assert np.median(error) < 0.01 * int8_unit(weights)


def test_the_reference_evaluator_computes_the_same_int8_network(
    float_weights: Weights, images: NDArray[np.float32]
) -> None:
    weights = quantized(float_weights, bundled_images()[:64])
    model = onnx_model(build_network(weights), "n", OnnxChoices(opset=21, precision="int8"), weights.grids)
    (logits,) = ReferenceEvaluator(model).run(None, {"input": images[:2]})
    assert np.abs(logits - _simulated(weights, "int8", images[:2])).max() < 8 * int8_unit(weights)


def test_the_reference_evaluator_computes_the_same_float16_network(
    float_weights: Weights, images: NDArray[np.float32]
) -> None:
    model = onnx_model(build_network(float_weights), "n", OnnxChoices(precision="float16"))
    (logits,) = ReferenceEvaluator(model).run(None, {"input": images[:2]})
    with torch.no_grad():
        exact = build_network(float_weights).double()(torch.from_numpy(images[:2]).double()).numpy()
    simulated_logits = _simulated(float_weights, "float16", images[:2])
    cost = np.abs(simulated_logits - exact).max()
    assert 0 < cost < 0.05 * np.abs(exact).max()
    assert np.abs(logits - simulated_logits).max() < 2 * cost


def test_int8_is_near_float32_and_its_biases_keep_the_mean(float_weights: Weights, images: NDArray[np.float32]) -> None:
    weights = quantized(float_weights, bundled_images()[:64])
    with torch.no_grad():
        exact = build_network(weights).double()(torch.from_numpy(images).double()).numpy()
    found = _simulated(weights, "int8", images)
    assert np.abs(found - exact).max() < 0.1 * np.ptp(exact)
    grids = weights.grids
    assert grids is not None
    uncorrected = replace(grids, biases={**grids.biases, "fc": grids.biases["fc"] + 2000})
    assert (
        np.abs(_simulated(replace(weights, grids=uncorrected), "int8", images) - exact).max()
        > np.abs(found - exact).max()
    )
