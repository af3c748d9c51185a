"""Asking a store: late answers, second requests, and when to stop."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from hocket.core import clock
from hocket.core.errors import CorpusError
from hocket.corpus.storage.fetching import Fetcher
from hocket.corpus.storage.meter import Meter
from hocket.corpus.storage.stores import FolderStore


class Silent:
    """A store whose requests are answered by the test."""

    address, remote = "silent", True

    def __init__(self, answers: list[bytes | None]) -> None:
        self.answers, self.asked = answers, []  # type: ignore[var-annotated]

    def request(self, name: str, first: int, length: int) -> Future[bytes]:
        promise: Future[bytes] = Future()
        self.asked.append(promise)
        answer = self.answers[len(self.asked) - 1]
        if answer is not None:
            promise.set_result(answer)
        return promise

    def size(self, name: str) -> Future[int]:
        promise: Future[int] = Future()
        promise.set_result(100)
        return promise

    def whole(self, name: str) -> Future[bytes]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def _fetcher(store: Silent, meter: Meter, hedge: bool = True, **patience: float) -> Fetcher:
    given = {"timeout_seconds": 0.3, "give_up_seconds": 60.0, **patience}
    return Fetcher(store, meter, requests=8, hedge=hedge, **given)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes while somebody waits for what does not come, and never else."""
    now = [0.0]

    def passes(answers: list[Future[bytes]], timeout: float, **_: object) -> None:
        if not any(answer.done() for answer in answers):
            now[0] += timeout + 1e-6  # rounding must not make it stand still

    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr("hocket.corpus.storage.fetching.wait", passes)
    return now


def test_a_late_answer_is_asked_for_a_second_time(patient: list[float]) -> None:
    meter, store = Meter(), Silent([None, b"right"])
    for _ in range(40):
        meter.answered(0.001)
    assert _fetcher(store, meter).fetch("x", 100, 0, 5, lambda data: []) == (b"right", [])
    assert store.asked[0].cancelled()
    assert (meter.total.requests, meter.total.hedged_bytes, meter.total.retries) == (2, 5, 0)


def test_second_requests_are_rare(patient: list[float]) -> None:
    meter, store = Meter(), Silent([None, b"right", None, b"right"])
    for _ in range(40):
        meter.answered(0.001)
    fetcher = _fetcher(store, meter)
    for _ in range(2):
        fetcher.fetch("x", 100, 0, 5, lambda data: [])
    assert meter.total.hedged_bytes == 5
    assert meter.total.retries == 1


def test_what_is_damaged_three_times_is_damaged() -> None:
    meter, store = Meter(), Silent([b"wrong"] * 3)
    assert _fetcher(store, meter).fetch("x", 100, 0, 5, lambda data: [7]) == (b"wrong", [7])
    assert meter.total.damaged == 3


def test_damage_is_found_by_a_slow_store_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    meter, store = Meter(), Silent([b"wrong"] * 3)

    def look(data: bytes) -> list[int]:
        now[0] += 100.0  # it took longer than anybody waits for nothing
        return [7]

    assert _fetcher(store, meter).fetch("x", 100, 0, 5, look) == (b"wrong", [7])
    assert meter.total.damaged == 3


def test_a_file_of_another_size_is_named() -> None:
    store = Silent([b"sh", b"sh", b"sh"])
    with pytest.raises(CorpusError, match="x has 100 bytes, 120 were written"):
        _fetcher(store, Meter()).fetch("x", 120, 0, 5, lambda data: [])
    assert len(store.asked) == 2


def test_who_is_stopped_waits_no_longer() -> None:
    fetcher = _fetcher(Silent([b"sh"] * 9), Meter())
    fetcher.stop()
    with pytest.raises(CorpusError, match="was ended"):
        fetcher.fetch("x", 100, 0, 5, lambda data: [])


def test_who_waits_for_an_answer_is_woken() -> None:
    store = Silent([None])
    fetcher = _fetcher(store, Meter(), timeout_seconds=600.0, give_up_seconds=600.0)
    found: list[BaseException] = []

    def read() -> None:
        try:
            fetcher.fetch("x", 100, 0, 5, lambda data: [])
        except CorpusError as error:
            found.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while not store.asked:
        pass
    fetcher.stop()
    reader.join(60)
    assert found and "was ended" in str(found[0])
    assert store.asked[0].cancelled()


def test_a_silent_store_is_given_up_in_time(patient: list[float]) -> None:
    fetcher = _fetcher(Silent([None] * 9), Meter(), timeout_seconds=20.0, give_up_seconds=180.0)
    with pytest.raises(CorpusError, match=r"not be read for 180 s.*no answer in"):
        fetcher.fetch("x", 100, 0, 5, lambda data: [])
    assert 180 <= patient[0] <= 180 + 20 + 20 + 15  # the last try, a look at the size, and a pause


def test_patience_may_be_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hocket.corpus.storage.fetching.wait", lambda *_, **__: None)
    answers = [b"sh"] * 1100 + [b"right"]
    fetcher = _fetcher(Silent(answers), Meter(), give_up_seconds=1e9)
    assert fetcher.fetch("x", 100, 0, 5, lambda data: []) == (b"right", [])


def test_a_folder_is_read_in_parts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(range(100)))
    store = FolderStore(tmp_path, 2)
    assert store.request("a/b", 10, 5).result() == bytes(range(10, 15))
    assert store.request("a/b", 98, 5).result() == bytes([98, 99])
    assert store.size("a/b").result() == 100
    with pytest.raises(FileNotFoundError):
        store.request("gone", 0, 1).result()
    store.close()
