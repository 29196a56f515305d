"""`cifar-export doctor`: what is broken is a problem with a fix, what is absent a note, and nothing makes it faint."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from click.testing import Result

import cifar_export.doctor.gpu
from cifar_export.doctor import Check, diagnose
from cifar_export.networks.zoo import CIFAR10, DatasetSpec
from cifar_export.runtimes import RUNTIMES, cuda_libraries
from cifar_export.weights.core import Weights
from cifar_export.weights.index import BundledEntry, add_to_index
from cifar_export.weights.native import save_weights

from support.paths import ROOT


@pytest.fixture(autouse=True)
def _no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU, whatever this one has, and folders of its own."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("CIFAR_EXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar_export.doctor.gpu, "_MODULE_LOADED", tmp_path / "no-module")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a stand-in for nvidia-smi on the path: a shell script of one line."""

    def put(line: str) -> None:
        script = tmp_path / "bin" / "nvidia-smi"
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")

    return put


@pytest.fixture
def gpu_here(nvidia_smi: Callable[[str], None]) -> None:
    """A GPU with a driver, by what nvidia-smi says."""
    nvidia_smi("echo NVIDIA H200, 580.65.06")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the packaging metadata say that a distribution is installed."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)

    def put(name: str, version: str, *requires: str) -> None:
        folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            f"Version: {version}",
            *(f"Requires-Dist: {r}" for r in requires),
        ]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        importlib.invalidate_caches()

    return put


def found(name: str, data_dir: Path = Path("data")) -> Check:
    """The finding of that name."""
    (check,) = [check for check in diagnose(data_dir).checks if check.name == name]
    return check


def test_every_finding_but_ok_has_a_fix_and_a_name_of_its_own() -> None:
    diagnosis = diagnose(Path("data"))
    assert {check.name for check in diagnosis.checks if check.status != "ok" and not check.fix} == set()
    names = [check.name for check in diagnosis.checks]
    assert len(set(names)) == len(names)
    assert {f"runtime {name}" for name in RUNTIMES} <= set(names)


def test_a_machine_without_gpu_and_data_is_healthy() -> None:
    diagnosis = diagnose(Path("data"))
    assert [check for check in diagnosis.checks if check.status == "problem"] == []
    assert diagnosis.ok
    notes = {check.name for check in diagnosis.of("note")}
    assert {"gpu", "runtime pytorch-cuda", "runtime onnxruntime-cuda", "data cifar10", "data cifar100"} <= notes


def test_json_is_one_document_with_versions(run: Callable[..., Result]) -> None:
    result = run("doctor", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["schema"], document["ok"]) == (0, 1, True)
    assert document["versions"]["torch"]
    assert document["versions"]["python"].startswith("3.")
    assert {"name", "status", "detail", "fix"} == set(document["checks"][0])


def test_the_table_has_each_fix(run: Callable[..., Result], gpu_here: None) -> None:
    result = run("doctor", "--data-dir", "elsewhere")
    assert result.exit_code == 3
    records = {line.split("\t")[0]: line.split("\t") for line in result.stdout.splitlines()}
    assert records["runtime onnxruntime-cuda"][1] == "problem"
    assert "`cifar-export data fetch --dataset cifar100 --data-dir elsewhere`" in records["data cifar100"][3]
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in result.stdout  # square brackets survive
    assert "problem" in result.stderr


# ONNX Runtime and CUDA


