"""Taking turns: what many threads may do at once, and what one thread must do alone."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator


class Turns:
    """A re-entrant lock of two kinds.

    Any number of threads share it; a thread that needs it alone waits until the others have left, and those that come
    meanwhile wait until it is done. A thread that is inside, in either way, may enter again in either way.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing: Counter[int] = Counter()  # by thread: how often it has entered
        self._owner: int | None = None
        self._owned = 0
        self._waiting: list[int] = []  # threads that want to be alone

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Be inside together with others; waits while another thread is alone, or waits to be."""
        me = threading.get_ident()
        with self._changed:
            if me not in self._sharing and self._owner != me:
                self._changed.wait_for(lambda: self._owner is None and not self._waiting)
            self._sharing[me] += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing[me] -= 1
                self._sharing += Counter()  # drops the threads that have left
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Be inside without others. A thread that shares it already gives up no place of its own.

        Raises `RuntimeError` where two threads that share it both want to be alone: each would wait for the other.
        """
        me = threading.get_ident()
        with self._changed:
            if me in self._sharing and any(other in self._sharing for other in self._waiting):
                raise RuntimeError("two threads that compute both want to export. Export outside of their callbacks.")
            self._waiting.append(me)
            try:
                self._changed.wait_for(lambda: self._owner in (None, me) and not self._sharing.keys() - {me})
            finally:
                self._waiting.remove(me)
                self._changed.notify_all()
            self._owner = me
            self._owned += 1
        try:
            yield
        finally:
            with self._changed:
                self._owned -= 1
                if not self._owned:
                    self._owner = None
                self._changed.notify_all()
