"""ONNX Runtime on CUDA: it runs there in full float32, or it is an error; the CPU never takes over unseen.

Tests with a stand-in for ONNX Runtime's session run anywhere; those marked `cuda` want a GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as state

from cifar_export.diagnosis.prove import prove
from cifar_export.errors import InvalidInput, Unavailable
from cifar_export.exporting.artifact import Artifact
from cifar_export.runtimes import cuda_libraries, open_runtime, why_missing
from cifar_export.runtimes.onnxruntime import CPU, CUDA, missing_cuda, open_cpu, open_cuda
from cifar_export.runtimes.onnxruntime_cuda import TENSORRT, missing_tensorrt
from cifar_export.weights.core import Weights

Export = Callable[..., Artifact]


class StandIn:
    """An ONNX Runtime session on the provider that the test wants, or none; it records how it was asked for."""

    runs_on: ClassVar[str] = CUDA
    error: ClassVar[Exception | None] = None
    asked: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, model: Any, settings: Any, providers: Any, **more: Any) -> None:
        self.asked.append({"settings": settings, "providers": providers, **more})
        if self.error:
            raise self.error

    def get_providers(self) -> list[str]:
        return [self.runs_on, CPU] if self.runs_on != CPU else [CPU]

    def get_inputs(self) -> list[Any]:
        return [type("Input", (), {"name": "input"})]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    """A machine that seems to have CUDA, and sessions that are stand-ins."""
    monkeypatch.setattr(StandIn, "runs_on", CUDA)
    monkeypatch.setattr(StandIn, "error", None)
    monkeypatch.setattr(StandIn, "asked", [])
    monkeypatch.setattr(onnxruntime, "InferenceSession", StandIn)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr("cifar_export.runtimes.onnxruntime.has_driver", lambda: True)
    monkeypatch.setattr(cuda_libraries, "loads", lambda name: True)
    return StandIn


def test_a_session_that_fell_back_to_the_cpu_is_refused(session: type[StandIn]) -> None:
    session.runs_on = CPU
    with pytest.raises(Unavailable, match=r"^asked for CUDAExecutionProvider, .* fell back to CPU.*doctor") as raised:
        open_cuda(Path("model.onnx"))
    assert raised.value.exit_code == 3


def test_a_machine_where_sessions_fall_back_is_said_to_lack_cuda(session: type[StandIn]) -> None:
    session.runs_on = CPU
    assert "CPUExecutionProvider would run instead" in str(missing_cuda())
    with pytest.raises(Unavailable, match="onnxruntime-cuda cannot run here"):
        open_runtime("onnxruntime-cuda", Path("model.onnx"))


TENSORRT_SAYS = (
    "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void onnxruntime::python::"
    "RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const onnxruntime::ProviderOptions&) Please install "
    "TensorRT libraries as mentioned in the GPU requirements page, make sure they're in the PATH or LD_LIBRARY_PATH, "
    "and that your GPU is supported.\n"
)


def test_that_tensorrt_is_not_installed_is_a_sentence(session: type[StandIn], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr("cifar_export.runtimes.onnxruntime_cuda.has_driver", lambda: True)
    session.error = RuntimeError(TENSORRT_SAYS)
    missing = missing_tensorrt()
    assert missing is not None
    assert missing.cause == "the libraries of TensorRT are not installed"
    assert "LD_LIBRARY_PATH" in missing.fix


def test_a_reason_names_no_place_in_the_source(session: type[StandIn]) -> None:
    session.error = RuntimeError(TENSORRT_SAYS.replace("Please install TensorRT", "CUDA failure 35: no"))
    cause = str(missing_cuda())
    assert "CUDA failure 35: no libraries" in cause
    assert "::" not in cause
    assert ".cc" not in cause


def test_a_session_on_cuda_is_taken_and_says_so(session: type[StandIn]) -> None:
    assert open_cuda(Path("model.onnx")).provider == CUDA
    assert missing_cuda() is None


def test_full_float32_and_no_fallback_are_asked_for(session: type[StandIn]) -> None:
    open_cuda(Path("model.onnx"))
    (asked,) = session.asked
    assert asked["settings"].get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
    assert asked["enable_fallback"] == 0
    ((provider, options),) = asked["providers"]
    assert (provider, options["use_tf32"], options["cudnn_conv_algo_search"]) == (CUDA, "0", "HEURISTIC")


def test_the_cuda_libraries_of_the_wheels_are_loaded_first(
    session: type[StandIn], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def preload() -> None:
        session.asked.append({"preload": True})
        sys.stdout.write("Failed to load libcurand.so.10\n")  # what the real one does, on stdout

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    open_cuda(Path("model.onnx"))
    assert session.asked[0] == {"preload": True}
    assert capfd.readouterr().out == ""  # a JSON document goes there


def test_the_cpu_needs_no_cuda_library(session: type[StandIn], monkeypatch: pytest.MonkeyPatch) -> None:
    session.runs_on = CPU
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: pytest.fail("called"))
    assert open_cpu(Path("model.onnx")).provider == CPU


def test_a_provider_that_raises_is_what_the_machine_lacks(session: type[StandIn]) -> None:
    session.error = state.Fail("CUDA failure 35: driver version is insufficient ; GPU=0\nand much more")
    with pytest.raises(Unavailable, match=r"did not start: CUDA failure 35: .* GPU=0\. Run `cifar-export doctor`"):
        open_cuda(Path("model.onnx"))
    assert "CUDA failure 35" in str(missing_cuda())


def test_a_file_that_is_no_model_is_not_blamed_on_cuda(session: type[StandIn]) -> None:
    session.error = state.InvalidProtobuf("Protobuf parsing failed.")
    with pytest.raises(InvalidInput, match=r"cannot load model\.onnx: Protobuf parsing failed\. Export it again"):
        open_cuda(Path("model.onnx"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of libraries on Linux")
def test_the_missing_library_is_named(session: type[StandIn], monkeypatch: pytest.MonkeyPatch) -> None:
    session.error = state.Fail("nodes ..., but fallback to CPU EP has been explicitly disabled by the user.")
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    monkeypatch.setattr(cuda_libraries, "loads", lambda name: "curand" not in name)
    assert "for want of libcurand.so.10. `pip install 'onnxruntime-gpu[cuda,cudnn]'`" in str(missing_cuda())


def test_a_second_build_that_removed_the_provider_is_named(
    session: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    both = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr("cifar_export.runtimes.onnxruntime.packages", lambda: both)
    assert "onnxruntime is installed over onnxruntime-gpu" in str(missing_cuda())


# Without a GPU, for real: other processes, whose stderr is looked at as a user sees it


def no_gpu(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, cwd=cwd, check=False, timeout=200
    )


@pytest.mark.parametrize("command", ["parity", "evaluate"])
def test_without_a_gpu_the_commands_say_it_in_one_line(command: str, weights20_file: Path, tmp_path: Path) -> None:
    more = []
    if command == "evaluate":
        folder = tmp_path / "cifar-10-batches-bin"
        folder.mkdir()
        with (folder / "test_batch.bin").open("wb") as stream:
            stream.truncate(10_000 * 3073)  # black airplanes; holes: no disk is used
        more = ["--data-dir", str(tmp_path)]
    arguments = ["-m", "cifar_export", command, "resnet20", "--weights", str(weights20_file)]
    more += ["--runtime", "onnxruntime-cuda"]
    result = no_gpu(*arguments, *more, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (3, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: onnxruntime-cuda cannot run here: ")
    assert "\x1b" not in line


def test_a_provider_that_does_not_start_writes_nothing_of_its_own(exported: Export, tmp_path: Path) -> None:
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime was built without CUDA")
    script = """
