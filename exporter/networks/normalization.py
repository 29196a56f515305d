"""The options `--mean R,G,B` and `--std R,G,B`: text to numbers, with errors that say what to type instead."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import InvalidInput
from .zoo import Normalization

# half a step of 1/255: no pictures vary less, and what is divided by less leaves the range of float32
_SMALLEST_STD = 0.002
_EXAMPLE = "three numbers for red, green and blue of pixels scaled to 0..1, as in 0.4914,0.4822,0.4465"


def parse_normalization(mean: str | None, std: str | None) -> Normalization | None:
    """Parse the two options, "R,G,B" each; None where both are absent.

    `Normalization.as_dict()` written with commas parses back to an equal one. Raises `InvalidInput` where only one is
    given, and for anything but three finite numbers that can be a mean (0..1) or a standard deviation (above 0, up
    to 1) of pixels scaled to 0..1.
    """
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        given, absent = ("--std", "--mean") if mean is None else ("--mean", "--std")
        raise InvalidInput(f"{given} without {absent}: a normalization needs both. Add {absent} R,G,B.")
    return Normalization(_triple("--mean", mean), _checked_std("--std", _triple("--std", std)))


def normalization_from(document: object) -> Normalization:
    """Read what `Normalization.as_dict()` wrote (a parsed JSON value). Raises `ValueError` if it is not that."""
    if not isinstance(document, Mapping) or set(document) != {"mean", "std"}:
        raise ValueError("normalization is not an object with mean and std")
    triples = []
    for name in ("mean", "std"):
        values = document[name]
        if not isinstance(values, list) or len(values) != 3:
            raise ValueError(f"normalization has a {name} that is not three numbers")
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            raise ValueError(f"normalization has a {name} that is not three numbers")
        if not all(0 <= value <= 1 for value in values):  # before float(), which a huge integer would overflow
            raise ValueError(f"normalization has a {name} that is not of pixels in 0..1")
        triples.append((float(values[0]), float(values[1]), float(values[2])))
    mean, std = triples
    if not all(std):
        raise ValueError("normalization has a std of 0, and pixels are divided by it")
    return Normalization(mean, std)


def _triple(option: str, text: str) -> tuple[float, float, float]:
    """Three finite numbers in 0..1."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInput(f"{option} {text!r} is not a list of numbers. Give {_EXAMPLE}.") from None
    if len(numbers) != 3:
        raise InvalidInput(f"{option} {text!r} has {len(numbers)} value(s). Give {_EXAMPLE}.")
    if not all(math.isfinite(number) for number in numbers):
        raise InvalidInput(f"{option} {text!r} is not finite. Give {_EXAMPLE}.")
    if min(numbers) < 0:
        raise InvalidInput(f"{option} {text!r} is negative. Give {_EXAMPLE}.")
    if max(numbers) > 255:
        raise InvalidInput(f"{option} {text!r} is out of range. Give {_EXAMPLE}.")
    if max(numbers) > 1:
        scaled = ",".join(f"{number / 255:.4f}" for number in numbers)
        raise InvalidInput(f"{option} {text!r} looks like pixels in 0..255. Divide by 255: {option} {scaled}")
    return numbers[0], numbers[1], numbers[2]


def _checked_std(option: str, values: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(values) < _SMALLEST_STD:
        raise InvalidInput(f"{option} must be at least {_SMALLEST_STD}: pixels are divided by it. Give {_EXAMPLE}.")
    return values
