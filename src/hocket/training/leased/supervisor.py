"""The supervisor of a run without collectives: leases work, notices losses, takes checkpoints.

It is the only one that writes events and checkpoints, and holds no weights between consistent points
but those of the last. A worker that is lost is named in an event, and what it held is leased again; a
lost shard sends everybody back to the last checkpoint; without the supervisor nobody goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from hocket.batching import BatchPlan
from hocket.comms.wire import ENDED
from hocket.core import clock
from hocket.core.errors import RunError
from hocket.corpus.mixture import CorpusMixture
from hocket.sync.dispenser import Dispenser, Ticket
from hocket.sync.leased import LeasedSettings
from hocket.training.checkpointer import Checkpointer
from hocket.training.folder import RunFolder
from hocket.training.journal import Journal
from hocket.training.leased.crew import Elsewhere, Process, Switchboard
from hocket.training.leased.desk import Desk
from hocket.training.leased.keepers import Keeper, ShardGone
from hocket.training.leased.records import Records
from hocket.training.leased.roster import Worker
from hocket.training.leased.state import Template
from hocket.training.progress import Progress
from hocket.training.recipe import TrainRecipe
from hocket.training.validation import ValidationReport
from hocket.training.validation import report as add_up

_START_SECONDS = 600.0


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
        self._records = Records(recipe, folder, plan, self._names, journal, progress)
        self._template, self._keeper = template, keeper
        self._journal, self._restore = journal, go_back
        self.num_steps, self.fairness = self._records.num_steps, self._records.fairness
        self.rates = self._records.rates
        assert isinstance(recipe.sync, LeasedSettings)
        self._per_part = recipe.sync.micro_batches_per_lease
        self._num_parts = -(-recipe.batch.micro_batches_per_step // self._per_part)
        self._dispenser = Dispenser(progress.step, self._num_parts, keeper.window)
        self._desk = Desk(folder, keeper, switchboard, template, self)
        self._last_loss = ""
        self._in_vain = 0
        self._checkpointer = Checkpointer(folder.checkpoints, recipe.checkpoint, self._on_checkpoint)

    @property
    def progress(self) -> Progress:
        """What was done so far."""
        return self._records.progress

    def run(self, spawn: Callable[[int], Process | Elsewhere], num_workers: int) -> bool:
        """Train to the last step; False when a request to stop ended it earlier, at a checkpoint.

        Raises :class:`RunError` naming the culprit when no worker is left.
        """
        self._records.begin(self._num_parts, num_workers, self._keeper.announces)
        self._num_workers = num_workers
        try:
            for rank in range(num_workers):  # they get ready while the keeper opens, and may join before
                self._desk.workers.add(Worker(rank, spawn(rank)))
            self._keeper.open(self._desk, self.progress.step)
            self._desk.wait_for(lambda: self._desk.workers.laggard is None, _START_SECONDS, self._late)
            self._begin()
            with self.progress.running():
                finished = self._to_the_end()
            self._checkpointer.wait()
            return finished
        except ShardGone as why:  # none was lost in the middle: it did not even begin
            raise RunError(f"{self._folder.root}: {why}", f"Logs: {self._folder.logs}") from None
        finally:
            self._desk.close()

    def _to_the_end(self) -> bool:
        while True:
            try:
                if self._folder.stop.exists():
                    self._dispenser.cut_short()
                self._hand_out()
                self._desk.listen()
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
        self._desk.tell(self._desk.workers)
        self._keeper.spread()
        self._dispenser.fence = self._next_fence()

    def _reconnect(self) -> None:
        """Tell workers that could not reach a shard, after a while, to try again."""
        now = clock.monotonic()
        troubled = [worker for worker in self._desk.workers if worker.trouble.due]
        self._desk.tell(worker for worker in troubled if not worker.trouble.waits(now))

    def _hand_out(self) -> None:
        self._reconnect()
        for worker in self._desk.workers:
            if worker.trouble.due:
                continue
            while (ticket := self._dispenser.lease(worker.rank, len(self._desk.workers))) is not None:
                worker.send(
                    "lease",
                    step=ticket.step,
                    number=ticket.number,
                    lr=self._records.rates.at(ticket.step),
                    generation=self._desk.generation,
                    completed=self._dispenser.completed,
                )

    def trouble(self, worker: Worker, facts: dict[str, Any]) -> None:
        """A worker could not reach somebody: others do what it held, and it tries again for some time."""
        self._journal.write("trouble", rank=worker.rank, reason=facts["reason"])
        if facts["generation"] != self._desk.generation:
            return  # it was told of new shards since
        if worker.trouble.begin(clock.monotonic()) > self._recipe.faults.link_seconds:
            self.lose(worker, f"{worker.process.who} (pid {worker.process.pid}): {facts['reason']}")
        else:
            self._dispenser.give_back(worker.rank)

    def done(self, worker: Worker, facts: dict[str, Any]) -> None:
        """A part of a step: counted once, and not when the run has gone back since."""
        ticket = Ticket(facts["step"], facts["number"])
        if facts["generation"] != self._desk.generation or not self._dispenser.done(worker.rank, ticket):
            return
        worker.trouble.end()
        self._records.part(worker.rank, facts)

    def _pause(self, step: int, stop: bool) -> None:
        """A consistent point: nothing is leased, all that was learnt is in the template."""
        self._desk.tell(worker for worker in self._desk.workers if worker.trouble.due)
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
            self._checkpointer.save(step, self._template.tensors(), progress.as_dict())
            self._in_vain = 0

    def _validate(self) -> ValidationReport | None:
        """Loss and error rates over all workers' parts; again when one is lost, or cannot reach a shard."""
        while True:
            num = len(self._desk.members())
            answers = self._desk.answers("validate", "validated")
            if any(message.facts["missed"] for message in answers):
                self._desk.listen()  # where a shard is lost the run goes back; else the worker tries again
                self._reconnect()
            elif len(answers) == num:
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

    def lose(self, worker: Worker, why: str) -> None:
        """A worker is gone, or is to go: the others do what it held."""
        worker.process.end(patience=1.0 if why.endswith(ENDED) else 0.0)
        (self._folder.heartbeats / f"rank-{worker.rank}.json").unlink(missing_ok=True)
        self._desk.workers.remove(worker)
        how = why if why and not why.endswith(ENDED) else worker.process.describe("is gone")
        held = self._dispenser.held(worker.rank)
        self._last_loss = f"{how}; its log: {worker.process.log}"
        self._journal.write(
            "worker_lost",
            rank=worker.rank,
            reason=how,
            log=str(worker.process.log),
            leased_again=[[ticket.step, ticket.number] for ticket in held],
            workers_left=len(self._desk.workers),
        )
        deadly = self._dispenser.lost(worker.rank)
        if deadly:
            raise RunError(
                f"{self._folder.root}: too many workers were lost at the same work, "
                f"{self._name(deadly[0])}; the last: {self._last_loss}",
                "Look at these utterances, or lower batch.seconds if memory did not suffice.",
            )
        if not len(self._desk.workers):
            raise RunError(
                f"{self._folder.root}: no worker is left; the last: {self._last_loss}\n"
                f"{worker.process.last_words()}",
                "Add --resume to go on from the last checkpoint.",
            )
        self._desk.tell(self._desk.workers)

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
                self._records.progress = self._restore()
                self._desk.generation += 1
                for worker in self._desk.workers:
                    worker.trouble.end()
                self._dispenser.roll_back(self.progress.step)
                self._records.begin(self._num_parts, self._num_workers, self._keeper.announces)
                self._journal.write("shard_lost", reason=why, step=before, restored_from=self.progress.step)
                self._keeper.open(self._desk, self.progress.step)
                self._begin()
                return
            except ShardGone as again:
                why = str(again)

    def updated(self, step: int, norm: float | None, skipped: bool) -> None:
        """An update of the weights was made, of the whole step."""
        self._records.updated(step, norm, skipped)

    def settle(self) -> None:
        """Write down the steps that are complete."""
        self._records.settle()

    def _late(self) -> str:
        worker = self._desk.workers.laggard
        assert worker is not None
        return f"{worker.process.describe('was not ready')} in time"

    def _on_checkpoint(self, step: int, failure: BaseException | None) -> None:
        if failure is None:
            self._journal.write("checkpoint", step=step)
        else:
            self._journal.write("checkpoint_failed", step=step, reason=str(failure)[-500:])
