"""The same network under other names: layers matched by their order and shape, where only one way fits.

Convolutions of 3x3 follow each other as they are registered, which in every known implementation is as they compute;
1x1 ones are shortcuts; a batch norm belongs to a convolution of its own module. What contradicts one of these is not
matched: numbers in names that do not ascend, norms registered before their convolution, widths that differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from ..errors import InvalidInput
from ..networks.folding import norm_of
from ..networks.zoo import NetworkSpec
from .core import expected_state

_NORM = frozenset({"weight", "bias", "running_mean", "running_var"})
_COUNTER = "num_batches_tracked"
Layers = dict[str, dict[str, Tensor]]


def match(found: Mapping[str, Tensor], network: NetworkSpec) -> dict[str, str] | None:
    """Our name for each name in `found`, whose order is that of the checkpoint; None where no or no single way fits.

    Raises `InvalidInput` for shortcuts that a 1x1 convolution alone does not compute.
    """
    theirs = _layers(found)
    ours = _layers(expected_state(network))
    kinds = {path: _kind(layer) for path, layer in theirs.items()}
    if "" in kinds.values() or not _ascending(theirs):
        return None
    if not any(kind == "conv 1x1" for kind in kinds.values()):
        ours = {path: layer for path, layer in ours.items() if ".downsample." not in path}
    paths: dict[str, str] = {}
    for kind in ("conv 3x3", "conv 1x1", "linear"):
        there = [path for path, its in kinds.items() if its == kind]
        here = [path for path, layer in ours.items() if _kind(layer) == kind]
        start = 1 if kind == "linear" else 0  # how many classes there are is asked later
        shapes = [theirs[path]["weight"].shape[start:] for path in there]
        if shapes != [ours[path]["weight"].shape[start:] for path in here]:
            return None
        paths |= dict(zip(there, here, strict=True))
    pairs = _pairs([path for path, kind in kinds.items() if kind.startswith("conv")], theirs, kinds)
    if pairs is None:
        return None
    for convolution, norm in pairs.items():
        if theirs[norm]["weight"].shape[0] != theirs[convolution]["weight"].shape[0]:
            return None
        paths[norm] = norm_of(paths[convolution])
    _refuse_pooled([path for path, kind in kinds.items() if kind == "conv 1x1"])
    if set(paths.values()) != set(ours) or "bias" not in theirs[next(p for p, k in kinds.items() if k == "linear")]:
        return None
    return {_joined(path, leaf): f"{paths[path]}.{leaf}" for path, layer in theirs.items() for leaf in layer}


def family(found: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Blocks in each stage, and width of the first, where the 3x3 convolutions in `found` are those of such a network.

    None where they are none of He et al.'s for CIFAR: three stages of equal length, twice as wide each.
    """
    convolutions = [layer["weight"] for layer in _layers(found).values() if _kind(layer) == "conv 3x3"]
    blocks, rest = divmod(len(convolutions) - 1, 6)
    if rest or not blocks or convolutions[0].shape[1] != 3:
        return None
    width = convolutions[0].shape[0]
    wanted = [width] * (2 * blocks + 1) + [2 * width] * 2 * blocks + [4 * width] * 2 * blocks
    return (blocks, width) if [weight.shape[0] for weight in convolutions] == wanted else None


def _layers(tensors: Mapping[str, Tensor]) -> Layers:
    """The tensors by the path of their module, in order of appearance."""
    layers: Layers = {}
    for key, tensor in tensors.items():
        path, _, leaf = key.rpartition(".")
        layers.setdefault(path, {})[leaf] = tensor
    return layers


def _joined(path: str, leaf: str) -> str:
    return f"{path}.{leaf}" if path else leaf


def _kind(layer: Mapping[str, Tensor]) -> str:
    """What module these tensors are of; "" for none that these networks have."""
    leaves = set(layer) - {_COUNTER}
    weight = layer.get("weight")
    if weight is None:
        return ""
    if leaves == _NORM and all(layer[leaf].shape == weight.shape and weight.dim() == 1 for leaf in leaves):
        return "norm"
    if not leaves <= {"weight", "bias"}:
        return ""
    if weight.dim() == 4:
        return f"conv {weight.shape[2]}x{weight.shape[3]}"
    return "linear" if weight.dim() == 2 else ""


def _ascending(paths: Iterable[str]) -> bool:
    """Whether names that differ in numbers alone come in the order of the numbers."""
    series: dict[str, list[tuple[int, ...]]] = {}
    for path in paths:
        numbers = tuple(map(int, re.findall(r"\d{1,9}", path)))
        series.setdefault(re.sub(r"\d+", "#", path), []).append(numbers)
    return all(before < after for numbers in series.values() for before, after in pairwise(numbers))


def _pairs(convolutions: Sequence[str], layers: Layers, kinds: Mapping[str, str]) -> dict[str, str] | None:
    """The batch norm of each convolution: in the modules that hold both, else by their places in the whole order."""
    norms = [path for path, kind in kinds.items() if kind == "norm"]
    if len(norms) != len(convolutions):
        return None
    place = {path: number for number, path in enumerate(layers)}
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for path in convolutions:
        groups.setdefault(path.rpartition(".")[0], ([], []))[0].append(path)
    for path in norms:
        groups.setdefault(path.rpartition(".")[0], ([], []))[1].append(path)
    if any(len(here) != len(there) for here, there in groups.values()):
        groups = {"": (list(convolutions), norms)}
    pairs = {path: norm for here, there in groups.values() for path, norm in zip(here, there, strict=True)}
    return pairs if all(place[path] < place[norm] for path, norm in pairs.items()) else None


def _refuse_pooled(shortcuts: Iterable[str]) -> None:
    """Refuse shortcuts whose convolution is not the first part of its Sequential: pooling has no tensors."""
    for path in shortcuts:
        last = path.rpartition(".")[2]
        if last.isdigit() and last != "0":
            raise InvalidInput(
                f"{path} is not the first part of its shortcut: average pooling stands before it, presumably.\n"
                "These networks have 1x1 convolutions of stride 2 alone; such a shortcut cannot be written as one."
            )
