"""All values of an ONNX graph, as ONNX Runtime computes them on the CPU with graph optimizations off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import external_data_helper, helper

from ..errors import InvalidInput, first_line, from_os_error
from ..system.outside import MAX_MODEL_BYTES, read_regular

_FATAL = 4  # ONNX Runtime's log severity: what it refuses is in its exception


Run = Callable[[onnx.ModelProto, NDArray[Any]], dict[str, NDArray[Any]]]


def load(file: Path) -> onnx.ModelProto:
    """The model in `file`, with the weights that it keeps in files beside it. Raises `InvalidInput` for all else."""
    try:
        model = onnx.load_model_from_string(read_regular(file, MAX_MODEL_BYTES))
        external_data_helper.load_external_data_for_model(model, str(file.parent))
    except OSError as error:
        raise from_os_error(error, f"read {file}") from error
    except DecodeError as error:
        raise InvalidInput(f"{file}: not an ONNX file, or a damaged one. Export it again.") from error
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InvalidInput(f"{file}: its weights beside it: {first_line(error)}. Export it again.") from error
    return model


def image_port(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The input that takes the images: some files list their weights as inputs, too. Raises `InvalidInput`."""
    weights = {tensor.name for tensor in model.graph.initializer}
    ports = [port for port in model.graph.input if port.name not in weights]
    if len(ports) != 1:
        raise InvalidInput(f"the graph has {len(ports)} inputs beside its weights, not 1. Export it again.")
    port: onnx.ValueInfoProto = ports[0]
    return port


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """The only batch size that `model` takes; None where it takes any."""
    size: int = image_port(model).type.tensor_type.shape.dim[0].dim_value
    return size or None


def free_batch(model: onnx.ModelProto) -> None:
    """Let `model` take any batch size, where nothing inside it fixes one."""
    del model.graph.value_info[:]
    for value in (image_port(model), *model.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    ort.set_default_logger_severity(_FATAL)
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def longest_beginning(model: onnx.ModelProto, run: Run) -> tuple[onnx.ModelProto, tuple[onnx.NodeProto, str] | None]:
    """The longest beginning of `model` that `run` can run, every value an output; and the node it stops at."""
    why = _refusal(_beginning(model, len(model.graph.node)), run)
    if why is None:
        return _beginning(model, len(model.graph.node)), None
    good, bad = 0, len(model.graph.node)  # so many nodes run; so many do not
    while bad - good > 1:
        middle = (good + bad) // 2
        refused = _refusal(_beginning(model, middle), run)
        if refused is None:
            good = middle
        else:
            bad, why = middle, refused
    return _beginning(model, good), (model.graph.node[bad - 1], why)


def _refusal(model: onnx.ModelProto, run: Run) -> str | None:
    port = image_port(model)
    shape = [dim.dim_value or 1 for dim in port.type.tensor_type.shape.dim]
    zeros = np.zeros(shape, helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type))
    try:
        run(model, zeros)
    except Exception as error:  # noqa: BLE001  onnxruntime's errors share no base class
        return first_line(error)
    return None


def _beginning(model: onnx.ModelProto, nodes: int) -> onnx.ModelProto:
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.node[nodes:]
    del cut.graph.output[:]
    cut.graph.output.extend(onnx.ValueInfoProto(name=value) for node in cut.graph.node for value in node.output)
    return cut


def run_all(model: onnx.ModelProto, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Every output of `model`, by name, on `images`. Raises what ONNX Runtime raises."""
    if not model.graph.output:
        return {}
    names = [value.name for value in model.graph.output]
    values = _session(model).run(names, {image_port(model).name: images})
    return dict(zip(names, values, strict=True))
