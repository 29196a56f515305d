"""What the search for a wrong node finds, as data."""

from __future__ import annotations

import pytest

from cifar_export.gate.divergence import LayerError


@pytest.mark.parametrize(
    ("largest", "yardstick", "inside", "outside"),
    [
        (1.0, 1e-6, 3.9e-6, 4.9e-6),
        (12.0, 1e-5, 3.9e-5, 4.9e-5),
        (1.0, 0.0, 4.76837158203125e-07, 4.77e-7),  # 4 units in the last place of a float32 of 1
    ],
)
def test_a_node_has_the_band_of_the_gate(largest: float, yardstick: float, inside: float, outside: float) -> None:
    assert LayerError("conv1", "Conv", largest, inside, yardstick, 0).inside
    assert not LayerError("conv1", "Conv", largest, outside, yardstick, 0).inside
    assert not LayerError("conv1", "Conv", largest, float("nan"), yardstick, 0).inside
