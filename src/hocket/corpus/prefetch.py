"""Work done ahead of its consumer, in one background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")
_POLL_SECONDS = 0.1


class _Failed:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class _End:
    pass


class Prefetch(Generic[A, B]):
    """Iterates over ``make(item)`` for all ``items``, at most ``depth`` results ahead, in order.

    An error in ``items`` or ``make`` is raised to the consumer in its place. :meth:`close` (or leaving
    the ``with`` block) ends the thread; so does the last result. ``interrupt`` is called by :meth:`close`
    when the thread is at work, to end a ``make`` that waits for something.
    """

    def __init__(
        self,
        make: Callable[[A], B],
        items: Iterable[A],
        depth: int,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self._make, self._items, self._interrupt = make, items, interrupt
        self._queue: queue.Queue[B | _Failed | _End] = queue.Queue(maxsize=max(1, depth))
        self._stop = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="hocket-prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[B]:
        return self

    def __next__(self) -> B:
        if self._over:
            raise StopIteration
        result = self._queue.get()
        if isinstance(result, _End | _Failed):
            self._over = True
            self._thread.join()
        if isinstance(result, _End):
            raise StopIteration
        if isinstance(result, _Failed):
            raise result.error
        return result

    def __enter__(self) -> Prefetch[A, B]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread and wait for it; results not yet taken are gone."""
        self._over = True
        self._stop.set()
        if self._thread.is_alive():
            self._interrupt()
        self._thread.join()

    def _run(self) -> None:
        try:
            for item in self._items:
                if self._stop.is_set() or not self._put(self._make(item)):
                    return
            self._put(_End())
        except BaseException as error:
            self._put(_Failed(error))

    def _put(self, result: B | _Failed | _End) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(result, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
