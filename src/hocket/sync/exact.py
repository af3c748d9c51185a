"""Exact all-reduce: gradients as integers, so that no order of adding can change a bit.

Each micro-batch's gradient is taken alone, scaled by a power of two that is the same under any
layout, rounded to int64, and added as integers. Integer addition is associative, so the sum does
not depend on who computed what, nor in which order it was added. The losses and the clipping norm
are summed in the same way. Fixed-point accumulation for reproducible sums is an old idea: see
Demmel & Nguyen, "Parallel Reproducible Summation", IEEE Trans. Computers 2015.

Costs: 8 bytes a parameter for the sum, twice the bytes of fp32 on the wire, three passes over the
gradient a micro-batch, and no overlap of communication with the backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from hocket.comms.communicator import Communicator
from hocket.core import clock
from hocket.core.protocols import GradBucket, PendingReport, RankPart, Replica
from hocket.core.work import GlobalBatch
from hocket.sync.agreement import DeviceReport, SharedFacts, clip_factor, step_or_skip
from hocket.sync.state import expect

GRADIENT_BITS = 40
"""A gradient of 1 is 2**40: steps of 1e-12, and sums up to 4 million."""

LOSS_BITS = 30
_LIMIT = float(2**62)


class ExactAllReduce:
    """:class:`hocket.sync.all_reduce.AllReduce`, bit for bit the same for any number of replicas."""

    per_micro_batch = True
    per_replica_optimiser = False

    def __init__(self, communicator: Communicator, *, max_grad_norm: float) -> None:
        self._communicator = communicator
        self._max_grad_norm = max_grad_norm

    def attach(self, replica: Replica) -> None:
        """Allocate one int64 sum for each bucket."""
        self._buckets = replica.buckets
        self._sums = [torch.zeros_like(bucket.flat, dtype=torch.int64) for bucket in self._buckets]
        self._inside, self._speaks = replica.inside, replica.speaks
        self._facts = SharedFacts(self._communicator, replica)
        self._num_parameters = self._of_all(
            torch.tensor(sum(bucket.flat.numel() for bucket in self._buckets), device=replica.device)
        )
        self._bad = torch.zeros((), device=replica.device)
        replica.add_as_integers(self._rounded)

    def _of_all(self, number: torch.Tensor) -> int:
        """The sum of an integer over the ranks of the replica."""
        total = number.to(torch.int64)
        self._inside.all_reduce(total).wait()
        return int(total)

    def begin_step(self, batch: GlobalBatch, *, settle: bool) -> None:
        """Clear the sums. Each micro-batch may use its share of the integers' range and no more."""
        self._tokens = max(1, batch.total_tokens)
        self._share = _LIMIT / max(1, len(batch.micro_batches))
        for total in self._sums:
            total.zero_()
        self._bad.zero_()

    def on_grad_ready(self, bucket: GradBucket) -> None:
        """Not used: a bucket holds one micro-batch's gradient only."""

    def on_micro_batch(self, position: int) -> None:
        """Add the buckets' gradient, as integers: those that the replica added up, or of this rank's."""
        for bucket, total in zip(self._buckets, self._sums, strict=True):
            total += self._rounded(bucket.flat) if bucket.integers is None else bucket.integers

    def _rounded(self, gradient: torch.Tensor) -> torch.Tensor:
        """One micro-batch's gradient as int64; zeros, and a bad mark, where it is out of its range."""
        if not gradient.numel():
            return gradient.to(torch.int64)
        scaled = gradient.to(torch.float64).mul_(2.0**GRADIENT_BITS).round_()
        inside = scaled.abs().max() < self._share  # false for a NaN, too
        self._bad += (~inside).to(self._bad.dtype)
        return torch.where(inside, scaled, 0.0).to(torch.int64)

    def step(self, optimizer: torch.optim.Optimizer, part: RankPart) -> PendingReport:
        """Add the integers of all ranks, divide by tokens, clip, and step."""
        start, sent_before = clock.monotonic(), self._communicator.bytes_sent
        facts, facts_handle = self._facts.send(part, self._bad)
        loss = torch.zeros(1, dtype=torch.int64, device=self._bad.device)
        for result in part.results:
            loss += (
                (result.loss.to(torch.float64).nan_to_num(0.0, 0.0, 0.0) * 2.0**LOSS_BITS)
                .round()
                .to(torch.int64)
            )
        if not self._speaks:
            loss.zero_()
        self._inside.all_reduce(loss).wait()
        handles = [self._communicator.all_reduce(total) for total in (*self._sums, loss)]
        for handle in (facts_handle, *handles):
            handle.wait()
        waited = clock.monotonic() - start

        facts[0] = loss[0].to(torch.float64) * 2.0**-LOSS_BITS
        norm = self._norm() / self._tokens
        factor = clip_factor(norm, self._max_grad_norm) * (2.0**-GRADIENT_BITS / self._tokens)
        for bucket, total in zip(self._buckets, self._sums, strict=True):
            bucket.flat.copy_(total.to(torch.float64).mul_(factor))
        skipped = step_or_skip(optimizer, facts[1], norm)
        return DeviceReport(facts, norm, skipped, waited, self._communicator.bytes_sent - sent_before)

    def _norm(self) -> torch.Tensor:
        """Norm of the summed gradient from integers alone (0-d float64): the same for any cut.

        Squares are scaled by the power of two above the largest gradient, which is a maximum and so
        does not depend on an order, and by what lets their sum over all parameters fit 63 bits.
        """
        largest = torch.stack([total.abs().max() for total in self._sums if total.numel()]).max()
        if self._inside.world_size > 1:
            largest = torch.stack(self._inside.all_gather(largest)).max()
        largest = largest.to(torch.float64)
        exponent = torch.frexp(largest).exponent
        bits = 62 - self._num_parameters.bit_length()
        squares = torch.zeros((), dtype=torch.int64, device=largest.device)
        for total in self._sums:
            scaled = torch.ldexp(total.to(torch.float64), -exponent).square_().mul_(2.0**bits).round_()
            squares += scaled.to(torch.int64).sum()
        self._inside.all_reduce(squares).wait()
        root = (squares.to(torch.float64) * 2.0**-bits).sqrt()
        return torch.ldexp(root, exponent - GRADIENT_BITS)

    def consistent_point(self) -> bool:
        """Always: replicas agree after every step."""
        return True

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Nothing outlives a step."""
        return {}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Nothing to take up, so nothing may be there."""
        expect(state, ())
