"""Which runtimes there are, and what each of them is."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import cifar_export.runtimes as table
from cifar_export.errors import GateFailed, InvalidInput, Unavailable
from cifar_export.gate.check import check
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.preprocess import as_variant
from cifar_export.runtimes import RUNTIMES, Missing, node, open_runtime, why_missing
from cifar_export.runtimes.onnxruntime import CPU, CUDA, open_cuda, profiled_nodes, start
from cifar_export.runtimes.onnxruntime_cuda import BoundSession, open_bound, open_tf32

FEW = {"real": bundled_images()[:12]}


def test_every_runtime_has_its_functions_and_a_reason_where_it_is_missing():
    for name, spec in RUNTIMES.items():
        assert callable(table.resolve(spec.open))
        missing = why_missing(name)
        if missing is not None:
            assert isinstance(missing, Missing)
            assert not missing.cause.endswith("."), missing
            assert missing.fix.endswith("."), missing
            assert "\n" not in str(missing), missing


QUICK = ["openvino", "openvino-default", "opencv", "tract", "onnx-reference", "onnxruntime-node"]


def available(names):
    missing = {name: why_missing(name) for name in names if why_missing(name)}
    if len(missing) == len(names):
        pytest.skip("; ".join(f"{name}: {reason}" for name, reason in missing.items()))
    return [name for name in names if name not in missing]


@pytest.mark.parametrize("variant", ["float32", "uint8"])
def test_further_runtimes_of_onnx_files_compute_the_same(variant, weights20, exported):
    names = available(QUICK)
    report = check(weights20, variant, {"onnx": exported("onnx", variant, 17).path}, names, FEW, isolated=True)
    rows = {row.runtime: row for row in report.runtimes}
    assert report.passed, report.failures
    for name in names:
        assert rows[name].state == ("passed" if RUNTIMES[name].gated else "reported"), rows[name]
        assert rows[name].images == (8 if name == "onnx-reference" else 12)


def test_webassembly_computes_the_same(weights20, exported):
    names = available(["onnxruntime-web"])
    report = check(weights20, "uint8", {"onnx": exported("onnx", "uint8", 17).path}, names, FEW, isolated=True)
    assert report.passed, report.failures
    assert report.runtimes[0].provider.startswith("wasm, onnxruntime-web ")


@pytest.mark.slow
def test_compiled_code_computes_the_same(weights20, exported):
    names = available(["aotinductor"])
    files = {"torch-export": exported("torch-export", "uint8").path}
    report = check(weights20, "uint8", files, names, FEW, isolated=True)
    assert report.passed, report.failures


@pytest.mark.parametrize("name", ["opencv", "tract", "onnx-reference", "onnxruntime-node"])
def test_a_file_that_is_no_model_is_named(name, tmp_path):
    available([name])
    file = tmp_path / "a.onnx"
    file.write_bytes(b"<html>")
    with pytest.raises(InvalidInput, match=rf"{name} cannot load .*a\.onnx: .*Export it again\.$"):
        open_runtime(name, file)


def test_what_is_missing_is_said_with_the_fix(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'cifar-export[opencv]'" in why_missing("opencv").fix
    assert why_missing("aotinductor").fix.startswith("Install g++")
    assert why_missing("onnxruntime-node").cause == "Node.js is not installed"
    with pytest.raises(Unavailable, match=r"^opencv cannot run here: opencv.* is not installed\. `pip install .*`\.$"):
        open_runtime("opencv", tmp_path / "a.onnx")
    monkeypatch.setattr(node, "_EXAMPLES", tmp_path)
    assert why_missing("onnxruntime-web").cause.endswith("in the source checkout only")


# What ONNX Runtime really ran where. What needs a GPU runs on the CPU provider or on stand-ins here.


def test_the_profile_tells_which_provider_ran_each_node(exported, tmp_path):
    file = str(exported("onnx", "uint8", 17).path)
    nodes = profiled_nodes(start(onnxruntime, file, CPU, {}, profile=tmp_path / "profile"))
    assert {node.provider for node in nodes} == {CPU}
    assert {"Conv", "Gemm"} <= {node.operator.removeprefix("Fused") for node in nodes}
    assert any(node.name.startswith("layer2.0.conv1") for node in nodes)


class Profiling:
    """A session on CUDA that leaves `stray` to the CPU, and does not start where that is forbidden."""

    strict = True

    def __init__(self, model, settings, providers, **more):
        if self.strict and settings.get_session_config_entry_or("session.disable_cpu_ep_fallback", "0") == "1":
            raise onnxruntime.capi.onnxruntime_pybind11_state.Fail(
                "This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has "
                "been explicitly disabled by the user."
            )
        self.prefix = settings.profile_file_prefix

    def get_providers(self):
        return [CUDA, CPU]

    def get_inputs(self):
        return [type("Port", (), {"name": "input", "shape": ["batch", 3, 32, 32], "type": "tensor(float)"})]

    def run(self, names, feeds):
        assert feeds["input"].shape == (1, 3, 32, 32)

    def end_profiling(self):
        events = [
            {"cat": "Node", "name": f"{name}_kernel_time", "args": {"op_name": operator, "provider": provider}}
            for name, operator, provider in (("conv1", "Conv", CUDA), ("fc", "Gemm", CPU))
        ]
        session = {"cat": "Session", "name": "model_run", "args": {}}
        Path(f"{self.prefix}.json").write_text(json.dumps([session, *events]))
        return f"{self.prefix}.json"


@pytest.fixture
def profiling(monkeypatch):
    class Session(Profiling):
        pass

    real = onnxruntime.SessionOptions

    class Options(real):
        def get_session_config_entry_or(self, key, otherwise):
            try:
                return self.get_session_config_entry(key)
            except RuntimeError:
                return otherwise

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    return Session


def test_a_session_that_cannot_start_without_the_cpu_names_its_nodes(profiling):
    with pytest.raises(GateFailed, match=r"^not on CUDAExecutionProvider: fc \(Gemm\)$"):
        open_cuda(Path("model.onnx"))


def test_a_session_whose_profile_shows_the_cpu_names_its_nodes(profiling):
    profiling.strict = False
    assert open_cuda(Path("model.onnx")).misplaced() == ("fc (Gemm)",)


def test_on_the_cpu_nothing_is_misplaced(exported):
    assert open_runtime("onnxruntime-cpu", exported("onnx", "uint8", 17).path).misplaced() == ()


@pytest.mark.parametrize("variant", ["float32", "uint8"])
def test_bound_memory_computes_the_same(variant, exported, weights20):
    file = exported("onnx", variant, 17).path
    images = as_variant(FEW["real"], variant, weights20.normalization)
    plain, bound = open_runtime("onnxruntime-cpu", file), BoundSession(file, "bound", CPU, {})
    for batch in (1, 7, 12):
        assert np.array_equal(bound.logits(images[:batch]), plain.logits(images[:batch]))


def test_reduced_precision_is_asked_for_by_its_rows_alone(profiling, monkeypatch):
    asked = []
    monkeypatch.setattr(profiling, "strict", False)
    monkeypatch.setattr(profiling, "__init__", lambda self, *a, providers, **k: asked.append(providers))
    open_tf32(Path("model.onnx"))
    with pytest.raises(AttributeError):  # the stand-in has no outputs to bind
        open_bound(Path("model.onnx"))
    assert [options["use_tf32"] for ((_, options),) in asked] == ["1", "0"]
    assert [name for name, spec in RUNTIMES.items() if spec.device == "cuda" and spec.gated] == [
        "onnxruntime-cuda",
        "onnxruntime-cuda-iobinding",
    ]


def test_tensorrt_that_is_not_there_is_said_in_a_sentence(monkeypatch):
    monkeypatch.setattr("cifar_export.runtimes.onnxruntime_cuda.has_driver", lambda: False)
    cause = why_missing("onnxruntime-tensorrt").cause
    assert "GPU" in cause or "provider" in cause


@pytest.mark.parametrize(("asked", "threads"), [("1", 1), ("3", 3), ("", 0), ("2,1", 0)])
def test_onnxruntime_takes_as_many_threads_as_pytorch(exported, monkeypatch, asked, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    session = open_runtime("onnxruntime-cpu", exported("onnx", "uint8", 17).path).inference
    assert session.get_session_options().intra_op_num_threads == threads


def test_onnxruntime_keeps_no_device_id_and_sends_nothing(tmp_path: Path) -> None:
    script = "import cifar_export, onnxruntime"
    folders = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", script], env=kept | folders, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*"))
