"""Threads that read blocks before they are needed, in the order in which they will be.

How many read beside each other follows from what is measured: as many as bring blocks twice as fast as
they are needed, at the latency of nine in ten answers (Little's law), but no more than the way to the store
bears (:mod:`hocket.corpus.storage.congestion`). How far ahead follows from the room: to
an epoch where the disk has room, else as far as the next pool and the latency ask for, so that what is kept
stays as long as it can; in memory to half of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Condition, Lock, Thread

from hocket.core import clock
from hocket.core.errors import HocketError
from hocket.corpus.storage.block_memory import BlockMemory
from hocket.corpus.storage.meter import Meter
from hocket.corpus.storage.shard_source import Future, Held, ShardSource

_FIRST_READERS, _FEWEST_READERS = 4, 2
_ENOUGH = 8
"""Blocks after which the rate at which they are needed is known."""
_IDLE_SECONDS = 0.5
_FULL_SECONDS = 30.0
"""For which a disk that was full is not tried by what nobody waits for."""


class ReadAhead:
    """Reads ahead of :meth:`at`; started by its first call."""

    def __init__(
        self,
        sources: Sequence[ShardSource | None],
        memory: BlockMemory,
        future: Future,
        meter: Meter,
        *,
        most_readers: int,
        most_bytes: int,
    ) -> None:
        self._sources, self._memory, self._future, self._meter = sources, memory, future, meter
        self._most_readers, self._most_bytes = most_readers, most_bytes
        self._moved, self._schedule_lock = Condition(), Lock()
        self._schedule: Iterator[tuple[int, int, int]] = iter(())
        self._next: tuple[int, int, int] | None = None
        self._all_begun = False
        self._under_way = [0] * len(sources)
        self._readers: list[Thread] = []
        self._stopped = False
        self._failure: Exception | None = None
        self._begun, self._num_seen = clock.monotonic(), 0
        self._full_until, self._num_not_kept = 0.0, 0
        self.step = self._first_step = 0

    def at(self, step: int) -> None:
        """Training has come to this step. Raises what a thread that reads ahead has failed with."""
        if self._failure is not None:
            raise self._failure
        if step != self.step:
            with self._moved:
                self.step = step
                self._moved.notify_all()
        if not self._readers and not self._stopped:
            self._schedule = self._future.upcoming(step)
            self._begun, self._first_step = clock.monotonic(), step
            self._readers = [
                Thread(target=self._run, args=(number,), name="hocket-ahead", daemon=True)
                for number in range(self._most_readers)
            ]
            for reader in self._readers:
                reader.start()

    def look(self) -> None:
        """See whether blocks were asked for since the last call, so that there may be room for others."""
        if self._memory.num_asked != self._num_seen:
            with self._moved:
                self._num_seen = self._memory.num_asked
                self._moved.notify_all()

    def stop(self) -> None:
        """Begin nothing more."""
        with self._moved:
            self._stopped = True
            self._moved.notify_all()

    def join(self) -> None:
        """Wait for the threads."""
        for reader in self._readers:
            reader.join()

    @property
    def readers_wanted(self) -> int:
        """How many must read beside each other for what is needed, as far as there are so many."""
        latency, num_asked = self._meter.latency(0.9), self._memory.num_asked
        if latency is None or num_asked < _ENOUGH:
            return _FIRST_READERS
        rate = num_asked / max(clock.monotonic() - self._begun, 1e-6)
        return max(_FEWEST_READERS, 1 + int(2.0 * rate * latency))

    @property
    def _steps_soon(self) -> int:
        """Steps before its use that a block must be on its way: the next pool, and two late answers."""
        late = self._meter.latency(0.99) or 0.0
        seconds = max(clock.monotonic() - self._begun, 1e-6)
        return self._future.steps_soon + int(2.0 * late * (self.step - self._first_step) / seconds)

    def _run(self, number: int) -> None:
        try:
            while not self._stopped and not self._all_begun:
                if number >= self.readers_wanted or not self._one():
                    self._sleep()
        except Exception as error:  # not of a store: those are met again by who needs the block
            self._failure = error

    def _sleep(self) -> None:
        with self._moved:
            if not self._stopped and not self._all_begun:
                self._moved.wait(_IDLE_SECONDS)

    def _one(self) -> bool:
        """Read the next block, or find that it need not be; False while it is too early for it.

        Blocks are begun in the order of the schedule: where it is too early for one, so it is for the rest.
        """
        with self._schedule_lock:
            if self._next is None:
                self._next = next(self._schedule, None)
            if self._next is None:
                self._all_begun = True
                return True
            step, corpus, block = self._next
            source = self._sources[corpus]
            begin = None if source is None else self._look_at(source, step, corpus, block)
            if begin is False:
                return False
            self._next = None
            if source is None or begin is None:
                return True
            self._under_way[corpus] += 1
        try:
            self._read(source, step, corpus, block)
        finally:
            with self._schedule_lock:
                self._under_way[corpus] -= 1
        with self._moved:
            self._moved.notify_all()  # there may be room for more than before
        return True

    def _look_at(self, source: ShardSource, step: int, corpus: int, block: int) -> bool | None:
        """Whether to read a block now (True), later (False), or not at all (None)."""
        if (corpus, block) in self._memory:
            return None
        if step > self.step + self._future.steps_ahead:
            return False
        needed = step < self.step  # by now: whoever needs it reads it
        length = int(source.places.block_length[block])
        shelf = source.shelf
        if shelf is not None and not self._disk_is_full():
            soon = step <= self.step + self._steps_soon
            if not soon and not shelf.worth(block, length, soon=False):
                return False  # also where it is kept: it may have to leave before it is needed
            if shelf.has(block):
                return None
            if not shelf.worth(block, length):
                return None if needed else False
        elif self._memory.ahead_bytes + length > self._most_bytes:
            return None if needed else False
        return self._under_way[corpus] < source.fetcher.window.limit

    def _read(self, source: ShardSource, step: int, corpus: int, block: int) -> None:
        shelf, onto_disk = source.shelf, source.shelf is not None and not self._disk_is_full()
        if onto_disk and shelf is not None:
            with shelf.fetching(block, 0.0) as mine:
                if not mine:
                    return  # another process of this host reads it

        def stays_in_memory(held: Held) -> bool:
            if step <= self.step or not onto_disk:
                return True
            return shelf is not None and not shelf.has(block)

        try:
            self._memory.read_ahead((corpus, block), lambda: source.block(block), stays_in_memory)
        except HocketError:
            self._sleep()  # whoever needs the block will meet it, too, and say so

    def _disk_is_full(self) -> bool:
        now, not_kept = clock.monotonic(), self._meter.total.not_kept
        if not_kept > self._num_not_kept:
            self._num_not_kept, self._full_until = not_kept, now + _FULL_SECONDS
        return now < self._full_until
