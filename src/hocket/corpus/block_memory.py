"""Blocks in the memory of one process: each read once, by whichever thread needs it first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future as Promise
from threading import Lock

from hocket.corpus.shard_source import Held

Key = tuple[int, int]
"""Corpus and block."""


class BlockMemory:
    """At most ``max_bytes`` of blocks, and always the last one; the least recently used leave."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[Key, Held] = OrderedDict()
        self._promised: dict[Key, Promise[Held]] = {}
        self._unread: dict[Key, int] = {}
        self._lock = Lock()
        self.num_bytes = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    @property
    def ahead_bytes(self) -> int:
        """Of blocks that were read ahead and have not been asked for."""
        with self._lock:
            return sum(self._unread.values())

    def get(self, key: Key, read: Callable[[], Held]) -> tuple[Held, bool]:
        """A block, and whether it was here; else by ``read``, or by the thread that reads it already."""
        with self._lock:
            self._unread.pop(key, None)
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
                return held, True
            promise = self._promised.get(key)
            mine = promise is None
            if promise is None:
                promise = self._promised[key] = Promise()
        return (self._read(key, promise, read, lambda _: True) if mine else promise.result()), False

    def read_ahead(self, key: Key, read: Callable[[], Held], keep: Callable[[Held], bool]) -> None:
        """Read a block that nobody waits for, unless it is here or comes; it stays if ``keep`` says so."""
        with self._lock:
            if key in self._held or key in self._promised:
                return
            promise = self._promised[key] = Promise()

        def unless_wanted(held: Held) -> bool:
            if not keep(held):
                return False
            self._unread[key] = held.stretch.length
            return True

        self._read(key, promise, read, unless_wanted)

    def _read(
        self, key: Key, promise: Promise[Held], read: Callable[[], Held], keep: Callable[[Held], bool]
    ) -> Held:
        try:
            held = read()
        except BaseException as error:
            with self._lock:
                del self._promised[key]
            promise.set_exception(error)
            raise
        with self._lock:
            del self._promised[key]
            if keep(held):
                self._held[key] = held
                self.num_bytes += held.stretch.length
            while self.num_bytes > self._max_bytes and len(self._held) > 1:
                old, left = self._held.popitem(last=False)
                self.num_bytes -= left.stretch.length
                self._unread.pop(old, None)
        promise.set_result(held)
        return held
