"""What strategies of workers at their own pace have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field

from hocket.comms.wire import Address, Line, Listener
from hocket.core.errors import UsageError
from hocket.core.protocols import GradBucket, LeasedStrategy, MicroBatchResult, Replica
from hocket.core.recipe import Section
from hocket.sync.flat import OptimiserSpec


@dataclass(frozen=True)
class LeasedContext:
    """What a strategy is given of the run beside its own settings."""

    connect: Callable[[Address], Line]
    """A line to another process of the run."""
    listen: Callable[[Callable[[Line], None]], Listener]
    """Accept lines of others; each is handed over in a thread of its own."""
    optimiser: OptimiserSpec
    max_grad_norm: float
    seed: int
    rank: int


class LeasedSettings(Section):
    """Settings of every strategy whose workers go at their own pace. ``name`` tells the forms apart."""

    name: str

    micro_batches_per_lease: int = Field(default=1, ge=1)
    """Micro-batches that a worker computes at a time. Fewer let fast workers do more; more cost less
    communication."""

    @property
    def exact_instead(self) -> bool:
        """Never: gradients are added in the order in which they come."""
        return False

    @abstractmethod
    def make_worker(self, context: LeasedContext) -> LeasedStrategy:
        """The worker's side of these settings."""


def only_bucket(replica: Replica) -> GradBucket:
    """The replica's gradients as one flat buffer.

    Raises :class:`UsageError` when its parameters are of several types.
    """
    if len(replica.buckets) != 1:
        raise UsageError(
            f"this strategy needs parameters of one type on one device, not {len(replica.buckets)} buckets",
            "Use sync.name all_reduce for this model.",
        )
    return replica.buckets[0]


def norm_per_token(bucket: GradBucket, tokens: float, results: Sequence[MicroBatchResult]) -> float:
    """Norm of the buffer's gradient per token; not finite when a loss or a gradient is not."""
    if not all(bool(result.loss.isfinite()) for result in results):
        return float("nan")
    return float(torch.linalg.vector_norm(bucket.flat).double()) / max(1.0, tokens)


def clip(norm: float, max_grad_norm: float) -> float:
    """What to multiply a gradient of this norm with so that it is at most ``max_grad_norm`` (0: any)."""
    return min(1.0, max_grad_norm / norm) if max_grad_norm > 0 and norm > 0 else 1.0
