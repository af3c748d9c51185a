"""How fast some workers recognise: micro-batches dealt to who is free, and utterances that wait in line."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log

from hocket.model.config import ModelConfig
from hocket.planning.candidate import Crowding
from hocket.planning.recognizing.rates import RecognitionRates, Way
from hocket.planning.recognizing.speech import Part, Speech

_LATE = 0.01
"""Of utterances may wait longer than what is called their latency."""
_MANY = 50
"""Pieces of work for each worker: so many end together, and need not be dealt one by one."""


ALONE = Crowding()
"""Devices that do not slow each other down."""


@dataclass(frozen=True)
class Site:
    """Hosts that are alike, as far as recognition needs to know them."""

    name: str
    rates: RecognitionRates
    per_host: int
    """Devices of a host; of processors, usable cores. One is one worker's."""
    num_devices: int | None
    """None: as many as are needed."""
    device: str
    """``cpu`` or ``cuda``."""
    memory_bytes: float
    """Of a device; of processors, the share of the host's memory that falls to a core."""
    base_bytes: float
    """What a worker takes beside its tensors."""
    reading: float
    """Seconds of a core for a second of audio: to read it and to compute features."""
    readers: int | None = None
    """Cores of the host for each device that is no core itself; None where nobody says."""
    crowding: Crowding = ALONE
    price_per_hour: float | None = None
    """Of a device, in dollars."""
    watts: float | None = None
    lacking: Mapping[Way, str] | None = None
    """Ways that cannot be had here, and why."""

    @property
    def unit(self) -> str:
        """What a worker runs on, in words."""
        return "core" if self.device == "cpu" else "device"

    def hosts_of(self, workers: int) -> int:
        """Hosts that so many workers fill, one to a device."""
        return -(-workers // self.per_host)

    def busy_rates(self, workers: int) -> RecognitionRates:
        """The rates while so many workers compute."""
        busy = min(workers, self.per_host)
        if self.per_host == 1 or busy == 1:
            return self.rates
        share = (busy - 1) / (self.per_host - 1)
        crowding = self.crowding
        return self.rates.slowed(
            replace(
                crowding,
                arithmetic=1 + (crowding.arithmetic - 1) * share,
                memory=1 + (crowding.memory - 1) * share,
            )
        )


@dataclass(frozen=True)
class Throughput:
    """Of all workers together."""

    rtfx: float
    """Seconds of speech in a second, once workers are ready."""
    job_seconds: float | None
    """Of all speech, from the command to the last transcript; None where it never ends."""
    by_kind: Mapping[str, float]
    """Seconds of one worker for a second of speech: ``encoder``, ``reading`` that shows."""


@dataclass(frozen=True)
class Latency:
    """From the end of an utterance that is in memory to its text, each recognised by itself."""

    service: float
    """Seconds of a long one (of a hundred, one is longer) when a worker is free."""
    waiting: float
    """Seconds that one of a hundred waits longer than for a worker to be free."""
    busy: float
    """Share of the workers' time."""

    @property
    def seconds(self) -> float:
        """Both."""
        return self.service + self.waiting


def throughput(
    config: ModelConfig, speech: Speech, site: Site, way: Way, batch_seconds: float, workers: int
) -> Throughput:
    """Forecast of a job of ``workers`` with micro-batches of ``batch_seconds`` of padded audio."""
    rates, parts = site.busy_rates(workers), speech.cut(batch_seconds)
    encoder = [rates.seconds(config, way, part.rows, part.frames) for part in parts]
    reading = [_reading_shows(site, workers, part, taken) for part, taken in zip(parts, encoder, strict=True)]
    audio = sum(part.audio_seconds * part.times for part in parts)
    by_kind = {
        name: sum(taken * part.times for taken, part in zip(each, parts, strict=True)) / audio
        for name, each in (("encoder", encoder), ("reading", reading))
    }
    job = None
    if speech.hours is not None:
        seconds = [one + other for one, other in zip(encoder, reading, strict=True)]
        job = site.rates.starting + makespan(seconds, [part.times for part in parts], workers)
        steady = audio / (job - site.rates.starting)
    else:
        steady = workers / sum(by_kind.values())
    return Throughput(steady, job, by_kind)


def _reading_shows(site: Site, workers: int, part: Part, encoder: float) -> float:
    """Seconds of a micro-batch's reading that no computing hides.

    A worker reads the next one while it computes; where workers are pinned to all cores both have one core.
    """
    reading = site.reading * part.audio_seconds
    if site.device == "cpu":
        alone = 2 * min(workers, site.per_host) <= site.per_host
        return max(0.0, reading - encoder) if alone else reading
    return 0.0 if site.readers is None else max(0.0, reading / site.readers - encoder)


def makespan(seconds: Sequence[float], times: Sequence[int], workers: int) -> float:
    """When the last worker is done, of pieces of work that are taken in order by who is free first."""
    total = sum(taken * number for taken, number in zip(seconds, times, strict=True))
    if sum(times) > _MANY * workers:
        return total / workers + seconds[-1] * (1 - 1 / workers) / 2
    free = [0.0] * workers
    for taken, number in zip(seconds, times, strict=True):
        for _ in range(number):
            heapq.heapreplace(free, free[0] + taken)
    return max(free)


def latency(
    config: ModelConfig, speech: Speech, site: Site, way: Way, workers: int, rtfx: float
) -> Latency | None:
    """When ``rtfx`` seconds of speech come in a second, one utterance after the other at random moments.

    None where workers cannot keep up. Waiting is that of a queue with Erlang's C and its exponential tail,
    times the mean of 1 and the squared variation of service, as Lee and Longton (1959) have it.
    """
    rates = site.busy_rates(workers)
    taken = sorted(
        rates.seconds(config, way, 1, part.frames) + site.reading * part.audio_seconds
        for part in speech.one_by_one
    )
    service = taken[min(len(taken) - 1, round((1 - _LATE) * len(taken)))]
    mean = sum(taken) / len(taken)
    load = rtfx / speech.mean_seconds * mean
    if load >= workers:
        return None
    variation = sum((each / mean - 1) ** 2 for each in taken) / len(taken)
    waits = _erlang_c(load, workers)
    tail = log(waits / _LATE) / ((workers - load) / mean) if waits > _LATE else 0.0
    return Latency(service, tail * (1 + variation) / 2, load / workers)


def _erlang_c(load: float, workers: int) -> float:
    """Probability that all workers are busy, by way of Erlang's B, which never overflows."""
    if load <= 0:
        return 0.0
    blocked = 1.0
    for number in range(1, workers + 1):
        blocked = load * blocked / (number + load * blocked)
    return workers * blocked / (workers - load * (1 - blocked))
