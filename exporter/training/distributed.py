"""One process or several under torchrun: who am I, and sums over all."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import InvalidInput, Unavailable, first_line


@dataclass(frozen=True)
class Processes:
    """The `rank` of this process among `count`; `device` is its own."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def sum(self, totals: Tensor) -> Tensor:
        """`totals` added up over all processes, in place."""
        if self.count > 1:
            torch.distributed.all_reduce(totals)
        return totals

    def agree(self, number: int) -> bool:
        """Whether `number` is the same in all processes; each gets the same answer."""
        total, squares = self.sum(torch.tensor([number, number**2], device=self.device)).tolist()
        return bool(self.count * squares == total**2)  # the variance is 0

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.count > 1:
            torch.distributed.barrier()

    def wrap(self, network: nn.Module) -> nn.Module:
        """`network` with gradients averaged over all processes; itself when there is one."""
        if self.count == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=devices)


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started (NCCL on CUDA, else gloo); without torchrun be the only one.

    Raises `InvalidInput` when `device` is neither the CPU nor CUDA, or where the environment says only half of what
    torchrun says, and `Unavailable` without a GPU for each process.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Processes(0, 1, device)
        return
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise InvalidInput(
            f"WORLD_SIZE is set in the environment, but {', '.join(missing)} is not: torchrun sets them all.\n"
            "Start several processes with torchrun, or unset WORLD_SIZE."
        )
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT"):
        if not os.environ.get(name, "0").isdecimal():
            raise InvalidInput(f"{name} in the environment is not a number: {os.environ[name]!r}. torchrun sets it.")
    if device.type not in ("cpu", "cuda"):
        raise InvalidInput(f"several processes train on cpu or cuda, not on {device.type}.")
    if device.type == "cuda":
        local, present = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= present:
            raise Unavailable(f"process {local + 1} here has no GPU of its own: there are only {present}. Start fewer.")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    try:
        with _stdout_on_stderr():
            torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:  # nobody there, a port that is taken, a rank that is too high
        cause = f"the processes do not find each other: {first_line(error)}."
        raise Unavailable(
            f"{cause}\nStart them with torchrun, and make sure that no other run uses the same port."
        ) from error
    try:
        yield Processes(torch.distributed.get_rank(), torch.distributed.get_world_size(), device)
    finally:
        gc.collect()  # what still holds the group would end its threads at the interpreter's end, which may abort it
        torch.distributed.destroy_process_group()


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """Let what libraries print on stdout stand on stderr: Gloo in torch 2.10 says there who is connected."""
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
