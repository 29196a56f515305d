"""How fast training is: our loop against the loop everybody writes first, in turns in the same run.

    python benchmarks/training.py [--model resnet20] [--batch 128] [--steps 20] [--rounds 3] [--workers N] [--threads N]

The plain loop: a `DataLoader` over PIL images with torchvision's RandomCrop, RandomHorizontalFlip, ToTensor and
Normalize, a float32 network in torch's default layout, `loss.item()` in every step, as in most published CIFAR
scripts. Ours: the `quick` recipe's step. Both run on the CPU on the same seeded noise, which costs what photographs
cost. Two floors, in the step's number format: the arithmetic one is the time that its multiply-adds (three times the
forward pass, the first layer's input gradient left out) would take at the speed of this machine's best large matrix
product; the memory one is the time that its activations and their gradients would take at the speed of its best copy of
such a tensor, if each convolution and each batch norm read and wrote each of them once and all else were free. Caches
help a copy, too. The floor is their sum: what one thread does while it multiplies, it does not do while it copies.
`--cpu-time` counts processor seconds of this process: for a machine that does other things too,
with one thread and no workers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cifar_export.data import Split
from cifar_export.networks import resnet
from cifar_export.networks.counting import size_of
from cifar_export.networks.zoo import NetworkSpec, network
from cifar_export.training import augment, environment
from cifar_export.training.distributed import Processes
from cifar_export.training.loop import Job, Trainer
from cifar_export.training.recipe import QUICK

CPU = torch.device("cpu")
IMAGES = 10_000


class Pictures(Dataset):
    """What torchvision's CIFAR10 class is: PIL images, transformed one at a time."""

    def __init__(self, split: Split, spec: NetworkSpec) -> None:
        self.split = split
        normalization = spec.dataset.normalization
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(normalization.mean, normalization.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.split.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.split.images[index])), int(self.split.labels[index])


def plain_steps(spec: NetworkSpec, split: Split, batch: int, workers: int) -> Iterator[None]:
    """Train one step of the plain loop each time it is asked."""
    model = resnet.build(spec).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    criterion = nn.CrossEntropyLoss()
    loader = DataLoader(Pictures(split, spec), batch, shuffle=True, num_workers=workers, drop_last=True)
    while True:
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            loss.item()
            yield


def our_steps(spec: NetworkSpec, split: Split, batch: int) -> Iterator[None]:
    """Train one step of ours each time it is asked."""
    recipe = replace(QUICK, batch_size=batch)
    trainer = Trainer(Job(spec, recipe, split, split), Processes(0, 1, CPU))
    count = len(split.images)
    totals = torch.zeros(2, dtype=torch.float64)
    losses = torch.full((count,), torch.nan)  # none known: nothing is pruned
    for epoch in range(1_000_000):
        draws = augment.draw_epoch(recipe, losses, 0, epoch)
        for start in range(0, count - batch + 1, batch):
            trainer._step(0, draws.order[start : start + batch], draws, totals, torch.empty(count))
            yield


def multiply_adds_per_second(dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Measure the best of some large matrix products."""
    best = 0.0
    for size in (512, 1024, 2048):
        a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
        torch.mm(a, b)
        for _ in range(5):
            began = clock()
            torch.mm(a, b)
            best = max(best, size**3 / (clock() - began))
    return best


def values_moved(spec: NetworkSpec) -> int:
    """Count the activations and gradients of activations that one image's step reads and writes at least."""
    moved = 0

    def add(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal moved
        read, written = inputs[0].numel(), output.numel()
        moved += read + written  # forward
        if isinstance(layer, nn.BatchNorm2d):
            moved += written + 2 * read  # reads the output's gradient and the input, writes the input's gradient
        else:
            moved += written + read  # for the weights' gradient
            moved += 0 if layer.in_channels == 3 else written + read  # for the input's, which an image has not

    with torch.device("meta"):
        model = resnet.build(spec)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.register_forward_hook(add)
        model(torch.empty(1, 3, 32, 32))
    return moved


def values_per_second(dtype: torch.dtype, batch: int, clock: Callable[[], float]) -> float:
    """Measure the best of some copies of the largest activation: each value read and written."""
    source = torch.randn(batch, 16, 32, 32).to(dtype)
    target, best = torch.empty_like(source), 0.0
    for _ in range(50):
        began = clock()
        for _ in range(20):
            target.copy_(source)
        best = max(best, 20 * 2 * source.numel() / (clock() - began))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="steps of each loop in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="DataLoader processes of the plain loop [one per further core]")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds: one thread, no workers")
    asked = parser.parse_args()
    workers = asked.workers if asked.workers is not None else max(0, len(os.sched_getaffinity(0)) - 1)
    clock = time.perf_counter
    if asked.cpu_time:
        asked.threads, workers, clock = 1, 0, time.process_time
    if asked.threads:
        torch.set_num_threads(asked.threads)
    spec = network(asked.model, "cifar10")
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, IMAGES))
    loops = {"plain": plain_steps(spec, split, asked.batch, workers), "ours": our_steps(spec, split, asked.batch)}
    environment.keep_freed_memory()
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(asked.rounds):
        for name, loop in loops.items():
            # not counted: warming up, and the batches that workers prepared during the other loop's turn
            for _ in range(2 * workers + 2):
                next(loop)
            began = clock()
            for _ in range(asked.steps):
                next(loop)
            speeds[name].append(asked.batch * asked.steps / (clock() - began))
    plain, ours = (statistics.median(speeds[name]) for name in ("plain", "ours"))
    bf16 = environment.precision(QUICK, CPU) == "bf16"
    dtype = torch.bfloat16 if bf16 else torch.float32
    peak, copied = multiply_adds_per_second(dtype, clock), values_per_second(dtype, asked.batch, clock)
    first_layer = 3 * 16 * 9 * 32 * 32
    arithmetic = (3 * size_of(spec).multiply_adds - first_layer) / peak  # seconds an image
    memory = values_moved(spec) / copied
    result = {
        "hardware": environment.hardware(CPU, 1),
        "torch": str(torch.__version__),
        "model": asked.model,
        "batch": asked.batch,
        "workers": workers,
        "clock": "processor" if asked.cpu_time else "wall",
        "plain_images_per_second": round(plain, 1),
        "images_per_second": round(ours, 1),
        "ratio": round(ours / plain, 2),
        "precision": "bf16" if bf16 else "float32",
        "matrix_product_gmacs_per_second": round(peak / 1e9, 1),
        "copy_gigabytes_per_second": round(copied * dtype.itemsize / 1e9, 1),
        "fraction_of_arithmetic_floor": round(ours * arithmetic, 3),
        "fraction_of_memory_floor": round(ours * memory, 3),
        "fraction_of_floor": round(ours * (arithmetic + memory), 3),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
