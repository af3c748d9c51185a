"""``--workers auto``: how many workers, and how large a micro-batch, by a short measurement.

A sample of the job's own pieces is recognised, with micro-batches of several sizes by one worker, then
with the best size by several workers at once. Nothing of it is kept but the choice, which the report
names together with what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hocket import batching
from hocket.core import clock
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP
from hocket.recognition.coordinator import Coordinator, Endurance
from hocket.recognition.messages import Done, Start
from hocket.recognition.plan import I64, MAX_UTTERANCES, Plan
from hocket.recognition.process import Worker, WorkerProcess
from hocket.recognition.report import JobProgress

BATCH_SECONDS = (10.0, 30.0, 60.0, 120.0)
"""Sizes that are tried, in padded seconds."""
_ROUNDS = 3
"""Micro-batches of each size that are measured."""
_WORTH = 1.03
"""A larger choice must be faster by this factor."""

Make = Callable[[int, int], Start]
"""What a worker at a place loads, where there are so many workers."""


@dataclass(frozen=True)
class Tuning:
    """What was chosen, and why."""

    workers: int
    batch_seconds: float
    speed_by_batch: dict[float, float]
    """Seconds of audio a second of one worker, by padded seconds of a micro-batch."""
    speed_by_workers: dict[int, float]
    """Seconds of audio a second of all workers, by their number."""

    def __str__(self) -> str:
        batches = ", ".join(f"{size:g} s {speed:.0f}" for size, speed in self.speed_by_batch.items())
        workers = ", ".join(f"{number}: {speed:.0f}" for number, speed in self.speed_by_workers.items())
        many = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return (
            f"{many} and micro-batches of {self.batch_seconds:g} s, by seconds of speech a second\n"
            f"of one worker with batches of {batches}\nof workers {workers}"
        )


def choose(
    plan: Plan,
    start: Make,
    batch_seconds: float | None,
    most: int,
    launch: Callable[[Start], Worker] = WorkerProcess,
) -> Tuning:
    """Measure on pieces of ``plan``, with ``most`` workers at most; ``batch_seconds`` is kept if given."""
    sizes = BATCH_SECONDS if batch_seconds is None else (batch_seconds,)
    speed_by_batch = _speeds_by_batch(plan, lambda slot: start(slot, 1), sizes, launch)
    best = sizes[0]
    for size in sizes[1:]:
        if speed_by_batch[size] > _WORTH * speed_by_batch[best]:
            best = size
    numbers = sorted({1, *(n for n in (2, most // 4, most // 2, most) if 1 < n <= most)})
    speed_by_workers: dict[int, float] = {}
    for number in numbers:
        parts = _sample(plan, best, _ROUNDS * number)
        if len(parts) < number:
            break
        speed_by_workers[number] = _speed(plan, parts, start, number, launch)
    workers = 1
    for number, speed in speed_by_workers.items():
        if speed > _WORTH * speed_by_workers[workers]:
            workers = number
    return Tuning(workers, best, speed_by_batch, speed_by_workers)


def _sample(plan: Plan, batch_seconds: float, num: int) -> list[I64]:
    """Up to ``num`` micro-batches of that size, evenly from the longest to the shortest."""
    readable = np.flatnonzero(plan.num_samples)
    max_frames = max(1, round(batch_seconds * SAMPLE_RATE / HOP))
    parts = batching.cut_by_budget(plan.num_frames[readable], max_frames, MAX_UTTERANCES)
    chosen = sorted({round(place) for place in np.linspace(0, len(parts) - 1, min(num, len(parts)))})
    return [readable[parts[number]] for number in chosen]


def _speeds_by_batch(
    plan: Plan, start: Callable[[int], Start], sizes: Sequence[float], launch: Callable[[Start], Worker]
) -> dict[float, float]:
    parts = {size: _sample(plan, size, _ROUNDS) for size in sizes}
    first = parts[sizes[0]][:1]  # to warm up: not counted
    together = first + [part for size in sizes for part in parts[size]]
    numbers = np.repeat(np.arange(len(sizes)), [len(parts[size]) for size in sizes]) + 1
    of = [0, *numbers.tolist()]
    audio, seconds = np.zeros(len(sizes) + 1), np.zeros(len(sizes) + 1)

    def record(done: Done) -> None:
        audio[of[done.number]] += plan.num_samples[together[done.number]].sum() / SAMPLE_RATE
        seconds[of[done.number]] += done.read_seconds + done.encode_seconds + done.decode_seconds

    order = [float(len(together) - number) for number in range(len(together))]  # as listed
    sample = replace(plan, micro_batches=tuple(together))
    Coordinator(sample, start, 1, order, record, Endurance(), launch=launch).run()
    return {size: float(audio[place] / seconds[place]) for place, size in enumerate(sizes, 1)}


def _speed(
    plan: Plan, parts: list[I64], start: Make, number: int, launch: Callable[[Start], Worker]
) -> float:
    """Seconds of audio a second, from the moment that all workers were ready."""
    ready: list[float] = []
    last = 0.0

    def observe(progress: JobProgress) -> None:
        nonlocal last
        last = clock.monotonic()
        if not ready and sum(worker.ready for worker in progress.workers) >= number:
            ready.append(last)

    def record(done: Done) -> None:
        del done

    costs = [float(plan.num_samples[part].sum()) for part in parts]
    outcome = Coordinator(
        *(replace(plan, micro_batches=tuple(parts)), lambda slot: start(slot, number), number, costs),
        *(record, Endurance(), observe),
        together=True,
        launch=launch,
    ).run()
    return outcome.audio_seconds / (last - ready[0]) if ready else 0.0
