"""Which of the state dicts in a checkpoint is meant: the only one, or the one that `--key` names; never a guess.

Training scripts keep a moving average, a teacher or a best copy beside the raw weights: as mappings of their own, or
under prefixes of one flat mapping. Each of them loads without an error, and only one has the published accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from ..errors import InvalidInput

# Where training scripts put the state dict.
WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights", "params", "module"),
    *("state", "ema", "model_ema", "ema_state_dict", "state_dict_ema", "student", "teacher", "checkpoint"),
)
# What `cifar-export train` keeps of a run that goes on.
_OF_A_RUN = frozenset({"format", "identity", "epochs_done", "model", "optimizer"})
# Mappings that have tensors of a network's shapes and are none.
_NO_NETWORK = ("optim", "sched", "lr_sched", "scaler", "amp", "mask", "grad")
_BUFFERS = frozenset({"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "sum"})
_DEPTH = 5
_LONGEST = 30  # parts of a prefix
_LISTED = 12
_MOST = 100
ROOT = "."
"""What the entries at the top are called where a network among them needs a name."""


@dataclass(frozen=True)
class Candidate:
    """A network in a checkpoint: `name` for `--key` ("" for the file itself), and entries below `prefix`.

    `entries` is None for a list of tensors, which bear no names.
    """

    name: str
    entries: Mapping[object, object] | None
    prefix: str = ""


def choose(content: object, key: str | None = None) -> Candidate:
    """The state dict in what was saved: `content` itself or what stands in it, `key` where that is given.

    Raises `InvalidInput` where there is none, where there are several and no key chooses, and for an unknown key.
    """
    if not isinstance(content, Mapping):
        raise InvalidInput(
            f"it holds a {type(content).__name__}, no state dict. Save one: torch.save(model.state_dict(), path)."
        )
    if content.keys() >= _OF_A_RUN:  # its `model` may be another than the run's result
        raise InvalidInput(
            "it is the checkpoint of a training run. Finish that with `cifar-export train ... --resume`, and give "
            "the weights.safetensors beside it."
        )
    found = list(islice(_found(content, "", _DEPTH, set()), _MOST))
    if key is not None:
        return _named(content, found, key)
    if len(found) > 1:
        raise InvalidInput(f"it holds several state dicts ({_listed(found)}). Choose one with --key {found[0].name}.")
    return found[0] if found and found[0].entries is not None else _wrapped(content, "")


def _named(content: Mapping[object, object], found: list[Candidate], key: str) -> Candidate:
    """What `key` means: a candidate, an entry that holds one, or keys that begin with it."""
    for candidate in found:
        if key in (candidate.name, candidate.name or ROOT):
            if candidate.entries is None:
                raise InvalidInput(f"{key} is a list of tensors, which bear no names. Save a state dict.")
            return candidate
    below = [candidate for candidate in found if candidate.name.startswith(f"{key}.")]
    if len(below) == 1 and below[0].entries is not None:
        return below[0]
    if below:
        raise InvalidInput(f"{key} holds several state dicts ({_listed(below)}). Choose one with --key.")
    inside = _entry(content, key)
    if isinstance(inside, Mapping) and any(isinstance(value, Tensor) for value in inside.values()):
        return Candidate(key, inside)  # no whole network: what it lacks is said of it
    known = f"It holds {_listed(found)}" if found else "It holds none"
    raise InvalidInput(f"it has no state dict under --key {key}. {known}.")


def _entry(content: object, key: str) -> object:
    """What stands in nested mappings under a dotted name, whose parts may have dots themselves; None for nothing."""
    if not isinstance(content, Mapping):
        return None
    for name, value in content.items():
        if name == key:
            return value
        if isinstance(name, str) and key.startswith(f"{name}.") and (inside := _entry(value, key[len(name) + 1 :])):
            return inside
    return None


def _found(
    content: Mapping[object, object], path: str, depth: int, barren: set[tuple[int, int]]
) -> Iterator[Candidate]:
    """Every whole network in `content`, in the order in which they stand there.

    `barren`: ids and depths of mappings in which there is none; one may be held a thousand times, or hold itself.
    """
    if not depth or (id(content), depth) in barren:
        return
    nothing = True
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor) and key not in _BUFFERS
    }
    prefixes = list(networks_in(tensors, ""))
    for prefix in prefixes:
        nothing = False
        if len(prefixes) == 1:
            yield Candidate(path, content, prefix)
            continue
        name = ".".join(part for part in (path, prefix.rstrip(".")) if part) or ROOT
        others = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
        own: dict[object, object] = {}
        own |= {key: value for key, value in tensors.items() if key.startswith(prefix) and not key.startswith(others)}
        yield Candidate(name, own, prefix)
    for key, value in content.items():
        if not isinstance(key, str) or key.lower().startswith(_NO_NETWORK):
            continue
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            for candidate in _found(value, name, depth - 1, barren):
                nothing = False
                yield candidate
        elif isinstance(value, list | tuple):
            listed = {str(place): part for place, part in enumerate(value) if isinstance(part, Tensor)}
            if _is_whole(listed):
                nothing = False
                yield Candidate(name, None)
    if nothing:
        barren.add((id(content), depth))


def networks_in(tensors: Mapping[str, Tensor], prefix: str) -> Iterator[str]:
    """The longest prefixes below which a whole network stands, each ending with a dot; "" for one without any."""
    if not _is_whole(tensors):
        return
    if prefix.count(".") == _LONGEST:
        yield prefix
        return
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        first, dot, rest = key.partition(".")
        if dot:
            parts.setdefault(first, {})[rest] = tensor
    whole = {first: inside for first, inside in parts.items() if _is_whole(inside)}
    beside = {key: tensor for key, tensor in tensors.items() if key.partition(".")[0] not in whole}
    if _is_whole(beside):
        yield prefix
    for first, inside in whole.items():
        yield from networks_in(inside, f"{prefix}{first}.")


def _is_whole(tensors: Mapping[str, Tensor]) -> bool:
    """Whether there is a convolution of three channels and a matrix: where a network begins and where it ends."""
    begins = any(tensor.dim() == 4 and tensor.shape[1] == 3 for tensor in tensors.values())
    return begins and any(tensor.dim() == 2 for tensor in tensors.values())


def _wrapped(content: object, path: str) -> Candidate:
    """Where no whole network stands: what comes nearest to one, so that what it lacks can be said."""
    for _ in range(_DEPTH):
        if not isinstance(content, Mapping):
            break
        inside = [key for key in WRAPPERS if isinstance(content.get(key), Mapping) and content[key]]
        if any(isinstance(value, Tensor) for value in content.values()) and not inside:
            return Candidate(path, content)
        if not inside:
            break
        if len(inside) > 1:
            raise InvalidInput(
                f"it holds several state dicts ({', '.join(inside)}). Choose one with --key {inside[0]}."
            )
        path = f"{path}.{inside[0]}" if path else inside[0]
        content = content[inside[0]]
    names = [f"{key!s:.120}" for key in content] if isinstance(content, Mapping) else []
    more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
    raise InvalidInput(f"it holds no state dict. Its keys: {'; '.join(names[:3]) or 'none'}{more}.")


def _listed(found: list[Candidate]) -> str:
    names = [f"{candidate.name:.60}" for candidate in found]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
