"""The supervisor of a run without collectives: leases work, notices losses, takes checkpoints.

It is the only one that writes events and checkpoints, and holds no weights between consistent points
but those of the last. A worker that is lost is named in an event, and what it held is leased again; a
lost shard sends everybody back to the last checkpoint; without the supervisor nobody goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from hocket.batching import BatchPlan
from hocket.comms.wire import ENDED, Line, Message
from hocket.core import clock
from hocket.core.errors import HocketError, RunError, WorkerLost
from hocket.corpus.mixture import CorpusMixture
from hocket.sync.dispenser import Dispenser, Ticket
from hocket.sync.leased import LeasedSettings
from hocket.training.checkpointer import Checkpointer
from hocket.training.folder import RunFolder
from hocket.training.journal import Journal
from hocket.training.leased.crew import Elsewhere, Heard, Process, Switchboard
from hocket.training.leased.keepers import Keeper, Member, ShardGone
from hocket.training.leased.ledger import Fairness, Ledger
from hocket.training.leased.state import Template
from hocket.training.progress import Progress
from hocket.training.rates import Rates
from hocket.training.recipe import TrainRecipe
from hocket.training.validation import ValidationReport
from hocket.training.validation import report as add_up

_TICK_SECONDS = 0.2
_START_SECONDS = 600.0
_MAX_TROUBLES = 3


class _Worker:
    """A worker, from its start to its loss."""

    def __init__(self, rank: int, process: Process | Elsewhere) -> None:
        self.rank, self.process = rank, process
        self.line: Line | None = None
        self.address: tuple[str, int] | None = None
        self.ready = False
        self.num_troubles = 0
        """How often in a row it could not reach a shard."""

    def send(self, kind: str, tensors: Any = (), **facts: Any) -> None:
        """Say something; to a worker that is gone it is lost, which its line tells."""
        if self.line is not None:
            try:
                self.line.send(kind, tensors, **facts)
            except WorkerLost:
                return


class Supervisor:
    """Runs the plan's steps to ``num_steps``; :mod:`hocket.training.leased.launch` puts it together."""

    def __init__(
        self,
        recipe: TrainRecipe,
        folder: RunFolder,
        *,
        plan: BatchPlan,
        corpora: CorpusMixture,
        template: Template,
        keeper: Keeper,
        switchboard: Switchboard,
        journal: Journal,
        progress: Progress,
        go_back: Callable[[], Progress],
    ) -> None:
        self._names = [member.name for member in corpora.members]
        self._recipe, self._folder, self._plan, self._corpora = recipe, folder, plan, corpora
        self.template, self._keeper, self._switchboard = template, keeper, switchboard
        self._journal, self.progress, self._restore = journal, progress, go_back
        self.generation = 0
        self.rates = Rates.of(recipe, plan)
        self.num_steps = self.rates.num_steps
        self.fairness = Fairness()
        assert isinstance(recipe.sync, LeasedSettings)
        self._per_part = recipe.sync.micro_batches_per_lease
        self._num_parts = -(-recipe.batch.micro_batches_per_step // self._per_part)
        self._dispenser = Dispenser(progress.step, self._num_parts, keeper.window)
        self._workers: dict[int, _Worker] = {}
        self._answers: dict[tuple[int, str], Message] = {}
        self._last_loss = ""
        self._in_vain = 0
        self._checkpointer = Checkpointer(folder.checkpoints, recipe.checkpoint, self._on_checkpoint)

    def run(self, spawn: Callable[[int], Process | Elsewhere], num_workers: int) -> bool:
        """Train to the last step; False when a request to stop ended it earlier, at a checkpoint.

        Raises :class:`RunError` naming the culprit when no worker is left.
        """
        self._ledger = Ledger(self._num_parts, num_workers, self._keeper.announces, self.fairness)
        self._num_workers = num_workers
        try:
            self._keeper.open(self, self.progress.step)
            for rank in range(num_workers):
                self._workers[rank] = _Worker(rank, spawn(rank))
            self.wait_for(
                lambda: all(worker.ready for worker in self._workers.values()),
                _START_SECONDS,
                lambda: f"{self._laggard().process.describe('was not ready')} in time",
            )
            self._begin()
            with self.progress.running():
                finished = self._to_the_end()
            self._checkpointer.wait()
            return finished
        except ShardGone as why:  # none was lost in the middle: it did not even begin
            raise RunError(f"{self._folder.root}: {why}", f"Logs: {self._folder.logs}") from None
        finally:
            self._end_all()

    def _to_the_end(self) -> bool:
        while True:
            try:
                if self._folder.stop.exists():
                    self._dispenser.cut_short()
                self._hand_out()
                self._listen(_TICK_SECONDS)
                if self._dispenser.quiet and self.progress.step == self._dispenser.fence:
                    stop = self._folder.stop.exists()
                    self._pause(self.progress.step, stop)
                    if stop or self.progress.step >= self.num_steps:
                        return self.progress.step >= self.num_steps
                    self._dispenser.fence = self._next_fence()
            except ShardGone as why:
                self._go_back(str(why))

    def _begin(self) -> None:
        """All weights are in place: tell the workers where, and draw the first fence."""
        self._tell(self._workers.values())
        self._keeper.spread()
        self._dispenser.fence = self._next_fence()

    def _hand_out(self) -> None:
        for worker in self._workers.values():
            while (ticket := self._dispenser.lease(worker.rank, len(self._workers))) is not None:
                worker.send(
                    "lease",
                    step=ticket.step,
                    number=ticket.number,
                    lr=self.rates.at(ticket.step),
                    generation=self.generation,
                    completed=self._dispenser.completed,
                )

    def _listen(self, seconds: float) -> None:
        """Take what has come in, wait for it at most so long, and look after the processes."""
        heard = self._switchboard.next(seconds)
        while heard is not None:
            self._hear(heard)
            heard = self._switchboard.next(0.0)
        self._keeper.check()
        for worker in list(self._workers.values()):
            if worker.process.ended and worker.line is None:
                self._lose(worker, "")
        self._settle()

    def _hear(self, heard: Heard) -> None:
        line, message = heard.line, heard.message
        worker = next((each for each in self._workers.values() if each.line is line), None)
        if message is None:
            if worker is not None:
                self._lose(worker, heard.lost)  # the message names it
            elif self._keeper.owns(line):
                self._keeper.lost(line, heard.lost)
            return
        if message.kind == "worker" and message.facts["rank"] in self._workers:
            self._workers[message.facts["rank"]].line = line
        elif worker is None:
            self._keeper.hear(line, message)
        elif message.kind == "ready":
            worker.ready = True
            address = message.facts["address"]
            worker.address = None if address is None else (address[0], address[1])
        elif message.kind == "done":
            self._done(worker, message.facts)
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
            self._help(worker, message.facts)
        else:
            self._answers[worker.rank, message.kind] = message

    def _help(self, worker: _Worker, facts: dict[str, Any]) -> None:
        """A worker could not reach a shard that may be alive: let it try again, a few times."""
        self._journal.write("trouble", rank=worker.rank, reason=facts["reason"])
        worker.num_troubles += 1
        if worker.num_troubles > _MAX_TROUBLES:
            self._lose(worker, f"{worker.process.who} (pid {worker.process.pid}): {facts['reason']}")
        elif facts["generation"] == self.generation:
            self._dispenser.give_back(worker.rank)
            self._tell([worker])

    def _done(self, worker: _Worker, facts: dict[str, Any]) -> None:
        ticket = Ticket(facts["step"], facts["number"])
        if facts["generation"] != self.generation or not self._dispenser.done(worker.rank, ticket):
            return
        if facts["dropped"]:
            self._folder.list_dropped(facts["step"], facts["dropped"])
        worker.num_troubles = 0
        self._ledger.part(worker.rank, facts)

    def _settle(self) -> None:
        """Count and record the steps that are complete, in their order."""
        while (found := self._ledger.take(self.progress.step)) is not None:
            batch = self._plan.global_batch(self.progress.step)
            report = self._ledger.report(found)
            if report.num_dropped == 0 and report.utterances != self._plan.digest(batch):
                raise RuntimeError(f"step {batch.step} did not learn from exactly the utterances of its plan")
            seconds = self._ledger.seconds(found)
            self.progress.count(batch, report)
            frames = self._plan.frames_by_corpus(batch)
            if len(frames) > 1:
                self.progress.count_corpora(dict(zip(self._names, frames, strict=True)))
            self.progress.spend(seconds, 1.0, 0.0, 0.0)
            self._journal.write(
                "step",
                step=batch.step,
                epoch=batch.epoch,
                loss=report.loss_sum / max(1, batch.total_tokens),
                grad_norm=report.grad_norm,
                lr=self.rates.at(batch.step),
                num_frames=batch.total_frames,
                num_utterances=batch.num_utterances,
                seconds={kind: round(value, 6) for kind, value in seconds.items()},
                busy=[round(value, 6) for value in report.busy_seconds],
                utterances=report.utterances,
                skipped=report.skipped,
                **self._ledger.details(found, batch),
            )
            if self.progress.skipped_in_a_row >= self._recipe.numerics.max_skipped:
                raise RunError(
                    f"{self.progress.skipped_in_a_row} steps in a row had a loss or gradient that is not "
                    f"finite, the last at step {batch.step}",
                    "Lower optimiser.lr, or look at the corpus; numerics.max_skipped sets the patience.",
                )

    def _pause(self, step: int, stop: bool) -> None:
        """A consistent point: nothing is leased, all that was learnt is in the template."""
        self._keeper.gather()
        progress = self.progress
        progress.forget_validation()
        best = False
        self._keeper.spread()
        if self._due(step, self._recipe.validation.every_steps) and not stop:
            found = self._validate()
            if found is not None:
                best = progress.take_validation(found, self._recipe.validation)
                self._journal.write("validation", step=step, **asdict(found), best=best)
        if stop or best or self._due(step, self._recipe.checkpoint.every_steps):
            self._checkpointer.save(step, self.template.tensors(), progress.as_dict())
            self._in_vain = 0

    def _validate(self) -> ValidationReport | None:
        """Loss and error rates over all workers' parts; again among the others when one is lost."""
        while True:
            members = self.members()
            for place, member in enumerate(members):
                member.send("validate", place=place, num_places=len(members))
            answers = self._await(members, "validated")
            if len(answers) == len(members):
                sums = [message.facts["sums"] for message in answers]
                if not sums or any(each is None for each in sums):
                    return None
                added = [
                    [sum(column) for column in zip(*rows, strict=True)] for rows in zip(*sums, strict=True)
                ]
                return add_up(added, self._names)

    def _due(self, step: int, every: int) -> bool:
        return step == self.num_steps or (every > 0 and step % every == 0)

    def _next_fence(self) -> int:
        """The next step before which something is due."""
        wants = (
            self._recipe.checkpoint.every_steps,
            self._recipe.validation.every_steps,
            self._keeper.full_every,
        )
        step = self.progress.step
        return min([self.num_steps, *((step // every + 1) * every for every in wants if every > 0)])

    def _lose(self, worker: _Worker, why: str) -> None:
        """A worker is gone, or is to go: the others do what it held."""
        worker.process.end(patience=1.0 if why.endswith(ENDED) else 0.0)
        (self._folder.heartbeats / f"rank-{worker.rank}.json").unlink(missing_ok=True)
        if worker.line is not None:
            worker.line.close()
        del self._workers[worker.rank]
        how = why if why and not why.endswith(ENDED) else worker.process.describe("is gone")
        held = self._dispenser.held(worker.rank)
        self._last_loss = f"{how}; its log: {worker.process.log}"
        self._journal.write(
            "worker_lost",
            rank=worker.rank,
            reason=how,
            log=str(worker.process.log),
            leased_again=[[ticket.step, ticket.number] for ticket in held],
            workers_left=len(self._workers),
        )
        deadly = self._dispenser.lost(worker.rank)
        if deadly:
            raise RunError(
                f"{self._folder.root}: too many workers were lost at the same work, "
                f"{self._name(deadly[0])}; the last: {self._last_loss}",
                "Look at these utterances, or lower batch.seconds if memory did not suffice.",
            )
        if not self._workers:
            raise RunError(
                f"{self._folder.root}: no worker is left; the last: {self._last_loss}\n"
                f"{worker.process.last_words()}",
                "Add --resume to go on from the last checkpoint.",
            )
        self._tell(self._workers.values())

    def _name(self, ticket: Ticket) -> str:
        batch = self._plan.global_batch(ticket.step)
        first = ticket.number * self._per_part
        rows = [row for spec in batch.micro_batches[first : first + self._per_part] for row in spec.rows]
        return f"step {ticket.step}, utterances {', '.join(self._corpora.id(int(row)) for row in rows)}"

    def _go_back(self, why: str) -> None:
        """A shard is lost: all shards take up the last checkpoint, and workers go on from there."""
        while True:
            self._in_vain += 1
            if self._in_vain > self._recipe.faults.max_restarts:
                raise RunError(
                    f"{self._folder.root}: {self._in_vain} shards were lost without a new checkpoint in "
                    f"between; the last: {why}",
                    f"Their logs: {self._folder.logs}",
                )
            try:
                self._checkpointer.settle()
                before = self.progress.step
                self.progress = self._restore()
                self.generation += 1
                self._dispenser.roll_back(self.progress.step)
                self._ledger = Ledger(
                    self._num_parts, self._num_workers, self._keeper.announces, self.fairness
                )
                self._journal.write("shard_lost", reason=why, step=before, restored_from=self.progress.step)
                self._keeper.open(self, self.progress.step)
                self._begin()
                return
            except ShardGone as again:
                why = str(again)

    def _tell(self, workers: Iterable[_Worker]) -> None:
        facts = self._keeper.facts()
        if facts is None:
            return  # a shard is lost: all are told where to go on when it is back
        for worker in workers:
            worker.send("join", **facts, generation=self.generation)

    def _laggard(self) -> _Worker:
        return next(worker for worker in self._workers.values() if not worker.ready)

    def _end_all(self) -> None:
        for worker in self._workers.values():
            worker.send("end")
        for worker in self._workers.values():
            worker.process.end(patience=5.0 if worker.ready else 0.0)
        self._keeper.close()
        self._switchboard.close()

    def _on_checkpoint(self, step: int, failure: BaseException | None) -> None:
        if failure is None:
            self._journal.write("checkpoint", step=step)
        else:
            self._journal.write("checkpoint_failed", step=step, reason=str(failure)[-500:])

    # What keepers ask of it: see hocket.training.leased.keepers.Hub.

    def wait_for(self, done: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
        """See :class:`~hocket.training.leased.keepers.Hub`."""
        deadline = clock.monotonic() + seconds
        while not done():
            self._listen(_TICK_SECONDS)
            if clock.monotonic() > deadline:
                raise RunError(f"{self._folder.root}: {what()}", f"Logs: {self._folder.logs}")

    def members(self) -> list[Member]:
        """See :class:`~hocket.training.leased.keepers.Hub`."""
        return [worker for _, worker in sorted(self._workers.items()) if worker.ready]

    def answers(self, kind: str, answer: str, **facts: Any) -> list[Message]:
        """See :class:`~hocket.training.leased.keepers.Hub`."""
        members = self.members()
        for member in members:
            member.send(kind, **facts)
        return self._await(members, answer)

    def updated(self, step: int, norm: float | None, skipped: bool) -> None:
        """See :class:`~hocket.training.leased.keepers.Hub`."""
        self._ledger.updated(step, norm, skipped)

    def _await(self, members: list[Member], answer: str) -> list[Message]:
        """The answers of those that are still there, by rank."""
        self._answers.clear()
        ranks = [member.rank for member in members]
        while any(rank in self._workers and (rank, answer) not in self._answers for rank in ranks):
            self._listen(_TICK_SECONDS)
        return [self._answers[rank, answer] for rank in ranks if rank in self._workers]
