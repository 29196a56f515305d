"""A training step that is recorded once, as a CUDA graph, and then repeated without Python.

A step of these networks launches hundreds of kernels that have little to do each. What differs from step to step (which
images, how they are cropped, the learning rate, the weight of the moving average) lies in tensors that stay where they
are. Where a step cannot be recorded, the same functions compute it anew each time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import first_line
from .augment import EpochDraws
from .checkpoint import UnderWay
from .distributed import Processes

WARM_UP = 3
"""Steps that are computed before one is recorded: they compile, choose kernels and make the optimizer's state."""

Compute = Callable[[Tensor, EpochDraws, Tensor, Tensor, Tensor], None]
"""A step on the images of these indices, with these draws, sums and losses to add to, and weight of the average."""
Record = Callable[[Callable[[], None], torch.cuda.Stream | None], Callable[[], None]]
"""What turns a function into one that repeats what it did, recorded on that stream."""


def recorder(processes: Processes) -> Record | None:
    """What records a step here; None on the CPU, and where several processes add up their gradients in each step."""
    return cuda_graph if processes.device.type == "cuda" and processes.count == 1 else None


def cuda_graph(compute: Callable[[], None], stream: torch.cuda.Stream | None) -> Callable[[], None]:
    """Record what `compute` would launch, without running it; returns what runs it. Raises `RuntimeError`."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        compute()
    return graph.replay


class RepeatedStep:
    """The steps of a run on whole batches of `batch_size` of `images` images.

    `compute` trains what `optimizer` knows. `why_not`: why steps could not be recorded, and are computed anew each
    time; else empty.
    """

    def __init__(
        self, compute: Compute, optimizer: torch.optim.Optimizer, batch_size: int, images: int, record: Record
    ) -> None:
        self._compute, self._optimizer, self._record = compute, optimizer, record
        device = optimizer.param_groups[0]["params"][0].device
        self._batch = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self._rate, self._weight = torch.zeros((), device=device), torch.zeros((), device=device)
        corner = torch.zeros(images, dtype=torch.int64, device=device)
        number = torch.zeros(images, device=device)
        self._draws = EpochDraws(self._batch, corner, corner.clone(), corner.bool(), number)
        self._totals, self._fresh = torch.zeros(2, dtype=torch.float64, device=device), number.clone()
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._done = 0
        self._repeat: Callable[[], None] | None = None
        self.why_not = ""

    def begin(self, draws: EpochDraws, under_way: UnderWay) -> None:
        """Take over an epoch's draws and its sums so far, which `under_way` shares with the step from now on."""
        for name in ("top", "left", "mirrored", "weight"):
            getattr(self._draws, name).copy_(getattr(draws, name))
        self._totals.copy_(under_way.totals)
        self._fresh.copy_(under_way.fresh)
        under_way.totals, under_way.fresh = self._totals, self._fresh

    def run(self, batch: Tensor, rate: float, weight: float) -> None:
        """One step on the images `batch` (int64 (batch_size,)); `weight` moves the average towards the network."""
        self._batch.copy_(batch)
        self._rate.fill_(rate)
        self._weight.fill_(weight)
        if self._repeat is None and self._done == WARM_UP:
            self._repeat = self._recorded()
        if self._repeat is not None:
            self._repeat()
            return
        self._apart()
        self._done += 1

    def _recorded(self) -> Callable[[], None]:
        try:
            return self._record(self._whole, self._stream)
        except RuntimeError as error:  # an operator that cannot be recorded, too little memory for a second copy
            self.why_not = first_line(error, named=True)
            return self._whole

    def _apart(self) -> None:
        """Compute a step on the stream that recording will be on: what lives longer than a step belongs to that."""
        if self._stream is None:
            return self._whole()
        here = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            self._whole()
        return here.wait_stream(self._stream)

    def _whole(self) -> None:
        """The step, on nothing but tensors of this object."""
        groups = self._optimizer.param_groups
        rates = [group["lr"] for group in groups]
        try:
            for group in groups:
                group["lr"] = self._rate
            self._compute(self._batch, self._draws, self._totals, self._fresh, self._weight)
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate


class Average:
    """The state of an average and of the network that it follows."""

    def __init__(self, average: nn.Module, network: nn.Module) -> None:
        pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
        self._numbers = [a for a, _ in pairs if a.is_floating_point()]
        self._numbers_ahead = [b for _, b in pairs if b.is_floating_point()]
        self._counters = [a for a, _ in pairs if not a.is_floating_point()]
        self._counters_ahead = [b for _, b in pairs if not b.is_floating_point()]

    @torch.no_grad()
    def move(self, weight: float | Tensor) -> None:
        """Move the average's numbers by `weight` of the way to the network's; counters are copied."""
        if isinstance(weight, float):
            torch._foreach_lerp_(self._numbers, self._numbers_ahead, weight)
        else:  # at once it takes no tensor for all of them; the same numbers
            for number, ahead in zip(self._numbers, self._numbers_ahead, strict=True):
                number.lerp_(ahead, weight)
        torch._foreach_copy_(self._counters, self._counters_ahead)
