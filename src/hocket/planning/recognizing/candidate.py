"""What is wanted of recognition, the ways to have it, and what a search finds."""

from __future__ import annotations

from dataclasses import dataclass

from hocket.planning.objective import Objective, Refused
from hocket.planning.recognizing.forecast import Latency, Site, Throughput
from hocket.planning.recognizing.memory import WorkerMemory
from hocket.planning.recognizing.rates import Way


@dataclass(frozen=True)
class Goal:
    """What is wanted; what is None does not matter."""

    rtfx: float | None = None
    """Seconds of speech in a second."""
    job_seconds: float | None = None
    """For all speech, from the command to the last transcript."""
    latency: float | None = None
    """Seconds, of 99 utterances of 100."""
    budget: float | None = None
    """Dollars: of the job where its hours are known, else of an hour."""

    @property
    def is_fast(self) -> bool:
        """Some speed is wanted: then the least that reaches it is best."""
        return self.rtfx is not None or self.job_seconds is not None or self.latency is not None


@dataclass(frozen=True)
class Candidate:
    """A way to recognise."""

    site: Site
    way: Way
    batch_seconds: float | None
    """None: every utterance by itself, for the least latency."""
    workers: int

    def __str__(self) -> str:
        """In one line."""
        many = "1 worker" if self.workers == 1 else f"{self.workers:,} workers"
        return f"{self.way}, {batch_words(self.batch_seconds)}, {many} on {self.site.name}"


def batch_words(batch_seconds: float | None) -> str:
    """``60 s``, or ``one by one``."""
    return "one by one" if batch_seconds is None else f"{batch_seconds:g} s"


@dataclass(frozen=True)
class Ranked:
    """A candidate that does what is wanted, and its forecast."""

    candidate: Candidate
    throughput: Throughput
    latency: Latency | None
    """Of utterances one by one; None where micro-batches of several are asked for."""
    memory: WorkerMemory
    dollars_an_hour: float | None
    """Of all workers' devices; None where they have no price."""
    dollars: float | None
    """Of the job, where its hours and a price are known."""
    dollars_per_1000_hours: float | None
    """Of speech."""
    watts: float | None

    def value(self, objective: Objective, goal: Goal) -> float:
        """What is to be small: where a speed is wanted what it costs, in dollars or else in devices.

        That is of the job where its length is known, and of an hour where it never ends. Otherwise seconds,
        dollars or energy of the job, or of a second of speech.
        """
        if goal.is_fast and objective == "time":
            an_hour = self.candidate.workers if self.dollars_an_hour is None else self.dollars_an_hour
            return an_hour * (self.throughput.job_seconds or 1.0)
        seconds = self.throughput.job_seconds or 1 / self.throughput.rtfx
        if objective == "time":
            return seconds
        each = self.dollars_an_hour if objective == "cost" else self.watts
        assert each is not None
        return each * seconds


@dataclass(frozen=True)
class Found:
    """All of a search, the best first."""

    objective: Objective
    goal: Goal
    ranked: tuple[Ranked, ...]
    refused: tuple[Refused[Candidate], ...]
    chosen: Ranked

    @property
    def by_way(self) -> tuple[Ranked, ...]:
        """The best of each way and place, the best first."""
        best: dict[tuple[str, Way], Ranked] = {}
        for each in self.ranked:
            best.setdefault((each.candidate.site.name, each.candidate.way), each)
        best[self.chosen.candidate.site.name, self.chosen.candidate.way] = self.chosen
        return tuple(best.values())
