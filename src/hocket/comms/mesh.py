"""The ranks arranged along the axes of a layout."""

from __future__ import annotations

from math import prod

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from hocket.comms.communicator import Alone, Communicator, TorchCommunicator
from hocket.core.layout import AXES, COPIED, INSIDE, Layout


class Mesh:
    """This rank's view of the mesh: a device mesh of the axes that are split, and communicators along them.

    Ranks are numbered with the last axis of :data:`~hocket.core.layout.AXES` running fastest. Making a
    mesh is a collective call of all ranks.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.layout, self.device = layout, device
        split = [axis for axis in AXES if getattr(layout, axis) > 1]
        degrees = tuple(getattr(layout, axis) for axis in split)
        self._mesh = init_device_mesh(device.type, degrees, mesh_dim_names=tuple(split)) if split else None
        self._along: dict[str, Communicator] = {}
        self.world: Communicator = TorchCommunicator()
        """Among all ranks."""
        self.inside: Communicator = self._over(INSIDE)
        """Among the ranks of this replica."""
        self.copies: Communicator = self._over(COPIED)
        """Among the ranks of this group: those that work on the same micro-batches."""

    @property
    def device_mesh(self) -> DeviceMesh:
        """The axes of degree 2 and more, each by its name; there must be one."""
        assert self._mesh is not None, "nothing is split"
        return self._mesh

    def along(self, axis: str) -> Communicator:
        """Communicator among the ranks that differ from this one only in ``axis``."""
        if axis not in self._along:
            split = getattr(self.layout, axis) > 1
            self._along[axis] = TorchCommunicator(self.device_mesh.get_group(axis)) if split else Alone()
        return self._along[axis]

    def coordinate(self, axis: str) -> int:
        """Position of this rank along ``axis``."""
        return self.device_mesh.get_local_rank(axis) if getattr(self.layout, axis) > 1 else 0

    @property
    def group(self) -> tuple[int, int]:
        """Which micro-batches are this rank's: its replica, and its place along ``dp_shard`` there."""
        return self.coordinate("dp_replicate"), self.coordinate("dp_shard")

    def rows(self, *axes: str) -> list[list[int]]:
        """All ranks of the job, those together that differ in ``axes`` only."""
        ranks = torch.arange(self.layout.world_size).view(self.layout.degrees)
        moved = [AXES.index(axis) for axis in axes]
        kept = [number for number in range(len(AXES)) if number not in moved]
        size = prod(self.layout.degrees[number] for number in moved)
        rows: list[list[int]] = ranks.permute(*kept, *moved).reshape(-1, size).tolist()
        return rows

    def _over(self, axes: tuple[str, ...]) -> Communicator:
        """Among the ranks that differ from this one in ``axes`` only."""
        split = [axis for axis in axes if getattr(self.layout, axis) > 1]
        if not split:
            return Alone()
        if len(split) == 1:
            return self.along(split[0])
        if all(axis in split or getattr(self.layout, axis) == 1 for axis in AXES):
            return self.world
        if axes == COPIED and self.layout.dp_shard == 1:
            return self.inside
        group, _ = dist.new_subgroups_by_enumeration(self.rows(*split))  # type: ignore[no-untyped-call]
        return TorchCommunicator(group)
