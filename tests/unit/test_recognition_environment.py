"""Workers of recognition are started with what workers of training are."""

import pytest

from hocket.hardware import libraries
from hocket.recognition.process import environment


def test_a_worker_gets_threads_allocator_and_kernel_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LD_PRELOAD", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"):
        monkeypatch.delenv(name, raising=False)
    found = environment(3)
    assert found["OMP_NUM_THREADS"] == "3"
    assert found.items() >= libraries.environment(3).items()
    assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" in found
