"""How many requests to a store go beside each other: as many as its way bears, which answers tell.

Where the way is not full, an answer takes as long beside others as alone. Where it is full, answers queue:
of ``n`` requests under way, each answered in ``seconds`` where ``alone`` would do,
``n * (1 - alone / seconds)`` stand in a queue somewhere, since what is under way is rate times latency
(Little's law). While there is hardly a queue more requests bring more bytes; beyond one they bring only
waiting, and in the end answers that come too late, so that bytes come twice. This is Brakmo & Peterson,
"TCP Vegas", JSAC 1995, with requests in place of packets. That a queue *stands* is told by the least of
several, so that a store whose answers vary is not taken for a full one: Nichols & Jacobson, "Controlling
queue delay", ACM Queue 2012.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from threading import Lock

from hocket.core import clock

_SLACK = 1.5
"""Answers vary: what takes so many times as long as the fastest alone has not been in a queue."""
_FEW, _MANY = 0.4, 1.5
"""Requests in the queue: below the first more are tried, above the second there are too many."""
_ENOUGH = 8
"""Answers that must agree that a queue stands."""
_STALE_SECONDS, _STALE_ANSWERS = 30.0, 16
"""For which, and of which the seconds, a queue may stand before it is looked whether it is one."""
_ALONE, _NO_FASTER = 4, 0.95
"""So many requests then go alone; when their answers are no faster than that, there was none."""
_SLOWEST = 1e6
"""Bytes a second that a store is taken to give at least, until it has been seen to give less."""
_FORGET = 0.9
"""Weight of each answer in the rate, next to the one after it."""
_LIKE = 0.5
"""Of the usual length: only such requests, and longer ones, tell how long one takes."""


@dataclass(frozen=True)
class Sent:
    """A request under way."""

    length: int
    begun: float
    beside: int
    """Requests under way when it was sent, itself included."""
    turn: int
    """How often there were found to be too many before it was sent."""


class Window:
    """Counts what is under way to one store; usable from any thread. Nobody waits in here."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, Lock()
        self._limit, self._turn = 1, 0
        self._doubling, self._measuring = True, False
        self._num, self._bytes = 0, 0
        self._alone = math.inf
        self._queues: deque[float] = deque(maxlen=_ENOUGH)
        self._too_many: list[float] = []
        self._recent: deque[float] = deque(maxlen=_ENOUGH)
        self._before, self._measured = (1, 0.0), list[float]()
        self._free_at = clock.monotonic()
        self._mark = self._rate_bytes = self._rate_seconds = self._rate_num = 0.0

    @property
    def limit(self) -> int:
        """How many blocks may be read ahead beside each other, 1 or more."""
        return self._limit

    @property
    def full(self) -> bool:
        """Whether requests stand in a queue: another would make all of them later."""
        with self._lock:
            return len(self._queues) == _ENOUGH and min(self._queues) >= _FEW

    def seconds_for(self, length: float) -> float:
        """How long so many bytes take behind those under way, at the rate at which bytes came lately."""
        with self._lock:
            rate = _SLOWEST
            if self._rate_seconds > 0:
                rate = min(rate, max(1.0, self._rate_bytes / self._rate_seconds))
            return (self._bytes + length) / rate

    def sent(self, length: int) -> Sent:
        """A request for so many bytes goes out; give what this returns to one of the next two."""
        with self._lock:
            now = clock.monotonic()
            if self._num == 0:
                self._mark = now
            self._num += 1
            self._bytes += length
            return Sent(length, now, self._num, self._turn)

    def gone(self, sent: Sent, *, overload: bool = False) -> None:
        """It was called off, or failed; ``overload``: since the store, or the way, had too much to do."""
        with self._lock:
            self._num -= 1
            self._bytes -= sent.length
            if overload and sent.turn == self._turn:
                self._shrink(self._limit // 2)

    def answered(self, sent: Sent) -> None:
        """It was answered, with all of its bytes."""
        with self._lock:
            now = clock.monotonic()
            self._num -= 1
            self._bytes -= sent.length
            self._rate_bytes = _FORGET * self._rate_bytes + sent.length
            self._rate_seconds = _FORGET * self._rate_seconds + now - self._mark
            self._rate_num = _FORGET * self._rate_num + 1.0
            self._mark = now
            if sent.length < _LIKE * self._rate_bytes / self._rate_num:
                return  # one recording among blocks: it takes another time
            seconds = max(now - sent.begun, 1e-9)
            if self._measuring:
                self._measure(sent, seconds, now)
            else:
                self._learn(sent, seconds, now)

    def _learn(self, sent: Sent, seconds: float, now: float) -> None:
        self._alone = min(self._alone, seconds)
        queue = sent.beside * (1.0 - _SLACK * self._alone / seconds)
        self._queues.append(queue)
        self._recent.append(seconds)
        if queue < _FEW:
            self._free_at = now
            self._too_many.clear()
            more = 2 * sent.beside if self._doubling else sent.beside + 1
            self._limit = min(self._most, max(self._limit, more))
            return
        self._doubling = False
        if queue > _MANY and sent.turn == self._turn:
            self._too_many.append(queue)
            if len(self._too_many) >= max(_ENOUGH, self._limit):
                self._shrink(self._limit - int(min(self._too_many)))
        if now - self._free_at > max(_STALE_SECONDS, _STALE_ANSWERS * seconds):
            self._before = self._limit, min(self._recent)
            self._shrink(1)
            self._measuring = True
            self._measured.clear()

    def _measure(self, sent: Sent, seconds: float, now: float) -> None:
        """See whether there is a queue, or answers have come to take that long, by another way maybe.

        Where others fill the way, fewer requests of ours make answers faster, too, if not as fast as alone.
        """
        if sent.turn != self._turn:
            return
        self._measured.append(seconds)
        if len(self._measured) < _ALONE:
            return
        limit, usual = self._before
        if min(self._measured) >= _NO_FASTER * usual:
            # Without slack: if it is others who fill the way, there is no more to be had by patience.
            self._alone, self._doubling = min(self._measured) / _SLACK, True
        else:
            self._limit = limit
        self._measuring, self._free_at = False, now
        self._queues.clear()

    def _shrink(self, limit: int) -> None:
        self._limit = max(1, limit)
        self._turn += 1
        self._doubling = False
        self._too_many.clear()
