"""What ranks tell each other once a round of several steps, where they do not meet at every step."""

from __future__ import annotations

import math

import torch

from hocket.comms.communicator import Communicator, Handle
from hocket.core.protocols import RankPart, Replica, StepReport

_ROW = 5  # of each step: loss, bad, squared norm; dropped, utterances


class Round:
    """The steps since the last agreement, and what became of them on all ranks."""

    def __init__(self, communicator: Communicator, replica: Replica) -> None:
        self._communicator, self._device = communicator, replica.device
        self._inside, self._speaks = replica.inside, replica.speaks
        self._measured: list[torch.Tensor] = []
        self._counted: list[tuple[int, int]] = []
        self._busy, self._stop = 0.0, False
        self._facts: torch.Tensor | None = None
        self._told: list[float] = []

    @property
    def num_steps(self) -> int:
        """Steps taken so far."""
        return len(self._measured)

    @property
    def agreed(self) -> bool:
        """True when all ranks' facts are here."""
        return self._facts is not None

    def add(self, part: RankPart, loss: torch.Tensor, bad: torch.Tensor, norm: torch.Tensor) -> None:
        """One more step of this replica: its loss, how much of it was not finite, its gradient's norm (0-d).

        All ranks of a replica know these alike, and the first one tells them.
        """
        finite_norm = norm.to(torch.float64).nan_to_num(0.0, 0.0, 0.0)
        measured = torch.stack((loss, bad.to(torch.float64), finite_norm.square()))
        self._measured.append(measured if self._inside.rank == 0 else torch.zeros_like(measured))
        self._counted.append((part.num_dropped, part.utterances) if self._speaks else (0, 0))
        self._busy += part.busy_seconds
        self._stop = self._stop or part.stop

    def send(self) -> Handle:
        """Start the sum over ranks; :meth:`receive` once it is waited for."""
        size = self._inside.world_size
        busy = [0.0] * (self._communicator.world_size * size)
        busy[self._communicator.rank * size + self._inside.rank] = self._busy
        counted = torch.tensor(self._counted, dtype=torch.float64).to(self._device, non_blocking=True)
        rest = torch.tensor([float(self._stop), *busy], dtype=torch.float64).to(
            self._device, non_blocking=True
        )
        rows = torch.cat((torch.stack(self._measured), counted), dim=1)
        self._sent = torch.cat((rows.reshape(-1), rest))
        self._inside.all_reduce(self._sent).wait()
        return self._communicator.all_reduce(self._sent)

    def receive(self, outer_skipped: torch.Tensor) -> None:
        """The sum is complete; ``outer_skipped`` (0-d) is 1 when the round's way was thrown away."""
        self._facts = torch.cat((self._sent, outer_skipped.to(torch.float64).reshape(1)))

    def step(self, number: int, sync_seconds: float, bytes_sent: int) -> StepReport:
        """The report of a step of the round. The last one carries the busy seconds of the whole round."""
        if not self._told:
            assert self._facts is not None
            self._told = self._facts.tolist()
        last = number == self.num_steps - 1
        loss, bad, squares, dropped, utterances = self._told[number * _ROW : (number + 1) * _ROW]
        stop, *busy, outer_skipped = self._told[self.num_steps * _ROW :]
        return StepReport(
            loss_sum=loss,
            grad_norm=math.sqrt(squares / self._communicator.world_size),
            skipped=bad > 0 or (last and outer_skipped > 0),
            num_dropped=round(dropped),
            utterances=round(utterances),
            stop=stop > 0,
            busy_seconds=tuple(busy) if last else (0.0,) * len(busy),
            sync_seconds=sync_seconds,
            bytes_sent=bytes_sent,
        )


class RoundReport:
    """One step of a round; see :class:`hocket.core.protocols.PendingReport`."""

    def __init__(self, told: Round, number: int, sync_seconds: float, bytes_sent: int) -> None:
        self._round, self._number = told, number
        self._sync_seconds, self._bytes_sent = sync_seconds, bytes_sent

    def ready(self) -> bool:
        """True once the round is over and all ranks' facts are here."""
        return self._round.agreed

    def result(self) -> StepReport:
        """Wait for the device and read what came out."""
        return self._round.step(self._number, self._sync_seconds, self._bytes_sent)