class FellBack:
    """A session that takes every provider and then runs on the CPU, as ONNX Runtime's do without CUDA."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


@pytest.fixture
def falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", FellBack)
    monkeypatch.setattr(cuda_libraries, "loads", lambda name: True)


def test_cuda_listed_but_fallen_back_from_is_a_problem_beside_a_gpu(falls_back: None, gpu_here: None) -> None:
    check = found("onnxruntime-providers")
    assert check.status == "problem"
    assert "listed only: CUDAExecutionProvider (CPUExecutionProvider would run instead)" in check.detail
    assert found("runtime onnxruntime-cuda").status == "problem"


def test_cuda_listed_but_fallen_back_from_is_as_it_should_be_without_a_gpu(falls_back: None) -> None:
    check = found("onnxruntime-providers")
    assert check.status == "ok"
    assert check.detail.startswith("start: CPUExecutionProvider; listed only: CUDAExecutionProvider")
    assert found("runtime onnxruntime-cuda").status == "note"


def test_no_provider_that_starts_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("illegal instruction")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    check = found("onnxruntime-providers")
    assert (check.status, "illegal instruction" in check.detail) == ("problem", True)


def test_two_builds_of_onnxruntime_are_a_problem(install: Callable[..., None]) -> None:
    install("onnxruntime", "1.30.0")
    install("onnxruntime-gpu", "1.31.1")
    check = found("onnxruntime")
    assert check.status == "problem"
    assert "onnxruntime 1.30.0, onnxruntime-gpu 1.31.1 are installed side by side" in check.detail
    assert "pip uninstall onnxruntime onnxruntime-gpu" in str(check.fix)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of libraries on Linux")
@pytest.mark.parametrize("gpu", [False, True])
def test_a_missing_libcurand_is_named(
    gpu: bool, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if gpu:
        request.getfixturevalue("gpu_here")
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(cuda_libraries, "loads", lambda name: "curand" not in name)
    check = found("cuda-libraries")
    assert check.status == ("problem" if gpu else "note")
    assert check.detail.endswith("cannot find libcurand.so.10")
    assert "onnxruntime-gpu[cuda,cudnn]" in str(check.fix)


def test_other_majors_of_cuda_are_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.version.cuda", "12.8")
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    check = found("cuda-versions")
    assert (check.status, "PyTorch 12, ONNX Runtime 13" in check.detail) == ("note", True)


def test_a_torch_without_cuda_is_a_problem_beside_a_gpu_only(
    monkeypatch: pytest.MonkeyPatch, nvidia_smi: Callable[[str], None]
) -> None:
    monkeypatch.setattr("torch.version.cuda", None)
    assert found("torch-cuda").status == "ok"
    nvidia_smi("echo NVIDIA H200, 580.65.06")
    assert found("torch-cuda").status == "problem"


@pytest.mark.parametrize("module", [True, False])
def test_a_broken_driver_is_a_problem_and_a_tool_without_one_is_not(
    module: bool, tmp_path: Path, nvidia_smi: Callable[[str], None]
) -> None:
    nvidia_smi("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    if module:
        (tmp_path / "no-module").touch()
    check = found("gpu")
    assert check.status == ("problem" if module else "note")
    assert ("version mismatch" in check.detail) is module


def test_an_nvidia_smi_that_hangs_is_given_up_on(
    monkeypatch: pytest.MonkeyPatch, nvidia_smi: Callable[[str], None]
) -> None:
    nvidia_smi("while :; do :; done")
    monkeypatch.setattr(cifar_export.doctor.gpu, "_SMI_SECONDS", 0.2)
    check = found("gpu")
    assert (check.status, "does not answer" in check.detail) == ("problem", True)


def test_a_hidden_gpu_is_a_note(monkeypatch: pytest.MonkeyPatch, gpu_here: None) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    check = found("gpu")
    assert (check.status, check.fix) == ("note", "Unset CUDA_VISIBLE_DEVICES.")


# Packages


@pytest.mark.parametrize(
    ("requirement", "status"), [("torch==2.9.1", "problem"), ("torch<2", "problem"), ("torch>=2.10", "ok")]
)
def test_torchvision_says_itself_which_torch_it_fits(
    requirement: str, status: str, install: Callable[..., None]
) -> None:
    install("torchvision", "0.24.1", "numpy", requirement)
    check = found("torchvision")
    assert check.status == status
    assert ("--force-reinstall torch torchvision" in str(check.fix)) is (status == "problem")


def test_a_torchvision_that_does_not_import_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    check = found("torchvision")
    assert (check.status, "RuntimeError: operator torchvision::nms does not exist" in check.detail) == ("problem", True)


def test_a_requirement_that_is_not_met_is_a_problem(install: Callable[..., None]) -> None:
    install("click", "7.0")
    check = found("packages")
    assert (check.status, "click 7.0 is installed, >=8." in check.detail) == ("problem", True)


def test_a_torch_that_does_not_import_is_a_finding_not_a_traceback(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    (broken / "torch").mkdir(parents=True)
    (broken / "torch" / "__init__.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(broken), str(ROOT)])}
    command = [sys.executable, "-m", "cifar_export", "doctor", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=100)
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert (result.returncode, result.stderr) == (3, "")
    assert checks["torch"]["status"] == "problem"
    assert "OSError: libcudart.so.13" in checks["torch"]["detail"]
    assert checks["weights"]["status"] != "problem"  # the rest is still looked at


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[str]:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(onnxruntime, "get_available_providers", fail)
    check = found("onnxruntime-providers")
    assert (check.status, "ZeroDivisionError: surprise" in check.detail) == ("problem", True)


# Data, weights, folders


def test_complete_data_is_ok_and_a_short_file_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        with (folder / name).open("wb") as stream:
            stream.truncate(10_000 * 3073)  # holes: no disk is used
    assert found("data cifar10", tmp_path).status == "ok"
    with (folder / "test_batch.bin").open("r+b") as stream:
        stream.truncate(1_000_000)
    check = found("data cifar10", tmp_path)
    assert check.status == "problem"
    assert "test_batch.bin has 1,000,000 bytes, 30,730,000 expected" in check.detail
    (folder / "test_batch.bin").unlink()
    assert "test_batch.bin is missing" in found("data cifar10", tmp_path).detail


def test_a_torchvision_folder_counts_as_data(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test"):
        (folder / name).write_bytes(b"pickle")
    assert found("data cifar100", tmp_path).status == "ok"


def test_the_inner_folder_is_recognized(tmp_path: Path, write_cifar: Callable[..., DatasetSpec]) -> None:
    write_cifar(tmp_path, CIFAR10)
    check = found("data cifar10", tmp_path / "cifar-10-batches-bin")
    assert check.status == "note"
    assert f"--data-dir {tmp_path}." in str(check.fix)


def test_a_data_folder_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = found("data cifar10", tmp_path / "file")
    assert (check.status, "Not a directory" in check.detail) == ("problem", True)


@pytest.fixture
def bundle(tmp_path: Path, weights20: Weights, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of one network in place of the package's own."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    digest = save_weights(folder / "resnet20.safetensors", weights20)
    entry = BundledEntry(
        network="cifar10_resnet20",
        model="resnet20",
        dataset="cifar10",
        file="resnet20.safetensors",
        sha256=str(digest),
        normalization=weights20.normalization,
        recipe={},
        seed=0,
        metrics={"top1": 10.0, "top5": 50.0},
        below_reference=True,
    )
    add_to_index(folder, entry)
    monkeypatch.setattr("cifar_export.doctor.storage.bundled_folder", lambda: folder)
    return folder


def test_intact_bundled_weights_are_counted(bundle: Path) -> None:
    check = found("weights")
    assert check.status == "note"  # seven are not there
    assert check.detail.startswith("1 networks bundled, intact; no weights of cifar10_resnet32, ")


def test_a_damaged_index_is_a_problem(bundle: Path) -> None:
    index = bundle / "index.json"
    index.write_text(index.read_text()[:-20])
    check = found("weights")
    assert check.status == "problem"
    assert f"the index of bundled weights {index} can't be used" in check.detail
    assert "restore that file" in str(check.fix)


def test_a_damaged_weight_file_is_a_problem(bundle: Path) -> None:
    file = bundle / "resnet20.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert "are damaged: sha256" in found("weights").detail
    file.unlink()
    check = found("weights")
    assert (check.status, "cannot be read: No such file" in check.detail) == ("problem", True)


def test_folders_that_cannot_be_written_are_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (found("cache-folder").status, found("output-folder").status) == ("ok", "ok")
    assert not (tmp_path / "cache").exists()  # looked at, not made
    (tmp_path / "artifacts").touch()  # a file in the way
    monkeypatch.setenv("CIFAR_EXPORT_CACHE", str(tmp_path / "artifacts" / "cache"))
    assert (found("cache-folder").status, found("output-folder").status) == ("problem", "problem")
    assert "CIFAR_EXPORT_CACHE" in str(found("cache-folder").fix)
