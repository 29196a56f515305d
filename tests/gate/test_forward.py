"""One runtime over all input sets: which batches it gets, how long it took, and what it ended with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cifar_export.errors import GateFailed
from cifar_export.gate import forward as room
from cifar_export.gate.forward import Answer, Inputs, attempt, forward
from cifar_export.networks.preprocess import as_variant
from cifar_export.networks.zoo import CIFAR10
from cifar_export.runtimes import Runtime

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
WHERE = {"noise": [np.arange(4), np.arange(4, 9), np.arange(12) % 9], "few": [np.array([2])]}


class Sums(Runtime):
    """Ten logits, each the sum of the image; `on_batch` is called with the images first."""

    name = provider = "sums"

    def __init__(self, on_batch: Callable[[Any], None] = lambda images: None) -> None:
        self.on_batch, self.closed = on_batch, False

    def logits(self, images: Any) -> Any:
        self.on_batch(images)
        return np.repeat(images.reshape(len(images), -1).sum(axis=1, dtype=np.float32)[:, None], 10, axis=1)

    def close(self) -> None:
        self.closed = True


def inputs(variant: Any = "uint8") -> Inputs:
    return Inputs({"noise": PIXELS, "few": PIXELS[:3]}, variant, CIFAR10.normalization)


@pytest.mark.parametrize("variant", ["uint8", "float32"])
def test_each_batch_holds_the_images_asked_for_as_the_variant_wants_them(variant: Any) -> None:
    seen: list[Any] = []
    signs: list[None] = []
    logits, _ = forward(Sums(seen.append), inputs(variant), WHERE, lambda: signs.append(None))
    whole = as_variant(PIXELS, variant, CIFAR10.normalization)
    assert len(seen) == len(signs) == 4
    for images, places in zip(seen, [*WHERE["noise"], *WHERE["few"]], strict=True):
        assert np.array_equal(images, whole[places])
        assert images.dtype == whole.dtype
    assert (logits["noise"].shape, logits["few"].shape) == ((21, 10), (1, 10))
    assert logits["few"][0, 0] == logits["noise"][2, 0]


def test_only_the_runtimes_own_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves on by 5 s when a batch is made ready and by 1 s when the runtime runs it."""
    now = [0.0]

    def slow_batch(self: Inputs, name: str, places: Any) -> Any:
        now[0] += 5
        return self.pixels[name][places]

    def run(images: Any) -> None:
        now[0] += 1

    monkeypatch.setattr(room.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(Inputs, "batch", slow_batch)
    answer = attempt(lambda: Sums(run), inputs(), WHERE)
    assert (answer.seconds, now[0]) == (4.0, 24.0)


def test_what_a_runtime_raises_is_the_answers_problem_with_the_size_of_the_batch() -> None:
    def crash(images: Any) -> None:
        if len(images) == 5:
            raise RuntimeError("out of cheese\nand more")

    runtime = Sums(crash)
    answer = attempt(lambda: runtime, inputs(), WHERE)
    assert answer == Answer(None, problem="crashed: RuntimeError: out of cheese", batch=5)
    assert runtime.closed


def test_errors_of_ours_are_said_as_they_are_and_those_of_opening_have_no_batch() -> None:
    def refuse(images: Any) -> None:
        raise GateFailed("not on the GPU")

    def fail() -> Runtime:
        raise OSError("no such library")

    assert attempt(lambda: Sums(refuse), inputs(), WHERE) == Answer(None, problem="not on the GPU")
    assert attempt(fail, inputs(), WHERE) == Answer(None, problem="crashed: OSError: no such library")
