"""Servers that keep a connection alive and give nothing: how long is waited, whatever they send.

A time-out of a socket is for a pause between two bytes. A byte every second, or one `100 Continue` after another, makes
no pause; so there is a time for the whole head of an answer, a lowest rate for its body, and a time for all of it.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import urllib3

HEAD_SECONDS = 30.0
"""From the request to the end of the answer's head."""
LOWEST_RATE = 1024
"""Bytes of a body in a second; the slowest of telephone modems brings four times as many."""
WINDOW_SECONDS = 30.0
"""Over which the rate is taken."""


_LATE = "the head of the answer takes too long"


class TooSlow(Exception):
    """The server sent too little; the text says how little, for the middle of a sentence."""


def watch_heads(manager: urllib3.PoolManager) -> None:
    """Let each connection of `manager` give up on a head after `HEAD_SECONDS`, as on a pause: with a `TimeoutError`."""

    def watching(kind: Any) -> Any:
        class Watching(kind):  # type: ignore[misc]
            def getresponse(self) -> Any:
                cut = functools.partial(_cut, self.sock)
                late = threading.Event()

                def give_up() -> None:
                    late.set()
                    cut()

                timer = threading.Timer(HEAD_SECONDS, give_up)
                timer.daemon = True
                timer.start()
                try:
                    response = super().getresponse()
                except Exception as error:
                    if late.is_set():
                        raise TimeoutError(_LATE) from error
                    raise
                finally:
                    timer.cancel()
                if late.is_set():  # a head that is cut passes for a whole one
                    response.close()
                    raise TimeoutError(_LATE)
                response.cut = cut
                return response

        return Watching

    pools: dict[str, Any] = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": watching(pool.ConnectionCls)})
        for scheme, pool in pools.items()
    }


@contextlib.contextmanager
def paced(response: Any, seconds: float) -> Iterator[Callable[[int], None]]:
    """Read the body of `response`, which a manager of `watch_heads` gave, in the block; tell what is yielded how much.

    Raises `TooSlow` at the end of the block, whatever that ended with, where the body came too slowly or took more than
    so many `seconds`.
    """
    moved, late = [0], list[str]()
    done = threading.Event()

    def watch() -> None:
        deadline = time.monotonic() + seconds
        before = 0
        while not done.wait(min(WINDOW_SECONDS, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                late.append(f"takes more than {seconds:,.0f} seconds")
            elif moved[0] - before < LOWEST_RATE * WINDOW_SECONDS:
                late.append(f"sends fewer than {LOWEST_RATE:,} bytes a second")
            if late:
                response.cut()
                break
            before = moved[0]

    def move(count: int) -> None:
        moved[0] += count

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield move
    except Exception as error:
        if late:
            raise TooSlow(late[0]) from error
        raise
    finally:
        done.set()
        watcher.join()
    if late:
        raise TooSlow(late[0])  # a body without a length ends where it is cut


def _cut(connection: socket.socket) -> None:
    """End `connection` under a thread that reads from it, TLS or not: it sees the end."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
