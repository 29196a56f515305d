"""From a checkpoint as others write them to the state dict of our network, or a precise account of why not.

Known ways of writing: the state dict bare or in a training checkpoint; prefixes left by wrappers; other names for the
same layer; biases before batch norms; option-A shortcuts (He et al. 2016, section 4.2), which have no parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..networks.folding import norm_of
from ..networks.zoo import DATASETS, STAGE_WIDTHS, NetworkSpec
from . import shortcuts
from .candidates import choose
from .checks import COUNTER, check_tensors, check_values, converted, is_weight, listed
from .core import expected_state
from .matching import family, match
from .naming import names


@dataclass(frozen=True)
class Reading:
    """How a user wants a checkpoint to be read.

    `key`: the state dict to take of several, its names joined by dots. `shortcut`: where shortcuts without parameters
    pad channels, one of `shortcuts.SHORTCUTS`.
    """

    key: str | None = None
    shortcut: str | None = None


@dataclass(frozen=True)
class Fitted:
    """A state dict as `Weights.state` promises, and what was taken and changed for it.

    `key`: the name of what was taken, None where the whole file is the state dict. `renamed`: our names by theirs,
    where layers were matched by order and shape.
    """

    state: dict[str, Tensor]
    key: str | None
    changes: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)


AS_IT_IS = Reading()
"""Nothing was chosen."""


def fit(content: object, network: NetworkSpec, reading: Reading = AS_IT_IS, *, ordered: bool = True) -> Fitted:
    """Turn `content`, what a checkpoint held, into the state dict of `network`.

    `ordered`: whether the order of its entries is that of the network's layers (safetensors sort them). Raises
    `InvalidInput` whose message lacks the file's name (the caller knows it), worded to follow "cannot load FILE: ".
    """
    shortcuts.require_shortcut(reading.shortcut)
    candidate = choose(content, reading.key)
    found, named = names(candidate)
    changes = [f"took {candidate.name}"] if candidate.name else []
    changes += named
    renamed: Mapping[str, str] = {}
    if not _fits(found, network):
        renamed = (match(found, network) if ordered else None) or {}
        if renamed:
            found = {renamed[theirs]: tensor for theirs, tensor in found.items()}
            changes.append(_matched(renamed))
        else:
            _refuse_pooled(found)
    _check_architecture(found, network)
    expected = expected_state(network)
    option_a = not any(".downsample." in key for key in found)
    if option_a:
        expected = {key: value for key, value in expected.items() if ".downsample." not in key}
    elif reading.shortcut:
        raise InvalidInput(f"it has shortcuts of its own (downsample). Leave --shortcut {reading.shortcut} away.")
    biases = _biases(found, expected)
    _check_keys({key: tensor for key, tensor in found.items() if key not in biases}, expected, ordered=ordered)
    check_tensors(found, {**expected, **{bias: expected[f"{norm}.bias"] for bias, norm in biases.items()}})
    check_values({key: converted(found[key], torch.empty(0)) for key in biases}, found)
    state = {key: converted(found.get(key), empty) for key, empty in expected.items()}
    check_values(state, found)
    for bias, norm in biases.items():  # what is added before a norm is taken off the mean that it subtracts
        mean = found[f"{norm}.running_mean"].double() - found[bias].detach().double()
        state[f"{norm}.running_mean"] = converted(mean, expected[f"{norm}.running_mean"])
    dtypes = {str(found[key].dtype).removeprefix("torch.") for key in state if key in found and is_weight(key)}
    if narrow := sorted(dtypes - {"float32"}):
        changes.append(f"converted {', '.join(narrow)} to float32")
    if biases:
        changes.append(f"folded the biases of {len(biases)} convolutions into their batch norms")
    if option_a:
        state |= shortcuts.projections(network, reading.shortcut)
        changes.append(shortcuts.said(reading.shortcut))
    ordered_state = {key: state[key] for key in expected_state(network)}
    return Fitted(ordered_state, candidate.name or None, tuple(changes), dict(renamed))


def _fits(found: Mapping[str, Tensor], network: NetworkSpec) -> bool:
    """Whether the names are ours, but for counters, shortcuts without parameters, and biases before batch norms."""
    expected = expected_state(network)
    absent = [key for key in expected if key not in found and is_weight(key)]
    shortcuts_absent = [key for key in expected if ".downsample." in key and is_weight(key)]
    extra = [key for key in found if key not in expected and key not in _biases(found, expected)]
    return not extra and absent in ([], shortcuts_absent)


def _biases(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, str]:
    """Biases of convolutions in `found`, which these networks lack, each with the norm that takes it up."""
    biases = {}
    for key in found:
        layer, _, leaf = key.rpartition(".")
        if leaf == "bias" and key not in expected and f"{layer}.weight" in expected:
            norm = norm_of(layer)
            if f"{norm}.running_mean" in expected and f"{norm}.running_mean" in found:
                biases[key] = norm
    return biases


def _matched(renamed: Mapping[str, str]) -> str:
    layers = {theirs.rpartition(".")[0]: ours.rpartition(".")[0] for theirs, ours in renamed.items()}
    other = [f"{theirs} is {ours}" for theirs, ours in layers.items() if theirs != ours]
    return f"matched {len(layers)} layers by order and shape ({listed(other)})"


def _refuse_pooled(found: Mapping[str, Tensor]) -> None:
    """Refuse a shortcut whose convolution stands second: in ResNet-D and its kin average pooling goes before it."""
    for key, tensor in found.items():
        if re.search(r"\.downsample\.[1-9]\d*\.weight$", key) and tensor.dim() == 4:
            raise InvalidInput(
                f"{key} is a convolution behind another part of its shortcut: average pooling, presumably.\n"
                "These networks have 1x1 convolutions of stride 2 alone; such a shortcut cannot be written as one."
            )


def _check_architecture(found: Mapping[str, Tensor], network: NetworkSpec) -> None:
    """Refuse another network by its name, where it can be told, before listing what does not fit."""
    blocks: dict[str, set[str]] = {}
    for key in found:
        if match := re.match(r"(layer\d+)\.(\d+)\.", key):
            blocks.setdefault(match[1], set()).add(match[2])
    head = found.get("fc.weight")
    classes = head.shape[0] if head is not None and head.ndim == 2 else None
    dataset = next((spec for spec in DATASETS.values() if spec.classes == classes), None)
    _check_family(found, network)
    if "conv1.weight" not in found and "fc.weight" not in found and not blocks:
        raise InvalidInput(f"it is no CIFAR ResNet. Its keys: {listed(found, '; ')}.")
    if blocks:
        counts = [len(numbers) for _, numbers in sorted(blocks.items())]
        wanted = [network.model.blocks_per_stage] * 3
        if len(counts) != 3 or max(counts) > max(wanted):
            raise InvalidInput(
                f"it has {'+'.join(map(str, counts))} blocks, {network.model.name} has {'+'.join(map(str, wanted))}."
            )
    if head is not None and classes is not None and classes != network.dataset.classes:
        width = head.shape[1]
        looks = f"It looks like {dataset.title}: ask for `--dataset {dataset.name}`" if dataset else "It is neither"
        looks = looks if dataset else f"No data set here has {classes} classes: give --labels FILE, one label a line"
        raise InvalidInput(
            f"fc.weight has shape ({classes}, {width}), expected ({network.dataset.classes}, {width}) "
            f"for {network.dataset.title}. {looks}."
        )


def _check_family(found: Mapping[str, Tensor], network: NetworkSpec) -> None:
    """Refuse other stems and widths, and other depths under any names."""
    stem = next((tensor for tensor in found.values() if tensor.dim() == 4 and tensor.shape[1] == 3), None)
    if stem is not None and stem.shape[0] != STAGE_WIDTHS[0] and tuple(stem.shape[2:]) != (3, 3):
        raise InvalidInput(
            f"its stem is a {stem.shape[2]}x{stem.shape[3]} convolution of {stem.shape[0]} channels, as networks for "
            f"larger images have; here it is 3x3 of {STAGE_WIDTHS[0]}. Other stems cannot be exported."
        )
    blocks, width = family(found) or (network.model.blocks_per_stage, STAGE_WIDTHS[0])
    if width != STAGE_WIDTHS[0]:
        widths = "/".join(str(times * width) for times in (1, 2, 4))
        raise InvalidInput(
            f"it is a ResNet-{6 * blocks + 2} of widths {widths}; "
            f"here they are {'/'.join(map(str, STAGE_WIDTHS))}. Other widths cannot be exported."
        )
    if blocks != network.model.blocks_per_stage:
        model = f"resnet{6 * blocks + 2}"
        head = next((tensor for tensor in reversed(list(found.values())) if tensor.dim() == 2), None)
        dataset = next((spec for spec in DATASETS.values() if head is not None and spec.classes == len(head)), None)
        place = f" --dataset {dataset.name}" if dataset else ""
        raise InvalidInput(f"it is a {model}, not a {network.model.name}. Ask for `{model}{place}`.")


def _check_keys(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, ordered: bool) -> None:
    """Refuse missing and extra keys; the counters of batch norm may be absent (PyTorch before 0.4.1 had none)."""
    missing = [key for key in expected if key not in found and not key.endswith(COUNTER)]
    extra = [key for key in found if key not in expected]
    said = [
        f"{len(keys)} {kind} key{'s' if len(keys) > 1 else ''} ({listed(keys)})"
        for kind, keys in (("missing", missing), ("extra", extra))
        if keys
    ]
    if said:
        why = "It is not the architecture of these networks, or not all of it."
        if not ordered and missing and extra:
            why = "Other names are matched by order, and safetensors keep none: give the .pt or .pth file."
        raise InvalidInput(f"{' and '.join(said)}. {why}")
