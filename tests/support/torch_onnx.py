"""ONNX files by torch's own two exporters: witnesses of the graphs that we write, made by other code."""

from __future__ import annotations

import io
import logging
import warnings

import onnx
import torch
from torch import nn

from cifar_export.formats.ports import BATCH, OUTPUT, example, input_port
from cifar_export.networks.zoo import InputVariant
from cifar_export.system.torch_state import tracing

# What the TorchScript-based exporter says of its age.
_DEPRECATED = ("You are using the legacy TorchScript-based", "The feature will be removed")
FIRST_OF_TORCH_EXPORT = 18  # the lowest opset that the exporter based on torch.export delivers


def by_torch(module: nn.Module, variant: InputVariant, opset: int) -> onnx.ModelProto:
    """`module` at `opset`: from 18 on by the exporter based on torch.export, below by the TorchScript-based one."""
    return (_by_torch_export if opset >= FIRST_OF_TORCH_EXPORT else _by_torchscript)(module, variant, opset)


@tracing()
def _by_torch_export(module: nn.Module, variant: InputVariant, opset: int) -> onnx.ModelProto:
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)  # its progress, and notes on versions
    try:
        program = torch.onnx.export(
            module,
            (example(variant),),
            dynamo=True,
            opset_version=opset,
            external_data=False,
            input_names=[input_port(variant).name],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim(BATCH)},),
            verbose=False,
        )
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    assert program is not None
    return program.model_proto


@tracing()
def _by_torchscript(module: nn.Module, variant: InputVariant, opset: int) -> onnx.ModelProto:
    buffer, name = io.BytesIO(), input_port(variant).name
    with warnings.catch_warnings():
        for message in _DEPRECATED:
            warnings.filterwarnings("ignore", message=message)
        torch.onnx.export(
            module,
            (example(variant),),
            buffer,
            dynamo=False,
            opset_version=opset,
            input_names=[name],
            output_names=[OUTPUT],
            dynamic_axes={name: {0: BATCH}, OUTPUT: {0: BATCH}},
        )
    return onnx.load_model_from_string(buffer.getvalue())
