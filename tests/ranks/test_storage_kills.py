"""Several processes on one cache, killed at any moment: nothing wrong, locked or forgotten is left."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from hocket.corpus.block_cache import BlockCache

_BLOCKS, _ROOM, _KILLS = 40, 200_000, 12


def _block(number: int) -> bytes:
    """A block of some thousands of bytes that follow from its number."""
    return random.Random(number).randbytes(6_000 + 500 * (number % 9))


def _use(folder: Path, seed: int, wrong: Any, turns: Any) -> None:
    """Take blocks out of the cache and put missing ones there, in an order of its own, without end."""
    draw = random.Random(seed)
    known = {number: zlib.crc32(_block(number)) for number in range(_BLOCKS)}
    step = [0.0]
    place = {number: draw.random() for number in range(_BLOCKS)}

    def uses(blocks: Any) -> Any:
        return np.asarray([step[0] + 1 + place[int(block)] for block in blocks])

    shelf = BlockCache(folder, _ROOM).shelf("train-1", _BLOCKS, lambda: step[0], uses)
    while True:
        number = draw.randrange(_BLOCKS)
        step[0] += 1
        place[number] = draw.random()
        data = shelf.get(number)
        if data is None:
            with shelf.fetching(number, 5.0):
                shelf.put(number, _block(number))
        elif zlib.crc32(data) != known[number]:
            wrong.value += 1
        turns.value += 1


def test_a_cache_survives_its_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    wrong = context.RawValue("i", 0)
    counters = [context.RawValue("i", 0) for _ in range(4)]
    draw = random.Random(1)

    def start(number: int, seed: int) -> Any:
        process = context.Process(target=_use, args=(tmp_path, seed, wrong, counters[number]), daemon=True)
        process.start()
        return process

    workers = [start(number, number) for number in range(4)]
    try:
        for kill in range(_KILLS):
            number = kill % 4
            begun = counters[number].value
            while counters[number].value < begun + 5:  # it is at work
                assert workers[number].is_alive()
                time.sleep(0.001)
            time.sleep(draw.random() * 0.01)
            os.kill(workers[number].pid, signal.SIGKILL)
            workers[number].join()
            workers[number] = start(number, 100 + kill)
        before = [counter.value for counter in counters]
        deadline = time.monotonic() + 60
        while any(counter.value < old + 20 for counter, old in zip(counters, before, strict=True)):
            assert time.monotonic() < deadline, "a lock is left"
            time.sleep(0.01)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    assert wrong.value == 0
    cache = BlockCache(tmp_path, _ROOM)
    shelf = cache.shelf("train-1", _BLOCKS, lambda: 0.0, None)
    with cache._alone() as mine:  # what the next change would begin with
        assert mine
    files = {int(path.name): path for path in shelf.folder.glob("??/*")}
    assert cache.num_bytes == sum(path.stat().st_size for path in files.values()) <= _ROOM
    assert set(np.flatnonzero(shelf.present).tolist()) == set(files)
    assert files
    for number, path in files.items():
        assert path.read_bytes() == _block(number)
    with shelf.fetching(3, 0.0) as mine:
        assert mine
    cache.close()
