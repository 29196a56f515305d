"""Our names for the tensors of a checkpoint: prefixes removed, leftovers dropped, masks applied, layers renamed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ..errors import InvalidInput
from .candidates import Candidate
from .checks import listed, odd_kind
from .extras import Extra

# What DataParallel, torch.compile and wrapping modules put before each name.
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "backbone.", "_module.")
# What wrappers put anywhere into a name: FSDP, activation checkpointing, torch.compile, DistributedDataParallel.
_WRAPPING = frozenset({"_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "module", "_module"})
# Other people's names of our layers: akamaster and kuangliu say `linear`, kuangliu says `shortcut`.
RENAMED = ((re.compile(r"^linear\."), "fc."), (re.compile(r"\.shortcut\."), ".downsample."))
# Entries that are no part of the network, each with what left them there.
_LEFT = (
    (re.compile(r"(^|\.)total_(ops|params)$"), "counters of a profiler"),
    (re.compile(r"^n_averaged$"), "the counter of averaged updates"),
    (re.compile(r"^(criterion|loss|loss_fn|loss_func)\."), "the loss"),
    (re.compile(r"^optim\w*(\.|$)"), "optimizer state"),
    (re.compile(r"(^|\.)_extra_state$"), "extra state"),
)
_QUANTIZED = re.compile(
    r"(^|\.)(\w*fake_quant\w*|activation_post_process|_packed_params|observer|min_val|max_val|zero_point|scale)(\.|$)"
)
_PARAMETRIZED = re.compile(r"\.parametrizations\.|\.weight_[gvu]$")
_OF_LAYERS = frozenset({"weight", "bias", "running_mean", "running_var", "num_batches_tracked", "weight_orig"})

# Weights of a layer; those of the largest here have 36,864, and a linear one 64 for each class.
_LARGEST = 1 << 24


def names(candidate: Candidate) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Every tensor of `candidate` under our name for it, and what was changed for that.

    Raises `InvalidInput` for names that are none, two of the same name, and what is quantized or parametrized.
    """
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    stripped: dict[str, None] = {}
    renamed: dict[str, None] = {}
    dropped: dict[str, list[str]] = {}
    for key, value in (candidate.entries or {}).items():
        if not isinstance(key, str):
            raise InvalidInput(f"its state dict has a key that is not a name: {key!r:.60}.")
        name = _unwrapped(key, candidate.prefix, stripped)
        if why := _left(key, name, value):
            dropped.setdefault(why, []).append(key)
            continue
        if _QUANTIZED.search(name):
            raise InvalidInput(f"it is quantized or trained to be ({key}). Give the float32 network it came from.")
        if _PARAMETRIZED.search(name):
            raise InvalidInput(f"its weights are parametrized ({key}). Remove that before saving.")
        for pattern, ours in RENAMED:
            if pattern.search(name):
                renamed[f"{pattern.pattern.strip('^').replace(chr(92), '').strip('.')} to {ours.strip('.')}"] = None
                name = pattern.sub(ours, name)
        if name in origin:
            raise InvalidInput(f"{origin[name]} and {key} are both {name}. Save one network alone.")
        if not isinstance(value, Tensor):
            what = value.what if isinstance(value, Extra) else f"a {type(value).__name__}"
            raise InvalidInput(f"{key} is {what}, not a tensor. Save only the state dict.")
        origin[name], found[name] = key, value
    changes = [f"dropped {why} ({listed(keys)})" for why, keys in dropped.items()]
    if stripped:
        changes.append(f"dropped the prefix {', '.join(stripped)}")
    if renamed:
        changes.append(f"renamed {', '.join(renamed)}")
    found, masked = _masked(found)
    if masked:
        changes.append(f"multiplied {masked} pruned tensor{'s' if masked > 1 else ''} by the mask of each")
    return found, tuple(changes)


def _unwrapped(key: str, prefix: str, stripped: dict[str, None]) -> str:
    """`key` without the network's prefix and what wrappers wrote; what was removed is added to `stripped`."""
    name = key
    if prefix and name.startswith(prefix):
        name = name.removeprefix(prefix)
        stripped[prefix] = None
    while known := next((known for known in PREFIXES if name.startswith(known)), None):
        name = name.removeprefix(known)
        stripped[known] = None
    parts = name.split(".")
    kept = [part for part in parts if part not in _WRAPPING]
    for part in parts:
        if part in _WRAPPING:
            stripped[f"{part}."] = None
    return ".".join(kept)


def _left(key: str, name: str, value: object) -> str:
    """What an entry is that is no part of the network; "" for one that is or may be."""
    for pattern, what in _LEFT:
        if pattern.search(key) or pattern.search(name):
            return what
    if "." in key or key in _OF_LAYERS:
        return ""
    if not isinstance(value, Tensor):
        return "notes of the training script"
    return "notes of the training script" if value.dim() == 0 else ""


def _masked(found: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Multiply what `torch.nn.utils.prune` keeps apart: `weight_orig` and `weight_mask` are `weight`."""
    applied: dict[str, Tensor] = {}
    count = 0
    for name, tensor in found.items():
        base = name.removesuffix("_orig")
        if name.endswith("_mask") and f"{name.removesuffix('_mask')}_orig" in found:
            continue
        mask = found.get(f"{base}_mask") if base != name else None
        if mask is None:
            applied[name] = tensor
            continue
        if base in found:
            raise InvalidInput(f"{name} and {base} are both {base}. Save one network alone.")
        if tensor.numel() > _LARGEST:  # an expanded one takes no place in the file
            raise InvalidInput(f"{name} has shape {tuple(tensor.shape)}: no layer of these networks is as large.")
        if mask.shape != tensor.shape or not tensor.is_floating_point():
            raise InvalidInput(f"{base}_mask has shape {tuple(mask.shape)}, {name} has {tuple(tensor.shape)}.")
        if kind := odd_kind(tensor) or odd_kind(mask):
            raise InvalidInput(f"{name} or its mask is {kind}.")
        applied[base] = tensor.detach() * mask.detach().to(tensor.dtype)
        count += 1
    return applied, count
