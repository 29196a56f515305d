"""From a checkpoint as others write them to the state dict of our network, or a precise account of why not.

Known ways of writing: the state dict bare or in a training checkpoint; prefixes left by wrappers; other names for the
same layer; option-A shortcuts (He et al. 2016, section 4.2), which have no parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..errors import InvalidInput
from ..networks.zoo import DATASETS, MODELS, NetworkSpec
from .core import expected_state

# Where training scripts put the state dict.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights", "params")
# What `cifar-export train` keeps of a run that goes on.
_OF_A_RUN = frozenset({"format", "identity", "epochs_done", "model", "optimizer"})
# What DataParallel, torch.compile and wrapping modules put before each name.
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
# Other people's names of our layers: akamaster and kuangliu say `linear`, kuangliu says `shortcut`.
RENAMED = ((re.compile(r"^linear\."), "fc."), (re.compile(r"\.shortcut\."), ".downsample."))
# Entries that are no part of the network: torch.optim.swa_utils.AveragedModel counts its updates.
IGNORED = frozenset({"n_averaged"})

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_SHOWN = 3
_COUNTER = "num_batches_tracked"


def fit(content: object, network: NetworkSpec) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Turn `content`, what a checkpoint held, into the state dict of `network`, and say what was changed for that.

    The result is as `Weights.state` promises. Raises `InvalidInput` whose message lacks the file's name (the caller
    knows it), worded to follow "cannot load FILE: ".
    """
    found, changes = _names(_state_dict(content))
    expected = expected_state(network)
    _check_architecture(found, network)
    shortcuts = {key for key in expected if ".downsample." in key}
    option_a = not any(".downsample." in key for key in found)
    if option_a:
        expected = {key: value for key, value in expected.items() if key not in shortcuts}
    _check_keys(found, expected)
    _check_tensors(found, expected)
    state = {key: _converted(found.get(key), empty) for key, empty in expected.items()}
    _check_values(state, found)
    dtypes = {str(found[key].dtype).removeprefix("torch.") for key in state if key in found and _is_weight(key)}
    if narrow := sorted(dtypes - {"float32"}):
        changes += (f"converted {', '.join(narrow)} to float32",)
    if option_a:
        state |= _projections(network)
        changes += ("wrote option-A shortcuts as 1x1 convolutions",)
    return {key: state[key] for key in expected_state(network)}, changes


def _state_dict(content: object) -> Mapping[object, object]:
    """Find the state dict in what was saved: `content` itself, or what stands in it under a customary name."""
    for _ in range(len(WRAPPERS)):  # wrappers may stand in wrappers
        if not isinstance(content, Mapping):
            raise InvalidInput(
                f"it holds a {type(content).__name__}, no state dict. Save one: torch.save(model.state_dict(), path)."
            )
        if content.keys() >= _OF_A_RUN:  # its `model` may be another than the run's result
            raise InvalidInput(
                "it is the checkpoint of a training run. Finish that with `cifar-export train ... --resume`, and give "
                "the weights.safetensors beside it."
            )
        if any(isinstance(value, Tensor) for value in content.values()):
            return content
        inside = [key for key in WRAPPERS if isinstance(content.get(key), Mapping) and content[key]]
        if not inside:
            break
        if len(inside) > 1:
            raise InvalidInput(f"it holds several state dicts ({', '.join(inside)}). Save the one that you mean alone.")
        content = content[inside[0]]
    keys = _listed([str(key) for key in content], "; ") if isinstance(content, Mapping) and content else "none"
    raise InvalidInput(f"it holds no state dict. Its keys: {keys}.")


