"""Where the supervisor listens: to its workers, and for its keeper to those who hold weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from hocket.comms.wire import Message
from hocket.core import clock
from hocket.core.errors import HocketError, RunError
from hocket.training.folder import RunFolder
from hocket.training.leased.crew import Heard, Switchboard
from hocket.training.leased.keepers import Keeper, Member
from hocket.training.leased.roster import Roster, Worker
from hocket.training.leased.state import Template

TICK_SECONDS = 0.2


class Course(Protocol):
    """What the supervisor makes of what is heard."""

    def done(self, worker: Worker, facts: dict[str, Any]) -> None:
        """A worker has done a part of a step."""
        ...

    def trouble(self, worker: Worker, facts: dict[str, Any]) -> None:
        """A worker cannot reach somebody."""
        ...

    def lose(self, worker: Worker, why: str) -> None:
        """A worker is gone."""
        ...

    def updated(self, step: int, norm: float | None, skipped: bool) -> None:
        """An update of the weights was made, of the whole step."""
        ...

    def settle(self) -> None:
        """All that has come in was heard."""
        ...


class Desk:
    """The supervisor as keepers see it: :class:`hocket.training.leased.keepers.Hub`."""

    def __init__(
        self, folder: RunFolder, keeper: Keeper, switchboard: Switchboard, template: Template, course: Course
    ) -> None:
        self._folder, self._keeper, self._switchboard = folder, keeper, switchboard
        self._course = course
        self.template = template
        self.generation = 0
        self.workers = Roster()
        self._question = 0

    def listen(self, seconds: float = TICK_SECONDS) -> None:
        """Take what has come in, wait for it at most so long, and look after the processes."""
        heard = self._switchboard.next(seconds)
        while heard is not None:
            self._hear(heard)
            heard = self._switchboard.next(0.0)
        self._keeper.check()
        for worker in self.workers:
            if worker.process.ended and worker.line is None:
                self._course.lose(worker, "")
        self._course.settle()

    def tell(self, workers: Iterable[Worker]) -> None:
        """Tell workers where the weights are; none while a shard is lost: they are told when it is back."""
        facts = self._keeper.facts()
        if facts is not None:
            for worker in workers:
                worker.trouble.told()
                worker.send("join", **facts, generation=self.generation)

    def close(self) -> None:
        """Tell all that it is over, and end what was started."""
        self.workers.end()
        self._keeper.close()
        self._switchboard.close()

    def wait_for(self, done: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
        """See :class:`~hocket.training.leased.keepers.Hub`."""
        deadline = clock.monotonic() + seconds
        while not done():
            self.listen()
            if clock.monotonic() > deadline:
                raise RunError(f"{self._folder.root}: {what()}", f"Logs: {self._folder.logs}")

    def members(self) -> list[Member]:
        """See :class:`~hocket.training.leased.keepers.Hub`."""
        return self.workers.members()

    def answers(self, kind: str, answer: str, **facts: Any) -> list[Message]:
        """See :class:`~hocket.training.leased.keepers.Hub`. Each member is told its place among them, too.

        Questions are numbered: an answer may come late, when the run has gone back and asks anew.
        """
        members = self.members()
        self.workers.forget_answers()
        self._question += 1
        for place, member in enumerate(members):
            where = {"place": place, "num_places": len(members)}
            member.send(kind, **facts, **where, question=self._question)
        ranks = [member.rank for member in members]
        while self.workers.lacks(ranks, answer):
            self.listen()
        return self.workers.answers(ranks, answer)

    def updated(self, step: int, norm: float | None, skipped: bool) -> None:
        """See :class:`~hocket.training.leased.keepers.Hub`."""
        self._course.updated(step, norm, skipped)

    def _hear(self, heard: Heard) -> None:
        line, message = heard.line, heard.message
        worker = self.workers.at(line)
        if message is None:
            if worker is not None:
                self._course.lose(worker, heard.lost)  # the message names it
            elif self._keeper.owns(line):
                self._keeper.lost(line, heard.lost)
            return
        if message.kind == "worker":
            joined = self.workers.get(message.facts["rank"])
            if joined is not None:
                joined.line = line
        elif worker is None:
            self._keeper.hear(line, message)
        elif message.kind == "ready":
            worker.ready = True
            address = message.facts["address"]
            worker.address = None if address is None else (address[0], address[1])
        elif message.kind == "done":
            self._course.done(worker, message.facts)
        elif message.kind == "refused":
            error = HocketError(message.facts["message"], message.facts["hint"])
            error.exit_code = message.facts["exit_code"]
            raise error
        elif message.kind == "crashed":
            raise RunError(
                f"{self._folder.root}: {worker.process.who}: an error in the program:\n"
                f"{message.facts['traceback']}",
                f"The whole log: {worker.process.log}",
            )
        elif message.kind == "trouble":
            self._course.trouble(worker, message.facts)
        elif message.facts["question"] == self._question:
            self.workers.keep_answer(worker, message)
