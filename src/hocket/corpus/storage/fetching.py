"""Reading ranges of bytes from a store that may be slow, silent, or wrong.

A request that is later than nearly all before it is sent a second time, and the first answer counts: Dean &
Barroso, "The Tail at Scale", CACM 2013. At most one in twenty is, and none where the way to the store is
full. An error, a silence, an answer of the wrong length, or of bytes whose checksums do not hold, is asked
for again, ever later; a store that gives nothing for long is named.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, wait
from contextlib import suppress
from typing import Any

from hocket.core import clock, seeds
from hocket.core.errors import CorpusError
from hocket.corpus.storage.congestion import Sent, Window
from hocket.corpus.storage.meter import Meter
from hocket.corpus.storage.stores import Store

_HEDGE_PART, _HEDGE_FACTOR, _HEDGE_KNOWN, _HEDGE_SHARE = 0.95, 1.5, 32, 0.05
_HEDGE_SECONDS = 0.02
_FIRST_PAUSE, _LONGEST_PAUSE, _DOUBLINGS = 0.1, 10.0, 7
_SMALL = 1e6
"""Bytes that a file which is read whole has at most, about."""
_DAMAGED_TRIES = 3
_SIZE_EVERY = 4
"""Tries after which the size of the file is looked at again, from the second on."""
_FINAL_STATUS = (401, 403, 404, 410)
_OVERLOAD_STATUS = (429, 503)


class _Failed(Exception):
    """An answer that is worth asking again for."""


class _Late(_Failed):
    """No answer yet."""


class Fetcher:
    """Reads from one store; usable from any thread."""

    def __init__(
        self,
        store: Store,
        meter: Meter,
        *,
        requests: int,
        timeout_seconds: float,
        give_up_seconds: float,
        hedge: bool,
    ) -> None:
        self.store, self._meter = store, meter
        self.window = Window(requests)
        """What is under way, and how much should be."""
        self.timeout_seconds, self.give_up_seconds, self._hedge = timeout_seconds, give_up_seconds, hedge
        self._over: Future[None] = Future()

    def patience(self, length: float) -> float:
        """Seconds that ``length`` bytes may take; ``give_up_seconds`` at most.

        ``timeout_seconds``, and as long as they and all that is under way take at the rate of late.
        """
        most = max(self.timeout_seconds, self.give_up_seconds)
        return min(most, self.timeout_seconds + self.window.seconds_for(length))

    def stop(self) -> None:
        """Let nobody wait any longer: reads that go on raise :class:`CorpusError`, at once."""
        with suppress(InvalidStateError):
            self._over.set_result(None)

    def pause(self, seconds: float) -> None:
        """Wait, unless reading was ended: then :class:`CorpusError`."""
        wait([self._over], timeout=seconds)
        self._go_on()

    def fetch(
        self, name: str, file_size: int, first: int, length: int, damaged: Callable[[bytes], list[int]]
    ) -> tuple[bytes, list[int]]:
        """``length`` bytes from byte ``first`` of a file, and what ``damaged`` finds wrong in them at last.

        Raises :class:`CorpusError` when the store has no such file, has one of another size than
        ``file_size``, or gives nothing for ``give_up_seconds``.
        """
        tries = _Tries(self, name, f"bytes {first} to {first + length}", first)
        num_damaged = 0
        while True:
            try:
                data = self._once(name, first, length, tries.limit(length))
                bad = damaged(data)
                if not bad:
                    return data, []
                num_damaged += 1
                self._meter.add(damaged=1)
                if num_damaged >= _DAMAGED_TRIES:
                    return data, bad
                tries.answered()
                reason = "the checksums do not hold"
            except _Failed as error:
                reason = str(error)
                tries.num_late += isinstance(error, _Late)
            if tries.number % _SIZE_EVERY == 1:
                self._expect_size(name, file_size)
            tries.again(reason)
            self._meter.add(retries=1)

    def small_file(self, name: str) -> bytes | None:
        """The whole of a small file; None where the store says that it has none, or shows none.

        Raises :class:`CorpusError` when it gives nothing for ``give_up_seconds``.
        """
        tries = _Tries(self, name, "it", 0)
        while True:
            answer = self.store.whole(name)
            try:
                found: bytes = self._within(answer, tries.limit(_SMALL))
                return found
            except _Late as error:
                reason = str(error)
                tries.num_late += 1
            except Exception as error:
                if answer.done() and _is_final(error):
                    return None
                reason = _say(error)
            tries.again(reason)

    def _expect_size(self, name: str, file_size: int) -> None:
        """Raise when the store says that a file has another size; one that says nothing is asked later."""
        try:
            size = self._within(self.store.size(name), self.timeout_seconds)
        except Exception:
            self._go_on()
            return
        if size != file_size:
            raise CorpusError(
                f"{self.store.address}: {name} has {size:,} bytes, {file_size:,} were written: it is "
                "truncated, or another file",
                "Put the shards there that belong to the index, or prepare the corpus again.",
            )

    def _within(self, answer: Future[Any], seconds: float) -> Any:
        """What a request gives, or raises, in so many seconds; else it is called off: :class:`_Late`."""
        try:
            wait([answer, self._over], timeout=seconds, return_when=FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            self._go_on()
            raise _Late(f"no answer in {seconds:.1f} s")
        finally:
            answer.cancel()

    def _go_on(self) -> None:
        if self._over.done():
            raise CorpusError(f"{self.store.address}: reading was ended")

    def _once(self, name: str, first: int, length: int, limit: float) -> bytes:
        """One try of ``limit`` seconds or more, of one request or two; :class:`_Failed` says why not."""
        begun = clock.monotonic()
        hedge_at = self._hedge_after()
        running = dict([self._send(name, first, length)])
        late = False
        reason = "no answer"
        try:
            while running:
                elapsed = clock.monotonic() - begun
                left = limit - elapsed
                until = left if hedge_at is None else min(left, hedge_at - elapsed)
                either: list[Future[Any]] = [*running, self._over]
                wait(either, timeout=max(0.0, until), return_when=FIRST_COMPLETED)
                done = {answer for answer in running if answer.done()}
                for answer in done:
                    data, reason = self._look(answer, running.pop(answer), name, length)
                    if data is not None:
                        self._meter.answered(clock.monotonic() - begun)
                        self._meter.add(fetched_bytes=length)
                        return data
                self._go_on()
                elapsed = clock.monotonic() - begun
                if not done and elapsed >= limit:
                    limit = max(limit, self.patience(0))  # others may have come, and share the way
                if not done and elapsed >= limit:
                    late = True
                    raise _Late(f"no answer in {limit:.1f} s")
                if not done and hedge_at is not None and elapsed >= hedge_at:
                    hedge_at = None
                    self._meter.add(hedged_bytes=length)
                    running.update([self._send(name, first, length)])
            raise _Failed(reason)
        finally:
            for answer, sent in running.items():
                self.window.gone(sent, overload=late)
                answer.cancel()

    def _send(self, name: str, first: int, length: int) -> tuple[Future[bytes], Sent]:
        self._meter.add(requests=1)
        sent = self.window.sent(length)
        try:
            return self.store.request(name, first, length), sent
        except BaseException:
            self.window.gone(sent)
            raise

    def _look(self, answer: Future[bytes], sent: Sent, name: str, length: int) -> tuple[bytes | None, str]:
        try:
            data = answer.result()
        except Exception as error:
            self.window.gone(sent, overload=_status(error) in _OVERLOAD_STATUS)
            if _is_final(error):
                raise CorpusError(
                    f"{self.store.address}: {name}: {_say(error)}",
                    "The shards must lie there as hocket prepare --shards wrote them.",
                ) from error
            return None, _say(error)
        if len(data) != length:
            self.window.gone(sent)
            return None, f"{len(data)} bytes came where {length} were asked for"
        self.window.answered(sent)
        return data, ""

    def _hedge_after(self) -> float | None:
        """Seconds after which a second request pays; None where it would not, or nothing tells."""
        total = self._meter.total
        if not self._hedge or self._meter.num_known < _HEDGE_KNOWN or self.window.full:
            return None
        if total.hedged_bytes > _HEDGE_SHARE * total.fetched_bytes:
            return None
        usual = self._meter.latency(_HEDGE_PART)
        return None if usual is None else max(_HEDGE_SECONDS, _HEDGE_FACTOR * usual)


class _Tries:
    """Asking again and again for one thing: how long each time, how long between, and until when."""

    def __init__(self, fetcher: Fetcher, name: str, what: str, place: int) -> None:
        self._fetcher, self._name, self._what, self._place = fetcher, name, what, place
        self._begun = clock.monotonic()
        self.number = self.num_late = 0

    def limit(self, length: float) -> float:
        """Seconds for the next try at ``length`` bytes: the usual, twice as many after each that was late.

        At the end no more than are left, but the usual ones always.
        """
        usual = self._fetcher.patience(length)
        left = self._fetcher.give_up_seconds - (clock.monotonic() - self._begun)
        return float(min(usual * 2.0 ** min(self.num_late, _DOUBLINGS), max(usual, left)))

    def answered(self) -> None:
        """The store has given all that it was asked for: patience begins anew."""
        self._begun = clock.monotonic()

    def again(self, reason: str) -> None:
        """Pause before the next try. Raises :class:`CorpusError` when there is to be none."""
        fetcher = self._fetcher
        if clock.monotonic() - self._begun > fetcher.give_up_seconds:
            raise CorpusError(
                f"{fetcher.store.address}: {self._name}: {self._what} could not be read for "
                f"{fetcher.give_up_seconds:g} s; the last time: {reason}",
                "Look at the store and the way there; loading.storage.give_up_seconds sets the patience.",
            )
        draw = seeds.key("pause", self._name, self._place, self.number) / 2.0**64
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self.number, _DOUBLINGS)) * (0.5 + draw)
        self.number += 1
        fetcher.pause(pause)


def _is_final(error: Exception) -> bool:
    """True for an answer that will be the same however often one asks."""
    return isinstance(error, FileNotFoundError | PermissionError) or _status(error) in _FINAL_STATUS


def _status(error: Exception) -> int | None:
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
