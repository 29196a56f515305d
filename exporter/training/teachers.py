"""What other networks answer on the training images, as targets to learn from: knowledge distillation.

Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network". The teachers are asked once, before the
first epoch, about each image and its mirror image, and their answers serve every crop of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InvalidInput
from ..networks.zoo import NetworkSpec
from ..system.torch_state import full_float32
from ..weights.core import Weights, build_network
from . import environment
from .augment import Normalizer
from .options import NamedWeights
from .recipe import Recipe

BATCH = 500


def refuse_unless_usable(teachers: Sequence[Weights | NamedWeights], network: NetworkSpec, recipe: Recipe) -> None:
    """Raise `InvalidInput` where a recipe distills and has no teachers, or the other way round, or they can't teach."""
    if recipe.distill and not teachers:
        raise InvalidInput(f"recipe {recipe.name} distills, but there are no teachers. Name some with --teacher.")
    if teachers and not recipe.distill:
        raise InvalidInput(f"recipe {recipe.name} does not distill. Name no teachers, or a recipe that does.")
    for teacher in teachers:
        if teacher.network.dataset.name != network.dataset.name:
            raise InvalidInput(f"{network.name} can't learn from {teacher.network.name}: it tells other classes apart.")


@torch.no_grad()
@full_float32()
def soft_targets(
    teachers: Sequence[Weights],
    network: NetworkSpec,
    images: np.ndarray,
    recipe: Recipe,
    device: torch.device,
    on_batch: Callable[[int, int], None] = lambda done, batches: None,
) -> Tensor:
    """Average the teachers' probabilities on `images` (uint8 (n, 32, 32, 3)) and their mirror images.

    Temperature and precision are the recipe's. `on_batch` hears the batches done and to do. Returns float32
    (n, classes) on `device`, each row adding up to 1.
    """
    bf16 = environment.precision(recipe, device) == "bf16"
    targets = torch.zeros(len(images), network.dataset.classes, device=device)
    starts = range(0, len(images), BATCH)
    for number, teacher in enumerate(teachers):
        model = build_network(teacher).to(device).to(memory_format=torch.channels_last)
        normalize = Normalizer(teacher.normalization, device)
        for done, start in enumerate(starts, start=1):
            batch = normalize(torch.from_numpy(images[start : start + BATCH]).to(device))
            for view in (batch, batch.flip(3)):
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    logits = model(view)
                targets[start : start + BATCH] += F.softmax(logits.float() / recipe.temperature, dim=1)
            on_batch(number * len(starts) + done, len(teachers) * len(starts))
    return targets / (2 * len(teachers))


def distance(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of each answer from its target at `temperature`, times its square: float32 (batch,).

    The square keeps the gradients' size the same at every temperature (Hinton et al., section 2).
    """
    ours = F.log_softmax(logits / temperature, dim=1)
    return temperature**2 * F.kl_div(ours, targets, reduction="none").sum(1)
