"""Workers of recognition: what they are started with, and on cores of their own."""

import pytest

from hocket.hardware import libraries
from hocket.recognition.hosts import Hosts
from hocket.recognition.process import WorkerProcess, environment


def test_a_worker_gets_threads_and_allocator_and_hoards_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job goes from long to short: kernels of shapes that are past would only fill the memory."""
    for name in ("LD_PRELOAD", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"):
        monkeypatch.delenv(name, raising=False)
    found = environment(3)
    assert found["OMP_NUM_THREADS"] == "3"
    assert found.items() >= libraries.environment(3, sparing=True).items()
    assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in found


def test_workers_that_take_up_all_cores_get_their_own() -> None:
    hosts = Hosts(WorkerProcess, "cpu", 4, (0, 1, 6, 7))
    assert [hosts.pinned(slot, 4, 1) for slot in range(4)] == [(0,), (1,), (6,), (7,)]
    assert [hosts.pinned(slot, 2, 2) for slot in range(2)] == [(0, 1), (6, 7)]


def test_fewer_leave_other_jobs_their_cores() -> None:
    hosts = Hosts(WorkerProcess, "cpu", 4, (0, 1, 6, 7))
    assert {hosts.pinned(slot, 3, 1) for slot in range(3)} == {()}
    assert hosts.pinned(0, 5, 1) == ()
    assert Hosts(WorkerProcess, "cuda", 1, (0, 1)).pinned(0, 2, 1) == ()
