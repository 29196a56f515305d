"""torch's state that a whole process or thread shares: fixed while our code needs it so, then as the caller had it.

torch's exporters keep global state and bake settings of the process into what they write, so one thread traces at a
time, under settings of ours. Forward passes share the time with each other, but not with a trace: torch patches its
modules meanwhile. Nothing here can keep the caller's own threads from torch.

TF32 is governed by the `fp32_precision` settings alone: reading torch's older `allow_tf32` flags raises as soon as one
of these says something else (torch 2.10 to 2.14, `Context::allowTF32CuDNN`).
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .turns import Turns

_turns = Turns()

# What torch says of torch.jit and of its older TF32 flags. TorchScript stays because C++ consumers ask for it, the
# flags because torch.export reads them. What torch 2.10 says of the bytes of a .pt2 file is of bytes it only reads, and
# what 2.11 says of LeafSpec, of copies that its own torch.export makes.
_DEPRECATED = (
    r"`?torch\.jit\.",
    r"Please use the new API settings to control TF32",
    r"The given buffer is not writable",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)
_filters = threading.RLock()
_generator = threading.RLock()


@contextlib.contextmanager
def torchscript_deprecations() -> Iterator[None]:
    """Silence what torch says about torch.jit and what goes with it being deprecated, and nothing else.

    One thread at a time: Python's warning filters belong to the process.
    """
    with _filters, warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, UserWarning):
            for message in _DEPRECATED:
                warnings.filterwarnings("ignore", message=message, category=category)
        yield


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Make networks and tensors as if the calling thread had asked torch for nothing special.

    On the CPU whatever the default device, ordinary tensors also in inference mode, no autocast. The default dtype
    stays, which other threads see too: name the dtype of what you make.
    """
    with _turns.shared(), _without_autocast_and_device(), contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        yield


@contextlib.contextmanager
def untouched_random_generator() -> Iterator[None]:
    """Draw random numbers that leave torch's global generator as it was: one thread at a time, or it would not be."""
    with _generator, torch.random.fork_rng(devices=[]):
        yield


@contextlib.contextmanager
def threads_at_most(number: int) -> Iterator[None]:
    """At most `number` threads in the operators that the calling thread runs inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, number))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """float32 arithmetic in full precision inside the block: no TF32, no bfloat16, no autocast.

    Threads share it: the first one in changes the settings of the process, the last one out puts them back.
    """
    with _turns.shared(), _without_autocast_and_device(), _ieee.held():
        yield


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Trace and export inside the block: alone, full float32, and every setting that traces depend on fixed."""
    with (
        _turns.alone(),
        plain(),
        full_float32(),
        torch.enable_grad(),
        torchscript_deprecations(),
        _older_tf32_flags_off(),
        contextlib.ExitStack() as stack,
    ):
        for read, write, value in _FIXED:
            if (before := read()) != value:
                write(value)
                stack.callback(write, before)
        yield


@contextlib.contextmanager
def _without_autocast_and_device() -> Iterator[None]:
    """The calling thread without autocast and with the CPU as its default device."""
    with contextlib.ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextlib.contextmanager
def _older_tf32_flags_off() -> Iterator[None]:
    """In `full_float32`, let the older flags say the same: torch.export reads them, and raises where they do not."""
    cudnn: Any = torch.backends.cudnn
    matmul = torch.get_float32_matmul_precision()
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "tf32"
    try:
        allowed = cudnn.allow_tf32
    except RuntimeError:  # the flag contradicts both, so it is off
        allowed = False
    try:
        cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")
        _ieee.set_parts()
        yield
    finally:
        cudnn.allow_tf32 = allowed
        torch.set_float32_matmul_precision(matmul)
        _ieee.set_parts()


class _Ieee:
    """The precision of convolutions and matrix products, of CUDA and of oneDNN, while any thread holds it."""

    # A part on which nothing is set reads as what is set above it. `torch.backends.mkldnn` is left out: up to torch
    # 2.14 it writes what it is told to `torch.backends`.
    _ABOVE: tuple[Any, ...] = (torch.backends, torch.backends.cudnn)
    _PARTS: tuple[Any, ...] = (
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.cudnn.rnn,
        torch.backends.cuda.matmul,
        torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
        torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._before: list[str] = []

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if not self._holders:
                self._before = self._set()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self._restore()

    def _set(self) -> list[str]:
        """Set every part; returns what was set on each holder, "none" where nothing was."""
        before = []
        for holder in self._ABOVE:
            before.append(holder.fp32_precision)
            holder.fp32_precision = "none"
        before += [part.fp32_precision for part in self._PARTS]
        self.set_parts()
        return before

    def set_parts(self) -> None:
        for part in self._PARTS:
            part.fp32_precision = "ieee"

    def _restore(self) -> None:
        for holder, precision in zip(self._ABOVE + self._PARTS, self._before, strict=True):
            holder.fp32_precision = precision


_ieee = _Ieee()


def _attribute(holder: Any, name: str, value: Any) -> tuple[Callable[[], Any], Callable[[Any], None], Any]:
    return (lambda: getattr(holder, name)), (lambda new: setattr(holder, name, new)), value


def _determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_determinism(state: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(state[0], warn_only=state[1])


# How to read a setting, how to write it, and what it is during a trace. `jit.trace` writes the first four into each
# convolution; beside them that it may use TF32, which `full_float32` has turned off.
_FIXED: tuple[tuple[Callable[[], Any], Callable[[Any], None], Any], ...] = (
    _attribute(torch.backends.cudnn, "benchmark", False),
    _attribute(torch.backends.cudnn, "deterministic", False),
    _attribute(torch.backends.cudnn, "enabled", True),
    (_determinism, _set_determinism, (False, False)),
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
)
