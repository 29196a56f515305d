"""What threads may do at once, and what one does alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cifar_export.system.torch_state import full_float32, plain, tracing
from cifar_export.system.turns import Turns

SOON = 0.1  # seconds in which a thread that need not wait would long have come
LATE = 20.0


def test_threads_share():
    turns, together = Turns(), threading.Barrier(2, timeout=LATE)

    def share():
        with turns.shared():
            return together.wait()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(future.result() for future in [pool.submit(share), pool.submit(share)]) == [0, 1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Turns.shared, Turns.alone),
        (Turns.alone, Turns.shared),
        (Turns.alone, Turns.alone),
    ],
)
def test_one_that_is_alone_waits_and_is_waited_for(first, second):
    turns = Turns()
    refused(lambda: first(turns), lambda: second(turns))


@pytest.mark.parametrize("forward", [plain, full_float32])
def test_a_trace_waits_for_forward_passes_and_they_for_it(forward):
    refused(tracing, forward)
    refused(forward, tracing)


def refused(first, second):
    """The second gets in after the first has left, and not before."""
    inside = threading.Event()

    def enter():
        with second():
            inside.set()

    with ThreadPoolExecutor(1) as pool:
        with first():
            future = pool.submit(enter)
            assert not inside.wait(SOON)
        future.result(LATE)
    assert inside.is_set()


def test_a_thread_enters_again_whichever_way_it_came():
    turns = Turns()
    with turns.alone(), turns.shared(), turns.alone():
        pass
    with turns.shared(), turns.alone(), turns.shared():
        pass
    refused(turns.alone, turns.shared)  # all has been given back


def test_two_that_share_and_both_want_to_be_alone_are_told():
    turns, together = Turns(), threading.Barrier(2, timeout=LATE)

    def share_then_alone():
        with turns.shared():
            together.wait()
            with turns.alone():
                return "alone"

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(share_then_alone) for _ in range(2)]
        errors = [future.exception(LATE) for future in futures]
    assert sorted(str(error) for error in errors) == [
        "None",
        "two threads that compute both want to export. Export outside of their callbacks.",
    ]
