"""Where a rank sits in a job: among all ranks, and in the layout."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from hocket.comms.communicator import Alone, Communicator
from hocket.comms.mesh import Mesh
from hocket.core.errors import RunError
from hocket.core.layout import Layout


@dataclass(frozen=True)
class Seat:
    """A rank's place; by default the only one there is."""

    layout: Layout = field(default_factory=Layout)
    world: Communicator = field(default_factory=Alone)
    """Among all ranks of the job."""
    replica: int = 0
    group: int = 0
    """Which of the replica's groups, of those that work on micro-batches of their own."""
    inside: int = 0
    """Which of the replica's ranks."""
    copies: Communicator = field(default_factory=Alone)
    """Among the ranks of this group."""
    replicas: Communicator = field(default_factory=Alone)
    """Among the ranks that hold the same of each replica."""

    @classmethod
    def of(cls, mesh: Mesh) -> Seat:
        """This rank's."""
        replica, group = mesh.group
        replicas = mesh.along("dp_replicate")
        return cls(mesh.layout, mesh.world, replica, group, mesh.inside.rank, mesh.copies, replicas)

    @property
    def leads(self) -> bool:
        """The one rank that writes what the job has to say."""
        return self.world.rank == 0

    @property
    def place(self) -> int:
        """This rank's place in what is told by rank: replica after replica."""
        return self.replica * self.layout.replica_size + self.inside

    def slowest_of_replicas(self, seconds: tuple[float, ...]) -> list[float]:
        """Of seconds by place: those of the slowest rank of each replica."""
        size = self.layout.replica_size
        return [max(seconds[start : start + size]) for start in range(0, len(seconds), size)]

    def check_copies(self, digest: int, device: torch.device) -> None:
        """Raise on all ranks of a group when they do not work on the same utterances.

        One of them could not read what another could: they would compute different things, or wait for
        each other for ever.
        """
        if self.copies.world_size == 1:
            return
        found = self.copies.all_gather(torch.tensor([digest], dtype=torch.int64, device=device))
        seen = [int(each) for each in found]
        if len(set(seen)) > 1:
            raise RunError(
                "the ranks that share micro-batches did not read the same utterances: some can be read on "
                f"one host and not on another (digests {seen})",
                "See dropped.jsonl in the run's folder, and check the corpus on every host.",
            )
