"""How gradients come into the buckets, and when they are complete.

A replica runs backward passes; a :class:`Gradients` sees to what becomes of them. The order of calls in
one ``forward_backward``: :meth:`~Gradients.discard`, a backward pass, :meth:`~Gradients.complete`; more
passes, each with :meth:`~Gradients.complete` after it; :meth:`~Gradients.watch` before the last one, and
:meth:`~Gradients.finish` after it. A pipeline, whose backward passes of several micro-batches are queued
by its schedule, calls the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import torch

from hocket.comms.communicator import Communicator
from hocket.core.errors import UsageError
from hocket.core.protocols import GradBucket
from hocket.parallel.buckets import Filling, make_buckets

Tell = Callable[[GradBucket], None]
Rounded = Callable[[torch.Tensor], torch.Tensor]


class Gradients(Protocol):
    """What fills the buckets of a replica."""

    buckets: list[GradBucket]

    def discard(self) -> None:
        """What the buckets hold counts no longer; a backward pass and :meth:`complete` must follow."""
        ...

    def leave_out(self, out: bool) -> None:
        """Whether the next backward passes add nothing: those of a slot without work."""
        ...

    def complete(self) -> None:
        """After a backward pass."""
        ...

    def watch(self, tell: Tell) -> None:
        """From now to :meth:`finish`, call ``tell`` for every bucket once, in their order."""
        ...

    def finish(self) -> None:
        """No backward pass will follow: hand out what is left."""
        ...

    def add_up(self) -> None:
        """In place of :meth:`watch`, after a pass: add up over ranks what is not added up yet."""
        ...

    def abandon(self) -> None:
        """A pass ended in its middle: hand out no more. Where ranks share no pass, another may follow."""
        ...

    def let_go(self) -> None:
        """Free what a forward pass without a backward pass has gathered."""
        ...

    def add_as_integers(self, rounded: Rounded) -> None:
        """See :class:`hocket.core.protocols.Replica`."""
        ...


class WholeGradients(Filling):
    """Each rank's gradient is that of its own backward pass.

    Parameters that other ranks of the replica hold alike (``copied``) have buckets of their own.
    """

    def __init__(self, model: torch.nn.Module, bucket_mb: float, copied: Collection[str] = ()) -> None:
        self.buckets = make_buckets(model.named_parameters(), bucket_mb, copied)
        super().__init__(self.buckets)

    def leave_out(self, out: bool) -> None:
        """Slots without work are not run at all."""
        assert not out, "a whole gradient of a slot without work"

    def add_up(self) -> None:
        """The buckets hold this rank's gradient, which is all of it."""

    def let_go(self) -> None:
        """Nothing was gathered."""

    def add_as_integers(self, rounded: Rounded) -> None:
        """Nothing is added up between ranks here."""


class SummedGradients:
    """Gradients of which every rank has a part: those of ``inner``, added up over an axis.

    For ``sp``, where each rank's gradient is that of its own frames. Buckets are summed when they are
    complete over all micro-batches, so that accumulating costs no communication.
    """

    def __init__(self, inner: Gradients, communicator: Communicator) -> None:
        self._inner, self._communicator = inner, communicator
        self.buckets = inner.buckets
        self.discard, self.leave_out, self.complete = inner.discard, inner.leave_out, inner.complete
        self.finish, self.let_go, self.abandon = inner.finish, inner.let_go, inner.abandon

    def watch(self, tell: Tell) -> None:
        """See :class:`Gradients`; a bucket is told of when its sum is there."""

        def summed(bucket: GradBucket) -> None:
            self._communicator.all_reduce(bucket.flat).wait()
            tell(bucket)

        self._inner.watch(summed)

    def add_up(self) -> None:
        """See :class:`Gradients`."""
        self._inner.add_up()
        for bucket in self.buckets:
            self._communicator.all_reduce(bucket.flat).wait()

    def add_as_integers(self, rounded: Rounded) -> None:
        """Refused: what each rank rounds would depend on how the frames were split."""
        raise UsageError(
            "numerics.exact does not go with layout sp: a micro-batch's gradient is summed over its ranks",
            "Leave out numerics.exact, or split by dp_shard or pp instead.",
        )
