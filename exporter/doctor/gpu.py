"""The GPU, its driver, CUDA and cuDNN, and whether PyTorch and ONNX Runtime really start on it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import first_line
from .report import Check, Status

_SMI_SECONDS = 20  # it takes a few when the driver was unloaded
_MODULE_LOADED = Path("/proc/driver/nvidia/version")
_INSTALL_ORT = "`pip install 'onnxruntime-gpu[cuda,cudnn]'`."


@dataclass(frozen=True)
class Machine:
    """The NVIDIA GPUs by name, the driver's version, and what is wrong with them ("" where nothing is).

    `hidden`: CUDA_VISIBLE_DEVICES shows none of them to programs.
    """

    gpus: tuple[str, ...]
    driver: str | None
    trouble: str = ""
    hidden: bool = False

    @property
    def usable(self) -> bool:
        """Whether CUDA is expected to work here."""
        return bool(self.gpus) and not self.hidden


def find() -> Machine:
    """Ask nvidia-smi, and PyTorch where that is not there. Never raises."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    smi = shutil.which("nvidia-smi")
    trouble = ""
    if smi:
        command = [smi, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return Machine((), None, f"nvidia-smi does not answer within {_SMI_SECONDS} seconds", hidden)
        except OSError as error:
            answer = subprocess.CompletedProcess(command, 1, str(error), "")
        rows = [line.rpartition(",") for line in answer.stdout.splitlines() if "," in line]
        if answer.returncode == 0 and rows:
            return Machine(tuple(name.strip() for name, _, _ in rows), rows[0][2].strip(), hidden=hidden)
        said = (answer.stdout + answer.stderr).strip().splitlines() or [f"exit code {answer.returncode}"]
        # without the kernel module it is a machine without a GPU that has the tool, as many images do
        trouble = f"nvidia-smi fails: {said[0].rstrip('.')}" if _MODULE_LOADED.exists() else ""
    torch = sys.modules.get("torch")
    if torch is not None and not hidden and _starts(torch) is None:
        return Machine(tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())), None)
    return Machine((), None, trouble, hidden)


def check_gpu(machine: Machine) -> Check:
    """The GPU and its driver."""
    if machine.trouble:
        fix = "Restart the machine if its driver was just updated; else install the NVIDIA driver again."
        return Check("gpu", "problem", machine.trouble, fix)
    names = ", ".join(machine.gpus)
    if machine.hidden and machine.gpus:
        return Check("gpu", "note", f"{names}, hidden by CUDA_VISIBLE_DEVICES", "Unset CUDA_VISIBLE_DEVICES.")
    if not machine.gpus:
        fix = (
            "Only the -cuda runtimes need one, and training gains by it: run those on a machine where nvidia-smi works."
        )
        return Check("gpu", "note", "no NVIDIA GPU", fix)
    return Check("gpu", "ok", f"{names}, driver {machine.driver or 'of unknown version'}")


def check_torch_cuda(machine: Machine) -> Check:
    """Which CUDA and cuDNN PyTorch has, and whether a convolution runs on the GPU."""
    import torch

    if torch.version.cuda is None:
        fix = "Install the CUDA build of both: `pip install --force-reinstall torch torchvision`."
        status: Status = "problem" if machine.usable else "ok"
        return Check("torch-cuda", status, "this PyTorch was built without CUDA", fix if machine.usable else None)
    built = f"CUDA {torch.version.cuda}, {_cudnn(torch)}"
    if not machine.usable:
        return Check("torch-cuda", "ok", f"{built}; not started, for want of a GPU")
    reason = _starts(torch)
    if reason is None:
        return Check("torch-cuda", "ok", f"{built}; runs on {torch.cuda.get_device_name(0)}")
    fix = f"Update the NVIDIA driver to one for CUDA {torch.version.cuda}, or install a torch built for an older CUDA."
    return Check("torch-cuda", "problem", f"{built}; does not run: {reason}", fix)


def check_float32() -> Check:
    """Whether float32 arithmetic is in full where this project promises so: TF32 is on by default in cuDNN."""
    import torch

    from ..runtimes.onnxruntime import CUDA_OPTIONS
    from ..system.torch_state import full_float32

    def state() -> dict[str, str]:
        conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined]
        return {"cuDNN convolutions": conv.fp32_precision, "CUDA products": matmul.fp32_precision}

    before = state()
    with full_float32():
        inside = state()
    as_found = ", ".join(f"{what} {'default' if value == 'none' else value}" for what, value in before.items())
    ort = "off" if CUDA_OPTIONS["use_tf32"] == "0" else "ON"
    detail = f"TF32 as PyTorch starts: {as_found}. While a network runs: off in PyTorch, {ort} in ONNX Runtime"
    if set(inside.values()) != {"ieee"} or ort != "off":
        fix = "Install a torch that knows `fp32_precision`: `pip install --upgrade torch torchvision`."
        return Check("float32", "problem", f"reduced precision stays on: {inside}", fix)
    if os.environ.get("NVIDIA_TF32_OVERRIDE", "0") != "0":
        return Check("float32", "note", "NVIDIA_TF32_OVERRIDE is set and may overrule it", "Unset it, or set it to 0.")
    return Check("float32", "ok", detail)