def _names(entries: Mapping[object, object]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Give every tensor our name for it."""
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    stripped: dict[str, None] = {}
    renamed: dict[str, None] = {}
    for key, value in entries.items():
        if not isinstance(key, str):
            raise InvalidInput(f"its state dict has a key that is not a name: {key!r:.60}.")
        name = key
        while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), None):
            name = name.removeprefix(prefix)
            stripped[prefix] = None
        for pattern, ours in RENAMED:
            if pattern.search(name):
                renamed[f"{pattern.pattern.strip('^').replace(chr(92), '').strip('.')} to {ours.strip('.')}"] = None
                name = pattern.sub(ours, name)
        if name in IGNORED:
            continue
        if name in origin:
            raise InvalidInput(f"{origin[name]} and {key} are both {name}. Save one network alone.")
        if not isinstance(value, Tensor):
            raise InvalidInput(f"{key} is a {type(value).__name__}, not a tensor. Save only the state dict.")
        origin[name], found[name] = key, value
    changes = []
    if stripped:
        changes.append(f"dropped the prefix {', '.join(stripped)}")
    if renamed:
        changes.append(f"renamed {', '.join(renamed)}")
    return found, tuple(changes)


def _check_architecture(found: Mapping[str, Tensor], network: NetworkSpec) -> None:
    """Refuse another network by its name, where it can be told, before listing what does not fit."""
    blocks: dict[str, set[str]] = {}
    for key in found:
        if match := re.match(r"(layer\d+)\.(\d+)\.", key):
            blocks.setdefault(match[1], set()).add(match[2])
    head = found.get("fc.weight")
    classes = head.shape[0] if head is not None and head.ndim == 2 else None
    dataset = next((spec for spec in DATASETS.values() if spec.classes == classes), None)
    if "conv1.weight" not in found and "fc.weight" not in found and not blocks:
        raise InvalidInput(f"it is no CIFAR ResNet. Its keys: {_listed(found, '; ')}.")
    if blocks:
        counts = [len(numbers) for _, numbers in sorted(blocks.items())]
        wanted = [network.model.blocks_per_stage] * 3
        model = next((spec for spec in MODELS.values() if [spec.blocks_per_stage] * 3 == counts), None)
        if model and model != network.model:
            place = f" --dataset {dataset.name}" if dataset else ""
            raise InvalidInput(f"it is a {model.name}, not a {network.model.name}. Ask for `{model.name}{place}`.")
        if len(counts) != 3 or max(counts) > max(wanted):
            raise InvalidInput(
                f"it has {'+'.join(map(str, counts))} blocks, {network.model.name} has {'+'.join(map(str, wanted))}."
            )
    if head is not None and classes is not None and classes != network.dataset.classes:
        width = head.shape[1]
        looks = f"It looks like {dataset.title}: ask for `--dataset {dataset.name}`" if dataset else "It is neither"
        looks = looks if dataset else f"No data set here has {classes} classes"
        raise InvalidInput(
            f"fc.weight has shape ({classes}, {width}), expected ({network.dataset.classes}, {width}) "
            f"for {network.dataset.title}. {looks}."
        )


def _check_keys(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse missing and extra keys; the counters of batch norm may be absent (PyTorch before 0.4.1 had none)."""
    missing = [key for key in expected if key not in found and not key.endswith(_COUNTER)]
    extra = [key for key in found if key not in expected]
    said = [
        f"{len(keys)} {kind} key{'s' if len(keys) > 1 else ''} ({_listed(keys)})"
        for kind, keys in (("missing", missing), ("extra", extra))
        if keys
    ]
    if said:
        raise InvalidInput(f"{' and '.join(said)}. It is not the architecture of these networks, or not all of it.")


def _check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors of another kind, shape or dtype, and such as share memory. No values are looked at."""
    problems = []
    for key, tensor in found.items():
        wanted = tuple(expected[key].shape)
        if kind := _odd_kind(tensor):
            problems.append(f"{key} is {kind}")
        elif tuple(tensor.shape) != wanted:
            problems.append(f"{key} has shape {tuple(tensor.shape)}, expected {wanted}")
        elif _is_weight(key) and tensor.dtype not in _FLOATS:
            problems.append(f"{key} is {str(tensor.dtype).removeprefix('torch.')}, expected float32")
        elif not _is_weight(key) and (tensor.is_complex() or tensor.dtype == torch.bool):
            problems.append(f"{key} is {str(tensor.dtype).removeprefix('torch.')}, expected int64")
    if problems:
        raise InvalidInput(f"{_listed(problems, '; ')}.")
    if shared := _sharing(found):
        raise InvalidInput(f"{shared[0]} and {shared[1]} share memory; in these networks no two tensors do.")


def _odd_kind(tensor: Tensor) -> str:
    """Name the kind of a tensor that is more or less than an array of numbers; "" for a plain one."""
    if tensor.device.type == "meta":
        return "a meta tensor, without values"
    if tensor.is_quantized:
        return "a quantized tensor, expected float32"
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout != torch.strided:
        return f"a sparse tensor ({str(tensor.layout).removeprefix('torch.')}), expected a dense one"
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"a {type(tensor).__name__}, not a plain tensor"
    return ""


def _sharing(found: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Find two weights that have an element in common. Views of one buffer that do not overlap are fine."""
    storages: dict[int, list[str]] = {}
    for key, tensor in found.items():
        if _is_weight(key):
            storages.setdefault(tensor.untyped_storage().data_ptr(), []).append(key)
    for keys in storages.values():
        owner: dict[int, str] = {}  # byte offset of an element -> key
        for key in keys if len(keys) > 1 else ():
            tensor = found[key]
            size = tensor.untyped_storage().nbytes() // tensor.element_size()
            places = torch.arange(size).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
            for place in set((places.flatten() * tensor.element_size()).tolist()):
                if owner.setdefault(place, key) != key:
                    return owner[place], key
    return None


def _converted(tensor: Tensor | None, empty: Tensor) -> Tensor:
    """Copy `tensor` as a contiguous one of the dtype of `empty`; an absent one (a counter) is zero."""
    if tensor is None:
        return torch.zeros(empty.shape, dtype=empty.dtype)
    plain = tensor.detach().resolve_neg()
    return plain.to(empty.dtype).clone(memory_format=torch.contiguous_format)


def _check_values(state: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse what is not finite, also what becomes so in float32, and negative variances."""
    problems = []
    for key, tensor in state.items():
        if not _is_weight(key):
            continue
        if bad := int((~torch.isfinite(tensor)).sum()):
            original = int((~torch.isfinite(found[key])).sum())
            what = "NaN or infinite" if original else "beyond the range of float32"
            problems.append(f"{key} has {bad} of {tensor.numel()} values {what}")
        elif key.endswith("running_var") and (negative := int((tensor < 0).sum())):
            problems.append(f"{key} has {negative} of {tensor.numel()} values below 0, and is a variance")
    if problems:
        raise InvalidInput(f"{_listed(problems, '; ')}.")


def _projections(network: NetworkSpec) -> dict[str, Tensor]:
    """Write the option-A shortcuts of `network` as projections: a 1x1 stride-2 convolution and an identity batch norm.

    Option A takes every second pixel and pads channels with zeros on both sides alike: the convolution's weight is 1
    where output channel = input channel + padding. The batch norm divides by sqrt(running_var + eps), which is
    exactly 1 in float32 for running_var = 1 - eps; so no output changes in float32, and in float64 by 1e-8 of itself.
    """
    state = {}
    for key, empty in expected_state(network).items():
        if not key.endswith("downsample.0.weight"):
            continue
        outputs, inputs = empty.shape[:2]
        weight = torch.zeros(empty.shape, dtype=empty.dtype)
        for channel in range(inputs):
            weight[channel + (outputs - inputs) // 2, channel] = 1.0
        norm = nn.BatchNorm2d(outputs, dtype=empty.dtype)
        nn.init.constant_(norm.running_var, 1.0 - norm.eps)  # type: ignore[arg-type]  # it tracks statistics
        state[key] = weight
        prefix = key.removesuffix("0.weight") + "1."
        state |= {prefix + name: tensor.detach() for name, tensor in norm.state_dict().items()}
    return state


def _is_weight(key: str) -> bool:
    return not key.endswith(_COUNTER)


def _listed(items: Iterable[str], separator: str = ", ") -> str:
    """Join the first few of `items`, and say how many more there are."""
    everything = list(items)
    more = len(everything) - _SHOWN
    shown = separator.join(f"{item:.120}" for item in everything[:_SHOWN])
    return f"{shown}{separator}and {more} more" if more > 0 else shown
