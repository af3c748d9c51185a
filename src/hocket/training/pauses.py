"""Between two steps, where all replicas agree: validating, saving, and averaging at the end."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from hocket.comms.heartbeat import WAITING, Heartbeat
from hocket.core.protocols import Replica, SyncStrategy
from hocket.training import checkpoint_store
from hocket.training.averaging import Average
from hocket.training.checkpoint_average import load_mean
from hocket.training.checkpointer import Checkpointer, collect
from hocket.training.folder import RunFolder
from hocket.training.journal import Journal
from hocket.training.progress import Progress
from hocket.training.recipe import TrainRecipe
from hocket.training.seat import Seat
from hocket.training.validation import Validation, ValidationReport


@dataclass(frozen=True)
class Pauses:
    """Knows when a run of ``num_steps`` steps validates and saves, and does it."""

    recipe: TrainRecipe
    folder: RunFolder
    num_steps: int
    seat: Seat
    replica: Replica
    sync: SyncStrategy
    optimiser: torch.optim.Optimizer
    average: Average
    validation: Validation | None
    checkpointer: Checkpointer
    journal: Journal
    heartbeat: Heartbeat
    progress: Progress

    def validates(self, step: int) -> bool:
        """Whether there is a validation after so many steps."""
        every = self.recipe.validation.every_steps
        return step == self.num_steps or (every > 0 and step % every == 0)

    def saves(self, step: int) -> bool:
        """Whether there is a checkpoint after so many steps."""
        return step == self.num_steps or step % self.recipe.checkpoint.every_steps == 0

    @property
    def in_vain(self) -> bool:
        """True when validations have brought nothing better for as long as the recipe waits."""
        return self.progress.validated.in_vain(self.recipe.validation.patience)

    def pause(self, step: int, *, validates: bool, saves: bool) -> None:
        """Validate and save; also what is the best so far, and the last of a run in vain, is saved."""
        progress = self.progress
        progress.forget_validation()
        best = False
        if self.validation is not None and validates:
            with self.average.in_place():
                found = self.validation.run(self.replica, self.heartbeat.beat)
            best = self._validated(step, found)
        if saves or best or self.in_vain:
            self.heartbeat.beat(WAITING)
            self.checkpointer.settle()  # all ranks write the last one together
            self.heartbeat.beat("saving")
            tensors = collect(self.replica.held, self.optimiser, self.sync, self.seat, self.average)
            self.checkpointer.save(step, tensors, progress.as_dict())

    def finish(self, *, average: int) -> None:
        """Wait for the last checkpoint, and take the mean of so many of the last for the weights, if any."""
        self.heartbeat.beat(WAITING)
        self.checkpointer.wait()
        if average:
            self._average_checkpoints(average)

    def _average_checkpoints(self, number: int) -> None:
        """Take the mean of the last checkpoints for the weights, and validate it."""
        self.seat.world.barrier()  # the last one has its name when the leader has waited for it
        whole = checkpoint_store.whole_checkpoints(self.folder.checkpoints)[-number:]
        self.heartbeat.beat("averaging")
        load_mean(whole, self.replica.held)
        found = None
        if self.validation is not None:
            found = self.validation.run(self.replica, self.heartbeat.beat)
            self.progress.take_average(found)
        steps = [checkpoint_store.step_of(folder) for folder in whole]
        self.journal.write("average", steps=steps, **({} if found is None else asdict(found)))

    def _validated(self, step: int, found: ValidationReport) -> bool:
        """Record a validation, and whether it was in vain; True when it is the best so far."""
        settings = self.recipe.validation
        best = self.progress.take_validation(found, settings)
        self.journal.write("validation", step=step, **asdict(found), best=best)
        if self.in_vain and step < self.num_steps:
            told = asdict(self.progress.validated)
            self.journal.write("early_stop", **told, metric=settings.metric, patience=settings.patience)
        return best
