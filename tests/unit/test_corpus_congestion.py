"""How many requests go beside each other, over ways that are simulated and over one that is not."""

from __future__ import annotations

import random
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from corpora import spoken_table
from faulty_store import serving
from hocket.core import clock
from hocket.corpus.index import CorpusIndex
from hocket.corpus.prepare import PrepareSettings, prepare
from hocket.corpus.storage.congestion import Sent, Window
from hocket.corpus.storage.fetching import Fetcher
from hocket.corpus.storage.meter import Meter
from hocket.corpus.storage.shard_source import StorageSettings
from hocket.studies.storage import read_pass

MOST, LENGTH = 8, 1_250_000


@dataclass
class Way:
    """One answer after another at a rate, each after a delay of its own, none faster than ``each``."""

    rate: float
    delay: float = 0.04
    each: float = 1e12
    spread: float = 0.0
    """Of the logarithm of the delay."""
    windows: list[Window] = field(default_factory=list)
    now: float = 0.0
    free_at: float = 0.0
    seconds: list[float] = field(default_factory=list)
    most_at_once: int = 0
    running: list[tuple[float, int, Sent]] = field(default_factory=list)
    """When each ends, whose it is, and what its window made of it."""
    draws: random.Random = field(default_factory=lambda: random.Random(5))

    def answer(self, count: int) -> float:
        """Let so many requests be answered, every worker asking for as much as it may; seconds that took."""
        begun = self.now
        for _ in range(count):
            for number, window in enumerate(self.windows):
                while sum(whose == number for _, whose, _ in self.running) < window.limit:
                    self._ask(number)
            self.most_at_once = max(self.most_at_once, len(self.running))
            first = min(self.running, key=lambda one: one[0])
            self.running.remove(first)
            self.now, whose, sent = first
            self.seconds.append(self.now - sent.begun)
            self.windows[whose].answered(sent)
        return self.now - begun

    def _ask(self, number: int) -> None:
        begins = self.now + self.delay * self.draws.lognormvariate(0.0, self.spread)
        self.free_at = max(self.free_at, begins) + LENGTH / self.rate
        sent = self.windows[number].sent(LENGTH)
        self.running.append((max(self.free_at, begins + LENGTH / self.each), number, sent))


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Way:
    made = Way(rate=5e5)
    monkeypatch.setattr(clock, "monotonic", lambda: made.now)
    made.windows = [Window(MOST)]
    return made


def test_a_narrow_way_is_full_and_no_fuller(way: Way) -> None:
    took = way.answer(100)
    assert took <= 100 * LENGTH / way.rate / 0.95
    assert way.most_at_once <= 4
    assert max(way.seconds) <= 4 * LENGTH / way.rate + way.delay
    took = way.answer(600)  # and stays so, though it is measured anew now and then
    assert took <= 600 * LENGTH / way.rate / 0.95
    assert way.most_at_once <= 4


def test_a_wide_way_is_filled_at_once(way: Way) -> None:
    way.rate = 25e6
    took = way.answer(40)
    assert took <= 40 * LENGTH / way.rate + 3 * way.delay
    assert way.windows[0].limit >= 2


def test_where_more_requests_bring_more_all_are_sent(way: Way) -> None:
    way.rate, way.each, way.delay = 1e12, 50e6, 0.1
    way.answer(12)
    assert way.windows[0].limit == MOST


def test_answers_that_vary_are_not_taken_for_a_queue(way: Way) -> None:
    way.rate, way.each, way.delay, way.spread = 1e12, 50e6, 0.1, 0.4
    way.answer(100)
    limits = []
    for _ in range(300):
        way.answer(1)
        limits.append(way.windows[0].limit)
    assert sum(limits) / len(limits) >= MOST / 2


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_share_a_narrow_way(way: Way, workers: int) -> None:
    way.windows = [Window(MOST) for _ in range(workers)]
    took = way.answer(300 * workers)
    assert took <= 300 * workers * LENGTH / way.rate / 0.95
    assert way.most_at_once <= 5 * workers