import sys
from pathlib import Path
from cifar_export.errors import Unavailable
from cifar_export.runtimes.onnxruntime import open_cuda
try:
    open_cuda(Path(sys.argv[1]))
except Unavailable as error:
    print(error)
"""
    result = no_gpu("-c", script, str(exported("onnx", opset=17).path), cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("the CUDA provider did not start")
    assert len(result.stdout.splitlines()) == 1


# With a GPU


@pytest.fixture
def cuda() -> None:
    """Skip with the reason where ONNX Runtime has no CUDA."""
    reason = why_missing("onnxruntime-cuda")
    if reason:
        pytest.skip(f"needs CUDA: {reason}")


@pytest.mark.cuda
@pytest.mark.parametrize("variant", ["float32", "uint8"])
def test_parity_on_cuda(cuda: None, variant: Any, weights20: Weights, exported: Export) -> None:
    file = exported("onnx", variant, 17).path
    report = prove(weights20, file=file, runtimes=["onnxruntime-cuda", "onnxruntime-cpu"])
    assert report.passed, report.failures
    (on_cuda, on_cpu) = report.runtimes
    assert (on_cuda.provider, on_cpu.provider) == (CUDA, CPU)
    # TF32 would be off by 1e-3 of the logits, hundreds of times more than any float32 forward
    assert on_cuda.max_abs_error is not None
    assert on_cpu.max_abs_error is not None
    assert on_cuda.max_abs_error < 20 * on_cpu.max_abs_error


@pytest.mark.cuda
@pytest.mark.parametrize("batch", [1, 3, 200])
def test_tf32_is_off_on_cuda(cuda: None, batch: int, exported: Export) -> None:
    file = exported("onnx", opset=17).path
    images = np.random.default_rng(batch).standard_normal((batch, 3, 32, 32)).astype(np.float32)
    runtime = open_cuda(file)
    assert runtime.inference.get_provider_options()[CUDA]["use_tf32"] == "0"
    expected = open_cpu(file).logits(images)
    np.testing.assert_allclose(runtime.logits(images), expected, atol=1e-4 * float(np.abs(expected).max()), rtol=0)
