"""`--mean` and `--std`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_export.errors import InvalidInput
from cifar_export.networks.normalization import normalization_from, parse_normalization
from cifar_export.networks.zoo import Normalization

means = st.floats(0, 1)
stds = st.floats(0.002, 1)


def test_both_or_neither() -> None:
    assert parse_normalization(None, None) is None
    assert parse_normalization(".485,.456,.406", "0.229, 0.224, 0.225") == Normalization(
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    with pytest.raises(InvalidInput, match="--mean without --std"):
        parse_normalization("0,0,0", None)
    with pytest.raises(InvalidInput, match="--std without --mean"):
        parse_normalization(None, "1,1,1")


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ("", "1,1,1", "--mean '' is not a list of numbers"),
        ("a,b,c", "1,1,1", "--mean 'a,b,c' is not a list of numbers"),
        (".5,.5", "1,1,1", "has 2 value"),
        (".5,.5,.5,.5", "1,1,1", "has 4 value"),
        (".5,.5,nan", "1,1,1", "--mean .* is not finite"),
        (".5,.5,.5", "1,inf,1", "--std .* is not finite"),
        ("-.5,.5,.5", "1,1,1", "--mean .* is negative"),
        (".5,.5,.5", "1,0,1", "--std must be at least 0.002"),
        (".5,.5,.5", "1,1e-300,1", "--std must be at least 0.002"),
        (".5,.5,.5", "1,-1,1", "--std .* is negative"),
        ("125.3,123.0,113.9", ".2,.2,.2", "Divide by 255: --mean 0.4914,0.4824,0.4467"),
        (".5,.5,.5", "51,51,51", "Divide by 255: --std 0.2000,0.2000,0.2000"),
        ("500,1,1", ".2,.2,.2", "out of range"),
    ],
)
def test_what_it_refuses(mean: str, std: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_normalization(mean, std)


@given(st.tuples(means, means, means), st.tuples(stds, stds, stds))
def test_text_and_json_round_trip(mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
    normalization = Normalization(mean, std)
    text = normalization.as_dict()
    assert parse_normalization(*(",".join(map(repr, text[name])) for name in ("mean", "std"))) == normalization
    assert normalization_from(json.loads(json.dumps(text))) == normalization


@given(st.text(alphabet="0123456789.,-+eE_nainf ", max_size=20))
def test_any_text_is_three_numbers_or_an_error_of_ours(text: str) -> None:
    try:
        parsed = parse_normalization(text, "1,1,1")
    except InvalidInput:
        return
    assert parsed is not None
    assert all(0 <= value <= 1 for value in parsed.mean)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"mean": [0, 0, 0]},
        {"mean": [0, 0], "std": [1, 1, 1]},
        {"mean": [0, 0, True], "std": [1, 1, 1]},
        {"mean": [0, 0, 0], "std": [1, 1, 0]},
        {"mean": [0, 0, float("nan")], "std": [1, 1, 1]},
        {"mean": [0, 0, 0], "std": [1, 1, 1], "more": 1},
    ],
)
def test_json_that_is_no_normalization(document: object) -> None:
    with pytest.raises(ValueError, match="normalization"):
        normalization_from(document)
