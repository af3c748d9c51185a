"""Where the time of every rank went, not of the first alone: told to all once, at the end."""

from __future__ import annotations

import torch

from hocket.comms.communicator import Communicator
from hocket.training.progress import Progress

KINDS = ("compute", "communication", "wait", "data", "optimiser")


class RankSeconds:
    """What this rank's progress has counted since now, by kind; earlier attempts were other ranks'."""

    def __init__(self, progress: Progress, communicator: Communicator, device: torch.device) -> None:
        self._progress, self._communicator, self._device = progress, communicator, device
        self._before = dict(progress.seconds)

    def by_rank(self) -> list[dict[str, float]]:
        """Seconds of each rank, by rank; all ranks call it."""
        own = [self._progress.seconds.get(kind, 0.0) - self._before.get(kind, 0.0) for kind in KINDS]
        told = self._communicator.all_gather(torch.tensor(own, dtype=torch.float64, device=self._device))
        return [
            {kind: round(value, 3) for kind, value in zip(KINDS, each.tolist(), strict=True)} for each in told
        ]
