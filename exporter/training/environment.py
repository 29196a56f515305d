"""What a run ran on, for its log: hardware, versions, source revision, and how it computes."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import subprocess
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInput, Unavailable, first_line
from ..system.commit import source_commit
from ..system.processor import processor_name
from ..system.version import __version__
from .recipe import Recipe


def pick_device(name: str) -> torch.device:
    """`auto` (CUDA if there is one), `cpu`, `cuda`, ... as a device.

    Raises `Unavailable` when CUDA was asked for and does not work, `InvalidInput` for names torch does not know.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInput(f"there is no device {name!r}. Use auto, cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise Unavailable("torch finds no usable CUDA GPU. Use --device cpu, or see what `cifar-export doctor` says.")
    if device.type not in ("cpu", "cuda"):
        raise InvalidInput(f"training runs on cpu or cuda, not on {device.type}.")
    return device


def computes_bf16(device: torch.device) -> bool:
    """Whether `device` has bfloat16 arithmetic, so that autocast to it is faster rather than slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Not mkldnn's own answer, which is yes where bfloat16 is only emulated.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def precision(recipe: Recipe, device: torch.device) -> str:
    """Choose the recipe's precision as far as `device` has it: `bf16` or `float32`."""
    return "bf16" if recipe.precision == "bf16" and computes_bf16(device) else "float32"


def compiled(network: nn.Module, device: torch.device) -> tuple[Callable[[Tensor], Tensor], str]:
    """`network` compiled for a GPU, and why not where that is impossible (empty where it worked).

    On a CPU compiling costs a minute and loses: 0.91 of the speed of eager steps with the whole network compiled, 0.33
    with batch norms, ReLUs and additions alone, which are 28 % of a step (torch 2.15, ResNet-20, batch 128, bfloat16,
    processor time of one AMD EPYC core). Compiled for each size of batch, of which an epoch has two at
    most: kernels for any size are slower.
    """
    if device.type != "cuda":
        return network, ""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(8, device=device))
    # Without a C compiler, without Triton, with a GPU too old for it: each raises errors of its own.
    except (RuntimeError, ImportError, OSError, subprocess.SubprocessError) as error:
        return network, first_line(error, named=True)
    return torch.compile(network, dynamic=False), ""


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed memory rather than hand it back: thousands of page faults less in every step.

    Worth 3 to 5 % of a CPU step (one Zen 5 core, batch 128). Does nothing where the C library is another.
    """
    trim_threshold, mmap_threshold = -1, -3  # from malloc.h
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 32 << 20)
        libc.mallopt(trim_threshold, 2**31 - 1)


def hardware(device: torch.device, processes: int) -> str:
    """For people: `AMD EPYC, 2 threads`, `2 x NVIDIA H200`."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return name if processes == 1 else f"{processes} x {name}"
    threads = torch.get_num_threads() * processes
    return f"{processor_name()}, {threads} thread{'s' if threads > 1 else ''}"


def versions() -> dict[str, str]:
    """List the versions that a run's result depends on."""
    return {"cifar-export": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}


def describe(device: torch.device, processes: int, recipe: Recipe) -> dict[str, Any]:
    """JSON data for the first line of a log."""
    return {
        "hardware": hardware(device, processes),
        "device": device.type,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "precision": precision(recipe, device),
        "versions": versions(),
        "commit": source_commit(),
    }