def test_a_way_that_becomes_narrow_and_wide_again(way: Way) -> None:
    way.rate, way.delay = 25e6, 0.4
    way.answer(60)
    assert way.windows[0].limit == MOST
    way.rate, way.delay = 5e5, 0.04
    way.answer(60)
    assert way.windows[0].limit <= 3
    way.rate, way.delay = 25e6, 0.4
    way.answer(80)
    assert way.windows[0].limit == MOST


def test_what_is_late_halves_what_is_sent_once(way: Way) -> None:
    way.rate, way.each = 1e12, 50e6
    way.answer(20)
    (window,) = way.windows
    late = [sent for _, _, sent in way.running]
    assert len(late) >= 6 and window.limit == MOST
    for sent in late:
        window.gone(sent, overload=True)
    assert window.limit == MOST // 2


def test_patience_is_for_what_is_under_way(way: Way) -> None:
    (window,) = way.windows
    assert window.seconds_for(1e6) == 1.0  # nothing is known
    way.answer(40)
    first = window.sent(LENGTH)
    rate = 5e5
    waiting = (len(way.running) + 2) * LENGTH / rate
    assert window.seconds_for(LENGTH) == pytest.approx(waiting, rel=0.05)
    window.gone(first)
    for _, _, sent in way.running:
        window.gone(sent)
    assert window.seconds_for(LENGTH) == pytest.approx(LENGTH / rate, rel=0.05)


class Silent:
    """A store that answers nothing of itself."""

    address, remote = "silent", True

    def __init__(self) -> None:
        self.asked: list[Future[bytes]] = []

    def request(self, name: str, first: int, length: int) -> Future[bytes]:
        self.asked.append(Future())
        return self.asked[-1]

    def size(self, name: str) -> Future[int]:
        raise NotImplementedError

    def whole(self, name: str) -> Future[bytes]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def test_nothing_is_asked_for_twice_where_the_way_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    meter, store = Meter(), Silent()
    fetcher = Fetcher(store, meter, requests=8, timeout_seconds=50.0, give_up_seconds=60.0, hedge=True)

    def passes(answers: list[Future[bytes]], timeout: float, **_: object) -> None:
        now[0] += min(timeout, 20.0)
        if now[0] - begun >= 20.0:
            store.asked[-1].set_result(bytes(100))

    monkeypatch.setattr("hocket.corpus.storage.fetching.wait", passes)
    meter.add(fetched_bytes=1e6)
    for _ in range(40):
        meter.answered(1.0)
    window, under_way = fetcher.window, list[Sent]()
    for full in (False, True, False):
        while under_way:
            window.gone(under_way.pop())
        for _ in range(30):
            under_way.append(window.sent(100))
            now[0] += 1.0
            if not full or len(under_way) == 4:
                window.answered(under_way.pop(0))
        assert window.full == full
        begun, hedged = now[0], meter.total.hedged_bytes
        fetcher.fetch("x", 100, 0, 100, lambda data: [])
        assert meter.total.hedged_bytes == hedged + (0 if full else 100)


def test_a_narrow_way_over_http_brings_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = str(spoken_table(tmp_path / "source", 40))
    one_each = PrepareSettings(dev_fraction=0, block_size=1, shards=True, shard_mb=4, workers=1)
    prepare(table, tmp_path / "shards", settings=one_each)
    index = CorpusIndex.open(tmp_path / "shards", "train")
    assert index.places is not None
    size = int(index.places.block_length.sum())
    settings = StorageSettings(
        cache=tmp_path / "cache", requests=16, timeout_seconds=0.2, give_up_seconds=60.0, hedge=False
    )
    with serving(tmp_path / "shards") as server:
        server.rate = rate = size / 3
        sent_before: list[int] = []

        def look(path: str, number: int) -> None:
            sent_before.append(server.num_sent)

        server.fault = look
        # What is late is told by what the server sent meanwhile, however busy this machine is.
        monkeypatch.setattr(clock, "monotonic", lambda: server.num_sent / rate)
        one = read_pass(index, server.address, settings)
        asked, at_once = server.num_bytes, server.most_at_once
    assert (one.utterances, one.fetched_bytes) == (len(index), size)
    assert asked == size
    assert 2 <= at_once <= 8
    # At first one block is read ahead, beside one that is needed: others follow the first answer.
    assert sent_before[2] >= index.places.block_length.min()
