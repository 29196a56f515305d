"""Tensors under our names: of the right kind, shape, dtype and value, or a precise account of why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..errors import InvalidInput

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_SHOWN = 3
COUNTER = "num_batches_tracked"


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors of another kind, shape or dtype, and such as share memory. No values are looked at."""
    problems = []
    for key, tensor in found.items():
        wanted = tuple(expected[key].shape)
        if kind := odd_kind(tensor):
            problems.append(f"{key} is {kind}")
        elif tuple(tensor.shape) != wanted:
            problems.append(f"{key} has shape {tuple(tensor.shape)}, expected {wanted}")
        elif is_weight(key) and tensor.dtype not in _FLOATS:
            problems.append(f"{key} is {str(tensor.dtype).removeprefix('torch.')}, expected float32")
        elif not is_weight(key) and (tensor.is_complex() or tensor.dtype == torch.bool):
            problems.append(f"{key} is {str(tensor.dtype).removeprefix('torch.')}, expected int64")
    if problems:
        raise InvalidInput(f"{listed(problems, '; ')}.")
    if shared := _sharing(found):
        raise InvalidInput(f"{shared[0]} and {shared[1]} share memory; in these networks no two tensors do.")


def odd_kind(tensor: Tensor) -> str:
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
        if is_weight(key):
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


def converted(tensor: Tensor | None, empty: Tensor) -> Tensor:
    """Copy `tensor` as a contiguous one of the dtype of `empty`; an absent one (a counter) is zero."""
    if tensor is None:
        return torch.zeros(empty.shape, dtype=empty.dtype)
    plain = tensor.detach().resolve_neg()
    return plain.to(empty.dtype).clone(memory_format=torch.contiguous_format)


def check_values(state: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse what is not finite, also what becomes so in float32, and negative variances."""
    problems = []
    for key, tensor in state.items():
        if not is_weight(key):
            continue
        if bad := int((~torch.isfinite(tensor)).sum()):
            original = int((~torch.isfinite(found[key])).sum())
            what = "NaN or infinite" if original else "beyond the range of float32"
            problems.append(f"{key} has {bad} of {tensor.numel()} values {what}")
        elif key.endswith("running_var") and (negative := int((tensor < 0).sum())):
            problems.append(f"{key} has {negative} of {tensor.numel()} values below 0, and is a variance")
    if problems:
        raise InvalidInput(f"{listed(problems, '; ')}.")


def is_weight(key: str) -> bool:
    """Whether `key` names a number that is computed with: anything but the counter of a batch norm."""
    return not key.endswith(COUNTER)


def listed(items: Iterable[str], separator: str = ", ") -> str:
    """Join the first few of `items`, and say how many more there are."""
    everything = list(items)
    more = len(everything) - _SHOWN
    shown = separator.join(f"{item:.120}" for item in everything[:_SHOWN])
    return f"{shown}{separator}and {more} more" if more > 0 else shown