def check_versions() -> Check:
    """Which CUDA and cuDNN PyTorch and ONNX Runtime were built for: other majors need two sets of libraries."""
    torch, ort = _module("torch"), _module("onnxruntime")
    of_torch = getattr(getattr(torch, "version", None), "cuda", None)
    found = {
        "CUDA": (_major(of_torch), _major(getattr(ort, "cuda_version", None))),
        "cuDNN": (_major(_cudnn(torch).removeprefix("cuDNN ")) if torch else None, _cudnn_of_ort()),
    }
    parts = [
        f"{what}: PyTorch {_or_none(pytorch)}, ONNX Runtime {_or_none(onnxruntime)}"
        for what, (pytorch, onnxruntime) in found.items()
    ]
    differing = [what for what, pair in found.items() if None not in pair and len(set(pair)) > 1]
    if differing:
        fix = f"Install builds for one major; while both start, nothing is to be done. ONNX Runtime: {_INSTALL_ORT}"
        return Check("cuda-versions", "note", f"other majors of {' and '.join(differing)}. {'; '.join(parts)}", fix)
    return Check("cuda-versions", "ok", "; ".join(parts))


def check_libraries(machine: Machine) -> Check:
    """Whether the libraries that ONNX Runtime's CUDA provider loads can be found, libcurand among them."""
    from ..runtimes import cuda_libraries

    ort: Any = importlib.import_module("onnxruntime")
    if cuda_libraries.built_for(ort) is None:
        return Check("cuda-libraries", "ok", "not needed: this ONNX Runtime was built without CUDA")
    cuda_libraries.preload(ort)
    missing = cuda_libraries.missing_libraries(ort)
    if missing:
        status: Status = "problem" if machine.usable else "note"
        detail = f"ONNX Runtime's CUDA provider cannot find {', '.join(missing)}"
        return Check("cuda-libraries", status, detail, f"They come with it: {_INSTALL_ORT}")
    return Check("cuda-libraries", "ok", "what ONNX Runtime's CUDA provider loads is found, libcurand included")


def check_providers(machine: Machine) -> Check:
    """Which of the listed providers really start, each on a model of one node."""
    from ..runtimes.onnxruntime import CPU, CUDA, probe

    ort: Any = importlib.import_module("onnxruntime")
    answers = {provider: probe(provider) for provider in ort.get_available_providers()}
    starting = [provider for provider, reason in answers.items() if reason is None]
    listed = [
        f"{provider} ({reason if provider in (CPU, CUDA) else 'not used here'})"
        for provider, reason in answers.items()
        if reason is not None
    ]
    detail = f"start: {', '.join(starting) or 'none'}" + (f"; listed only: {', '.join(listed)}" if listed else "")
    if answers.get(CPU, "not listed") is not None:
        return Check("onnxruntime-providers", "problem", detail, f"Install ONNX Runtime again: {_INSTALL_ORT}")
    if machine.usable and answers.get(CUDA) is not None:
        fix = f"See cuda-libraries, cuda-versions and the driver's version; the libraries come with {_INSTALL_ORT}"
        return Check("onnxruntime-providers", "problem", detail, fix)
    return Check("onnxruntime-providers", "ok", detail)


def _starts(torch: Any) -> str | None:
    """None where a convolution runs on the GPU, else why not."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # a driver that is too old is a warning
        try:
            if torch.cuda.is_available():
                one = torch.ones((1, 1, 1, 1), device="cuda")
                torch.nn.functional.conv2d(one, one).item()
                return None
        except (RuntimeError, AssertionError, OSError) as error:
            return first_line(error)
    return first_line(caught[0].message) if caught else "no GPU is seen"


def _cudnn(torch: Any) -> str:
    try:
        number = torch.backends.cudnn.version()
    except RuntimeError as error:  # another cuDNN than it was built with
        return f"cuDNN unusable ({first_line(error)})"
    if number is None:
        return "no cuDNN"
    thousand = 10_000 if number >= 90_000 else 1_000  # 90100 is 9.1.0, 8907 was 8.9.7
    return f"cuDNN {number // thousand}.{number % thousand // 100}.{number % 100}"


def _cudnn_of_ort() -> int | None:
    """The major of the cuDNN that the ONNX Runtime wheel asks for: it does not say what it was built with."""
    from packaging.requirements import Requirement

    from ..runtimes.onnxruntime import packages

    for name in packages():
        for requirement in map(Requirement, importlib.metadata.requires(name) or []):
            if requirement.name.startswith("nvidia-cudnn"):
                return _major(next((spec.version for spec in requirement.specifier), None))
    return None


def _module(name: str) -> Any:
    """The module, or None where it does not import: another check says so."""
    try:
        return importlib.import_module(name)
    except Exception:  # noqa: BLE001
        return None


def _major(version: str | None) -> int | None:
    match = re.match(r"\d+", version or "")
    return int(match[0]) if match else None


def _or_none(value: int | None) -> str:
    return "none" if value is None else str(value)
