"""Measuring a machine: what the system tells, how samples become figures, and reads past the cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from hocket.comms.communicator import ThreadedCommunicator, run_threads
from hocket.core.errors import RunError, UsageError
from hocket.hardware import host
from hocket.hardware.probing import ProbeSettings, assembly, launch, messages, probe, reading, summary
from hocket.hardware.probing.kernels import Reference, Triad, array_bytes
from hocket.hardware.probing.summary import Measured
from hocket.hardware.profile import Figure

CPU = torch.device("cpu")


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text + "\n")


def test_a_host_is_read_from_what_linux_says(tmp_path: Path) -> None:
    for core in range(4):
        base = f"sys/devices/system/cpu/cpu{core}"
        put(tmp_path, f"{base}/topology/thread_siblings_list", "0,2" if core % 2 == 0 else "1,3")
        for index, (level, kind, size, shared) in enumerate(
            [(1, "Data", "32K", f"{core}"), (2, "Unified", "1024K", f"{core}"), (3, "Unified", "32M", "0-3")]
        ):
            for name, value in (
                ("level", level),
                ("type", kind),
                ("size", size),
                ("shared_cpu_list", shared),
            ):
                put(tmp_path, f"{base}/cache/index{index}/{name}", str(value))
    put(tmp_path, "sys/devices/system/node/node0/cpulist", "0-1")
    put(tmp_path, "sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       1024 kB")
    put(tmp_path, "sys/devices/system/node/node1/cpulist", "2-3")
    put(tmp_path, "proc/cpuinfo", "processor : 0\nflags\t\t: fpu avx2 fma sse4_2 avx512_bf16")
    assert [(cache.level, cache.num_bytes, cache.count) for cache in host.caches(range(4), tmp_path)] == [
        (1, 32 * 2**10, 4),
        (2, 2**20, 4),
        (3, 32 * 2**20, 1),
    ]
    nodes = host.numa_nodes((0, 1, 2), tmp_path)
    assert [(node.cores, node.memory_bytes) for node in nodes] == [((0, 1), 2**20), ((2,), 0)]
    assert host.threads_per_core(range(4), tmp_path) == 2
    assert host.vector_units(tmp_path) == ("sse4_2", "avx2", "fma", "avx512_bf16")


def test_a_host_that_says_nothing_is_one_node_of_plain_cores(tmp_path: Path) -> None:
    assert host.caches((0, 1), tmp_path) == ()
    (node,) = host.numa_nodes((0, 1), tmp_path)
    assert node.cores == (0, 1)
    assert host.threads_per_core((0, 1), tmp_path) == 1
    assert host.file_system(tmp_path, tmp_path) == "unknown"


def test_memory_is_what_the_control_group_allows(tmp_path: Path) -> None:
    whole = host.memory_bytes(tmp_path)
    put(tmp_path, "sys/fs/cgroup/memory.max", "max")
    assert host.memory_bytes(tmp_path) == whole
    put(tmp_path, "sys/fs/cgroup/memory.max", "1000000")
    assert host.memory_bytes(tmp_path) == 1_000_000


def test_this_host_can_be_described() -> None:
    found = host.describe()
    assert found.cores == len(host.usable_cores()) >= 1
    assert sum(len(node.cores) for node in found.numa_nodes) == found.cores


def test_a_triad_is_of_arrays_that_no_cache_holds() -> None:
    assert array_bytes(CPU, 32 * 2**20, 2, 2**36) == 128 * 2**20
    assert array_bytes(CPU, 32 * 2**20, 64, 2**32) < 2**32 / (12 * 63)  # all together a quarter of memory
    assert 1e7 < Triad(CPU, 2**16).rate(0.001) < 1e14
    assert Reference().seconds() > 0


def test_a_line_is_found_again_through_sizes_of_five_orders() -> None:
    sizes = [1024.0 * 4**power for power in range(9)]
    seconds = [2e-4 + 7e-10 * size for size in sizes]
    assert messages.fit(sizes, seconds) == pytest.approx((2e-4, 7e-10))
    alpha, beta = messages.fit(sizes, [1e-9 * size for size in sizes])
    assert (alpha, beta) == (pytest.approx(0.0, abs=1e-8), pytest.approx(1e-9))
    alpha, beta = messages.fit(sizes, [1e-3 - 1e-13 * size for size in sizes])
    assert alpha > 0
    assert beta == 0.0


def test_the_worst_error_of_a_line_is_said() -> None:
    bent = [
        (1024, Figure(1e-4, 1e-4, 1e-4, 1)),
        (2**20, Figure(5e-3, 5e-3, 5e-3, 1)),
        (2**24, Figure(9e-3, 9e-3, 9e-3, 1)),
    ]
    found = messages.collective("all_reduce", 2, "gloo", list(reversed(bent)))
    assert [timing.num_bytes for timing in found.timings] == [1024, 2**20, 2**24]
    line = [found.alpha + found.beta * timing.num_bytes for timing in found.timings]
    assert found.worst_error == pytest.approx(
        max(abs(time / timing.seconds.median - 1) for time, timing in zip(line, found.timings, strict=True))
    )
    assert found.worst_error > 0.2


@pytest.mark.parametrize("operation", messages.OPERATIONS)
def test_operations_are_timed_on_all_ranks_alike(operation: messages.Operation) -> None:
    def work(ranks: ThreadedCommunicator) -> float:
        return messages.seconds_per_call(ranks, operation, 4096, CPU, 0.001)

    assert all(0 < seconds < 10 for seconds in run_threads(2, work))


def measured(samples: dict[str, Sequence[float]]) -> Measured:
    return Measured(samples, [1.0], 2, "cpu")


def test_samples_of_ranks_become_one_figure() -> None:
    ranks = [
        measured(
            {
                "memory/all": [10.0, 12.0],
                "product/cpu/fp32/square/together": [4.0, 6.0],
                "message/p2p/2/1024": [1.0, 5.0],
            }
        ),
        measured(
            {
                "memory/all": [20.0, 22.0],
                "product/cpu/fp32/square/together": [2.0, 2.0],
                "message/p2p/2/1024": [3.0, 1.0],
            }
        ),
    ]
    ranks[0].samples["memory/one"] = [7.0, 9.0]  # type: ignore[index]
    assert summary.figure(ranks, "memory/one") == Figure.of([7.0, 9.0])
    assert summary.figure(ranks, "memory/all") == Figure.of([30.0, 34.0])  # what they share adds up
    assert summary.figure(ranks, "product/cpu/fp32/square/together") == Figure.of([3.0, 4.0])  # each of them
    assert summary.figure(ranks, "message/p2p/2/1024") == Figure.of([3.0, 5.0])  # the slower one
    assert summary.figure(ranks, "copy/none") is None


def test_a_machine_is_noisy_when_the_same_product_takes_different_times() -> None:
    steady, noisy = summary.steadiness([1.0] * 95 + [9.0] * 5)
    assert (steady.low, steady.high, noisy) == (1.0, 1.0, False)  # a few hiccups are no noise
    unsteady, noisy = summary.steadiness([1.0] * 60 + [1.5] * 40)
    assert (unsteady.high, noisy) == (1.5, True)


@pytest.mark.parametrize("how", ["O_DIRECT", "posix_fadvise"])
def test_readers_read_their_own_part_and_no_more(how: reading.ColdBy, tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    reading.write_file(path, 8 * 2**20)
    assert path.stat().st_size == 8 * 2**20
    if how == "O_DIRECT" and reading.cold_by(path) != how:
        pytest.skip("this file system refuses O_DIRECT")
    places: list[int] = []
    real = os.preadv

    def noted(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        places.append(offset)
        return real(descriptor, buffers, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading.os, "preadv", noted)
        for pattern in reading.PATTERNS:
            for warm in (False, True):
                reader = reading.Reader(path, 1, 2, how)
                assert reader.rate(pattern, warm, 0.002) > 0
    assert set(places) <= set(range(4 * 2**20, 8 * 2**20, reading.REQUEST["random"]))


def test_short_probes_send_and_read_less(tmp_path: Path) -> None:
    long, short = (ProbeSettings(2, tmp_path, seconds=seconds) for seconds in (75.0, 2.0))
    assert long.message_sizes()[-1] == 64 * 2**20
    assert short.message_sizes()[-1] == 4 * 2**20
    assert short.most_file_bytes() < long.most_file_bytes() == 256 * 2**20
    short.write(tmp_path / "settings.json")
    assert ProbeSettings.read(tmp_path / "settings.json") == short


def test_what_cannot_be_probed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="at least one worker"):
        probe(ProbeSettings(0, tmp_path))
    with pytest.raises(UsageError, match="no such folder"):
        probe(ProbeSettings(1, tmp_path / "none"))
    monkeypatch.setattr(launch, "_run", lambda *_: (_ for _ in ()).throw(RunError("a worker fell")))
    with pytest.raises(RunError, match="fell"):
        probe(ProbeSettings(1, tmp_path, seconds=0.5))
    assert list(tmp_path.iterdir()) == []  # nothing is left of it


def test_notes_say_what_was_not_measured(tmp_path: Path) -> None:
    steady = Figure(1.0, 1.0, 1.0, 9)
    notes = list(assembly.notes(ProbeSettings(1, tmp_path), True, Figure(1.0, 0.9, 1.4, 9), "tmpfs"))
    assert "noisy" in notes[0]
    assert "0.90 to 1.40" in notes[0]
    assert any("no messages" in note for note in notes)
    assert any("in memory (tmpfs)" in note for note in notes)
    many = list(assembly.notes(ProbeSettings(10_000, tmp_path), False, steady, "ext4"))
    assert "waited for each other" in many[0]
