"""The workers that are there: their processes, their lines, and what they answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hocket.comms.wire import Line, Message
from hocket.core.errors import WorkerLost
from hocket.training.leased.crew import Elsewhere, Process
from hocket.training.leased.keepers import Member

TRY_AGAIN_SECONDS = 0.5
"""Between two tries of a worker to reach the others."""


class Trouble:
    """A worker cannot reach a shard. Times are in seconds.

    The shard may be alive, or gone without the supervisor knowing it yet: so the worker tries again for
    some time before it is given up itself.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._again: float | None = None

    def begin(self, now: float) -> float:
        """It said so, perhaps again; for how long it has lasted."""
        self._since = now if self._since is None else self._since
        self._again = now + TRY_AGAIN_SECONDS
        return now - self._since

    def waits(self, now: float) -> bool:
        """True until the worker should try again."""
        return self._again is not None and now < self._again

    @property
    def due(self) -> bool:
        """True until the worker was told to try again."""
        return self._again is not None

    def told(self) -> None:
        """It tries again."""
        self._again = None

    def end(self) -> None:
        """It has done work since, or all begin anew."""
        self._since = self._again = None


class Worker:
    """A worker, from its start to its loss."""

    def __init__(self, rank: int, process: Process | Elsewhere) -> None:
        self.rank, self.process = rank, process
        self.line: Line | None = None
        self.address: tuple[str, int] | None = None
        self.ready = False
        self.trouble = Trouble()

    def send(self, kind: str, tensors: Any = (), **facts: Any) -> None:
        """Say something; to a worker that is gone it is lost, which its line tells."""
        if self.line is not None:
            try:
                self.line.send(kind, tensors, **facts)
            except WorkerLost:
                return


class Roster:
    """All workers by rank; one that is lost is taken off it."""

    def __init__(self) -> None:
        self._workers: dict[int, Worker] = {}
        self._answers: dict[tuple[int, str], Message] = {}

    def __len__(self) -> int:
        return len(self._workers)

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._workers.values()))

    def add(self, worker: Worker) -> None:
        """It was started."""
        self._workers[worker.rank] = worker

    def remove(self, worker: Worker) -> None:
        """It is lost: end its line."""
        if worker.line is not None:
            worker.line.close()
        del self._workers[worker.rank]

    def get(self, rank: int) -> Worker | None:
        """The worker of that rank, unless it is lost."""
        return self._workers.get(rank)

    def at(self, line: Line) -> Worker | None:
        """Whose line it is."""
        return next((each for each in self._workers.values() if each.line is line), None)

    def members(self) -> list[Member]:
        """Those that are ready, by rank."""
        return [worker for _, worker in sorted(self._workers.items()) if worker.ready]

    @property
    def laggard(self) -> Worker | None:
        """One that is not ready yet."""
        return next((worker for worker in self._workers.values() if not worker.ready), None)

    def forget_answers(self) -> None:
        """What was answered before does not count."""
        self._answers.clear()

    def keep_answer(self, worker: Worker, message: Message) -> None:
        """A worker answered."""
        self._answers[worker.rank, message.kind] = message

    def lacks(self, ranks: Sequence[int], kind: str) -> bool:
        """True while one of these, if it is still there, owes an answer."""
        return any(rank in self._workers and (rank, kind) not in self._answers for rank in ranks)

    def answers(self, ranks: Sequence[int], kind: str) -> list[Message]:
        """Of those that are still there, by rank."""
        return [self._answers[rank, kind] for rank in ranks if rank in self._workers]

    def end(self) -> None:
        """Tell all that it is over, and wait for their ends."""
        for worker in self._workers.values():
            worker.send("end")
        for worker in self._workers.values():
            worker.process.end(patience=5.0 if worker.ready else 0.0)
