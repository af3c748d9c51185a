"""What every synchronous strategy does once the gradients agree: tell, clip, step or skip."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hocket.comms.communicator import Communicator, Handle
from hocket.core.protocols import GradBucket, Inside, RankPart, Replica, StepReport

_HEAD = 6  # loss, bad, dropped, utterances, stop, out of memory; then one place a rank for its busy seconds


class SharedFacts:
    """What ranks tell each other beside gradients, as one float64 vector summed over ranks.

    First among the ranks of a replica, then over replicas; what several ranks know alike, one tells.
    """

    def __init__(self, communicator: Communicator, replica: Replica) -> None:
        self._communicator, self._inside, self._speaks = communicator, replica.inside, replica.speaks
        self._device = replica.device

    def send(self, part: RankPart, bad: torch.Tensor) -> tuple[torch.Tensor, Handle]:
        """Start the sum. ``bad`` (0-d) is above zero when this rank saw something not finite."""
        size = self._inside.world_size
        host = [0.0] * (_HEAD + self._communicator.world_size * size)
        if self._speaks:
            host[2:4] = [part.num_dropped, part.utterances]
        host[1] = host[5] = float(part.out_of_memory)
        host[4] = float(part.stop)
        host[_HEAD + self._communicator.rank * size + self._inside.rank] = part.busy_seconds
        facts = torch.tensor(host, dtype=torch.float64).to(self._device, non_blocking=True)
        if part.results and self._speaks:
            losses = torch.stack([result.loss.to(torch.float64) for result in part.results])
            facts[0] = losses.nan_to_num(0.0, 0.0, 0.0).sum()
            facts[1] += (~losses.isfinite()).sum()
        facts[1] += bad
        self._inside.all_reduce(facts).wait()
        return facts, self._communicator.all_reduce(facts)


@dataclass(frozen=True)
class DeviceReport:
    """A step's outcome as tensors on the device: reading it is what waits."""

    facts: torch.Tensor
    grad_norm: torch.Tensor
    skipped: torch.Tensor
    sync_seconds: float
    bytes_sent: int

    def ready(self) -> bool:
        """See :class:`hocket.core.protocols.PendingReport`: every step is told at once."""
        return True

    def result(self) -> StepReport:
        """See :class:`hocket.core.protocols.PendingReport`."""
        tail = torch.stack((self.grad_norm.to(torch.float64), self.skipped.to(torch.float64)))
        facts = torch.cat((self.facts, tail)).tolist()
        loss, _bad, dropped, utterances, stop, out_of_memory, *busy, norm, skipped = facts
        return StepReport(
            loss_sum=loss,
            grad_norm=norm,
            skipped=skipped > 0,
            num_dropped=round(dropped),
            utterances=round(utterances),
            stop=stop > 0,
            busy_seconds=tuple(busy),
            sync_seconds=self.sync_seconds,
            bytes_sent=self.bytes_sent,
            out_of_memory=round(out_of_memory),
        )


def clip_factor(grad_norm: torch.Tensor, max_grad_norm: float) -> torch.Tensor:
    """What to multiply gradients with so that their norm is at most ``max_grad_norm``; 0 means no limit."""
    if max_grad_norm <= 0:
        return torch.ones_like(grad_norm)
    return (max_grad_norm / grad_norm).clamp(max=1.0)


def step_or_skip(
    optimizer: torch.optim.Optimizer, bad: torch.Tensor, grad_norm: torch.Tensor
) -> torch.Tensor:
    """Step unless something (``bad`` > 0, the norm) is not finite, decided on the device; 1 when skipped."""
    skipped = ((bad > 0) | ~grad_norm.isfinite()).to(torch.float32)
    # Fused optimisers look at this attribute and leave weights and state as they are when it is 1.
    optimizer.found_inf = skipped  # type: ignore[attr-defined]
    optimizer.step()
    return skipped


def flat_norm(buckets: list[GradBucket], inside: Inside) -> torch.Tensor:
    """Euclidean norm over all buckets of all ranks of a replica, 0-d float64.

    Parameters that several ranks hold alike are counted once, by the rank whose bucket is ``counted``.
    """
    device = buckets[0].flat.device if buckets else None
    norms = [torch.linalg.vector_norm(each.flat).to(torch.float64) for each in buckets if each.counted]
    total: torch.Tensor = torch.linalg.vector_norm(
        torch.stack(norms) if norms else torch.zeros(1, dtype=torch.float64, device=device)
    )
    if inside.world_size > 1:
        square = total.square()
        inside.all_reduce(square).wait()
        total = square.sqrt()
    return total
