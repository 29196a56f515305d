"""The Python packages: which are there, whether they import, and whether those that must fit together do."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform

from packaging.requirements import Requirement

from ..errors import first_line
from ..system.processor import processor_name
from ..system.version import __version__
from .report import Check

_SHOWN = (
    *(
        "torch",
        "torchvision",
        "onnx",
        "onnxruntime",
        "onnxruntime-gpu",
        "openvino",
        "tract",
        "ai-edge-litert",
        "executorch",
    ),
    *("numpy", "pillow", "safetensors", "click", "rich", "platformdirs", "urllib3", "filelock", "packaging"),
)
_PAIR = "Install the pair from one index: `pip install --force-reinstall torch torchvision`."


def versions() -> dict[str, str | None]:
    """Version by name of Python, of what this project uses, and of every NVIDIA wheel; None: not installed."""
    found: dict[str, str | None] = {"cifar-export": __version__, "python": platform.python_version()}
    found |= {name: installed(name) for name in _SHOWN}
    names = {dist.metadata["Name"] or "" for dist in importlib.metadata.distributions()}
    return found | {name: installed(name) for name in sorted(names) if name.startswith("nvidia-")}


def installed(name: str) -> str | None:
    """The version of the installed distribution `name`, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_system() -> Check:
    """The operating system, the processor and Python: for reports."""
    detail = f"{platform.platform()}; {processor_name()}, {os.cpu_count()} cores; Python {platform.python_version()}"
    return Check("system", "ok", detail)


def check_requirements() -> Check:
    """Whether what this package requires is installed, in versions that it accepts."""
    try:
        required = importlib.metadata.requires("cifar-export") or []
    except importlib.metadata.PackageNotFoundError:
        fix = "`pip install .` in the folder with setup.cfg."
        return Check("packages", "note", "cifar-export runs from a folder and is not installed: unchecked", fix)
    from ..runtimes.onnxruntime import packages

    wrong = []
    shown = []
    for requirement in map(Requirement, required):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, version = requirement.name, installed(requirement.name)
        if version is None and name.startswith("onnxruntime") and packages():
            name, version = next(iter(packages().items()))  # its other builds do as well
        if version is None:
            wrong.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{name} {version} is installed, {requirement.specifier} needed")
        shown.append(f"{name} {version}")
    if wrong:
        return Check("packages", "problem", "; ".join(wrong), "`pip install --upgrade cifar-export`.")
    return Check("packages", "ok", ", ".join(shown))


def check_import(name: str) -> Check:
    """Whether the package `name` imports."""
    version = installed(name)
    try:
        module = importlib.import_module(name)
    except Exception as error:  # noqa: BLE001  OSError, RuntimeError, ...: broken installations raise all sorts
        found = f"{name} {version} does not import" if version else f"{name} is not installed"
        return Check(name, "problem", f"{found}: {type(error).__name__}: {first_line(error)}", _PAIR)
    return Check(name, "ok", f"{name} {getattr(module, '__version__', version)}")


def check_torchvision() -> Check:
    """Whether torchvision imports beside this torch, and torch is one that it was built for, by its own metadata."""
    check = check_import("torchvision")
    if check.status != "ok":
        return check
    torch_version = installed("torch")
    for requirement in map(Requirement, importlib.metadata.requires("torchvision") or []):
        fits = torch_version is not None and requirement.specifier.contains(torch_version, prereleases=True)
        if requirement.name == "torch" and not fits:
            detail = f"{check.detail} needs torch {requirement.specifier}, and torch {torch_version} is installed"
            return Check("torchvision", "problem", detail, _PAIR)
    return Check("torchvision", "ok", f"{check.detail}, fits torch {torch_version}")


def check_onnxruntime() -> Check:
    """Whether exactly one build of ONNX Runtime is installed, and imports: they share one folder."""
    from ..runtimes.onnxruntime import missing_cpu, packages

    found = packages()
    names = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        detail = f"{names} are installed side by side, in one folder: the later one has damaged the other"
        fix = f"`pip uninstall {' '.join(found)}`, then `pip install onnxruntime-gpu`."
        return Check("onnxruntime", "problem", detail, fix)
    missing = missing_cpu()
    if missing is not None:
        return Check("onnxruntime", "problem", missing.cause, missing.fix)
    return Check("onnxruntime", "ok", names or "onnxruntime, not installed by pip")
