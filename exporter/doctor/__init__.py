"""What of this machine will or will not work, each finding with its fix: `cifar-export doctor`.

Everything is looked at, nothing is changed, and nothing found ends the run: a package that does not import is a
finding like any other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from ..errors import first_line
from ..networks.zoo import DATASETS
from ..runtimes import RUNTIMES, RuntimeSpec, why_missing
from . import gpu, packages, storage
from .report import Check, Diagnosis, Status

__all__ = ["Check", "Diagnosis", "Status", "diagnose"]


def diagnose(data_dir: Path, progress: Callable[[str], None] | None = None) -> Diagnosis:
    """Look at versions, GPU, runtimes, data under `data_dir`, weights and folders: seconds, most of them imports.

    A problem is what breaks something that this machine should be able to do; what it merely lacks (a GPU, the data)
    is a note. Never raises for anything found.
    """
    checks: list[Check] = []

    def look(name: str, check: Callable[[], Check]) -> Check:
        if progress is not None:
            progress(name)
        checks.append(_guarded(name, check))
        return checks[-1]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # findings are reported once, by the checks
        look("system", packages.check_system)
        look("packages", packages.check_requirements)
        torch_works = look("torch", lambda: packages.check_import("torch")).status == "ok"
        look("torchvision", packages.check_torchvision)
        look("onnxruntime", packages.check_onnxruntime)
        machine = gpu.find()
        look("gpu", lambda: gpu.check_gpu(machine))
        if torch_works:
            look("torch-cuda", lambda: gpu.check_torch_cuda(machine))
            look("float32", gpu.check_float32)
        look("cuda-versions", gpu.check_versions)
        look("cuda-libraries", lambda: gpu.check_libraries(machine))
        look("onnxruntime-providers", lambda: gpu.check_providers(machine))
        for spec in RUNTIMES.values():
            look(f"runtime {spec.name}", lambda spec=spec: _check_runtime(spec, machine, torch_works))  # type: ignore[misc]
        for dataset in DATASETS.values():
            look(f"data {dataset.name}", lambda dataset=dataset: storage.check_data(dataset, data_dir))  # type: ignore[misc]
        look("weights", storage.check_weights)
        if torch_works:
            look("cache-folder", storage.check_cache)
        look("output-folder", storage.check_output)
        return Diagnosis(tuple(checks), packages.versions())


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """The finding of `check`; its own failure is one too, because a doctor must not faint."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001  whatever a damaged installation raises
        detail = f"could not be looked at: {type(error).__name__}: {first_line(error)}"
        return Check(name, "problem", detail, "Mend what the other problems name, then run it again.")


# What the package's own requirements bring; the other runtimes are extras, and their absence is no fault.
_INSTALLED_WITH_US = ("pytorch", "torchscript", "torch-export", "onnxruntime-cpu")


def _check_runtime(spec: RuntimeSpec, machine: gpu.Machine, torch_works: bool) -> Check:
    name = f"runtime {spec.name}"
    if not torch_works:  # a broken torch is one problem, not seven
        return Check(name, "note", "not looked at: torch does not import", "Mend torch first.")
    missing = why_missing(spec.name)
    if missing is None:
        return Check(name, "ok", spec.title)
    should_work = spec.name in _INSTALLED_WITH_US or (spec.device == "cuda" and spec.gated and machine.usable)
    return Check(name, "problem" if should_work else "note", missing.cause, missing.fix)
