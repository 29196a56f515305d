"""A training run of three epochs on 64 images of noise, for tests and for the processes that they start."""

from dataclasses import replace

import torch

from cifar_export.networks.zoo import NETWORKS
from cifar_export.training.distributed import Processes
from cifar_export.training.loop import Job, Trainer
from cifar_export.training.recipe import QUICK
from cifar_export.weights.seeded import random_weights

from support.data_files import noise

NETWORK = NETWORKS["cifar10_resnet20"]
RECIPE = replace(QUICK, epochs=3, batch_size=32, ema_decay=0.9)
GENTLE = replace(RECIPE, epochs=1, peak_lr=1e-3, precision="float32")
ALONE = Processes(0, 1, torch.device("cpu"))
JOB = Job(NETWORK, RECIPE, noise(64), noise(64))
TEACHER = random_weights(NETWORK, seed=1)


def first_epoch_without_batch_statistics(trainer: Trainer) -> dict[str, torch.Tensor]:
    """What an epoch changes where batch norm does not look at the batch: the same in any number of processes."""
    trainer.network.eval()
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters()}
    trainer.train_epoch(lambda *_: None)
    return {f"change of {name}": p.detach() - before[name] for name, p in trainer.network.named_parameters()}
