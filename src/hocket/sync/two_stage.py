"""A sum in two stages of coded numbers: each rank adds up one shard, then tells all what came out.

First every rank sends each shard, coded, to the rank that owns it (a reduce-scatter); the owner decodes,
adds in full precision, codes the sum, and sends it to all (an all-gather). So every number crosses the
wire coded, both ways, and on N ranks 2 (N - 1) / N times as in a ring.

With error feedback, what coding left out is kept and added to the next round's numbers: on every rank
for what it sent (``residual``), on the owner for what it told (``owned``). Nothing is ever lost: all
sums told so far, all residuals and owned together are the sum of all gradients so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from hocket.comms.communicator import Communicator, Handle
from hocket.core.protocols import GradBucket
from hocket.sync.codecs import Codec
from hocket.sync.residuals import load_residuals, residual_names, store_residuals
from hocket.sync.staging import Staging
from hocket.sync.state import expect


@dataclass
class _Stage:
    """A bucket's place in the exchange. Legend: N ranks, S numbers of a shard."""

    bucket: GradBucket
    staging: Staging
    dense: Staging
    """What is sent as it is."""

    wire_NW: torch.Tensor = field(init=False)
    """Where what comes is laid."""

    going: torch.Tensor = field(init=False)
    """What is under way from here: it must live until it has arrived."""

    def prepare(self, communicator: Communicator, group: int, error_feedback: bool) -> None:
        flat = self.bucket.flat
        self.sent_NS = self.staging.buffer(flat)
        self.agreed_NS = self.staging.buffer(flat)
        self.told_1S = flat.new_zeros((1, self.staging.shard_size))
        self.dense_values = self.dense.buffer(flat)
        own = communicator.rank * self.staging.shard_size
        self.padding = self.staging.padding(self.sent_NS)
        self.told_padding = self.staging.padding(self.told_1S, own)
        num_real = self.staging.num_real().to(device=flat.device, dtype=flat.dtype)
        self.num_real_G = num_real
        self.num_real_of_told = num_real[own // group :][: self.staging.shard_size // group]
        if error_feedback:
            self.residual_NS = self.staging.buffer(flat)
            self.owned_1S = torch.zeros_like(self.told_1S)
        self.under_way: list[Handle] = []


class TwoStageExchange:
    """See the module; an :class:`hocket.sync.exchange.Exchange`."""

    def __init__(
        self,
        communicator: Communicator,
        buckets: Sequence[GradBucket],
        codec: Codec,
        *,
        error_feedback: bool,
        matrices_only: bool,
    ) -> None:
        """``matrices_only`` sends tensors of one dimension as they are: biases and norms, a hundredth."""
        self._communicator, self._codec, self._error_feedback = communicator, codec, error_feedback
        self._stages: list[_Stage] = []
        for bucket in buckets:
            coded = [p for p, w in enumerate(bucket.parameters) if w.dim() > 1 or not matrices_only]
            dense = [p for p in range(len(bucket.parameters)) if p not in coded]
            stage = _Stage(
                bucket,
                Staging(bucket, coded, group=codec.group, num_shards=communicator.world_size),
                Staging(bucket, dense, group=1, num_shards=1),
            )
            stage.prepare(communicator, codec.group, error_feedback)
            self._stages.append(stage)
        self._forwarded = False

    def start(self, bucket: GradBucket, scale: float) -> None:
        """Code the bucket and send each shard to its owner."""
        stage = self._stages[bucket.index]
        if stage.dense.size:
            stage.dense.fill(stage.dense_values)
            stage.under_way.append(self._communicator.all_reduce(stage.dense_values.mul_(scale)))
        if stage.staging.size:
            stage.staging.fill(stage.sent_NS)
            if self._error_feedback:
                torch.add(stage.residual_NS, stage.sent_NS, alpha=scale, out=stage.sent_NS)
            else:
                stage.sent_NS.mul_(scale)
            stage.going = self._codec.encode(stage.sent_NS, stage.num_real_G)
            stage.wire_NW = torch.empty_like(stage.going)
            stage.under_way.append(self._communicator.all_to_all(stage.wire_NW, stage.going))
        self._forwarded = False

    def forward(self) -> None:
        """Add up the own shard of every bucket, and send the sums to all."""
        if self._forwarded:
            return
        self._forwarded = True
        for stage in self._stages:
            _wait(stage)
            if not stage.staging.size:
                continue
            self._codec.decode(stage.wire_NW, stage.agreed_NS)
            torch.sum(stage.agreed_NS, 0, keepdim=True, out=stage.told_1S)
            if self._error_feedback:
                stage.told_1S.add_(stage.owned_1S)
            _zero(stage.told_padding)
            stage.going = self._codec.encode(stage.told_1S, stage.num_real_of_told)
            stage.under_way.append(self._communicator.all_gather_into(stage.wire_NW, stage.going[0]))

    def finish(self) -> float:
        """Fill the buckets with the sums that all owners told."""
        self.forward()
        for stage in self._stages:
            _wait(stage)
            stage.dense.drain(stage.dense_values)
            if stage.staging.size:
                self._codec.decode(stage.wire_NW, stage.agreed_NS)
                stage.staging.drain(stage.agreed_NS)
        return 1.0

    def settle(self, skipped: torch.Tensor) -> None:
        """Keep what coding left out, or when the sums were thrown away what was kept before."""
        if not self._error_feedback:
            return
        keep = skipped > 0
        for stage in self._stages:
            _zero(stage.padding)
            _zero(stage.told_padding)
            torch.where(keep, stage.residual_NS, stage.sent_NS, out=stage.residual_NS)
            torch.where(keep, stage.owned_1S, stage.told_1S, out=stage.owned_1S)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Residuals of this rank, what it owns, and how the buckets were cut."""
        if not self._error_feedback:
            return {}
        state = store_residuals(self._residuals(), self._communicator)
        state[f"owned.{self._communicator.rank}"] = torch.cat([s.owned_1S[0] for s in self._stages])
        state["sizes"] = torch.tensor([stage.staging.size for stage in self._stages])
        return state

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """The same number of ranks takes up its own; any other shares out the sum of all evenly."""
        expect(state, ["residual.*", "owned.*", "sizes"] if self._error_feedback else [])
        if not self._error_feedback:
            return
        rank, world_size = self._communicator.rank, self._communicator.world_size
        load_residuals(self._residuals(), state, self._communicator)
        for stage in self._stages:
            stage.owned_1S.zero_()
        sizes = [int(size) for size in state["sizes"]]
        same_cut = sizes == [stage.staging.size for stage in self._stages]
        if same_cut and len(residual_names(state)) == world_size:
            owned = torch.split(state[f"owned.{rank}"], [stage.staging.shard_size for stage in self._stages])
            for stage, part in zip(self._stages, owned, strict=True):
                stage.owned_1S[0].copy_(part)
            return
        whole = self._owned_by_all(state, sizes) / world_size
        for residual, part in zip(
            self._residuals(), torch.split(whole, [r.numel() for r in self._residuals()]), strict=True
        ):
            residual.add_(part.to(residual.device))

    def _owned_by_all(self, state: Mapping[str, torch.Tensor], sizes: list[int]) -> torch.Tensor:
        """What all ranks of the checkpoint owned, in the order of the residuals."""
        num_owners = len(residual_names(state))
        group = self._codec.group
        shards = [-(-size // (group * num_owners)) * group for size in sizes]
        owned = [torch.split(state[f"owned.{owner}"], shards) for owner in range(num_owners)]
        return torch.cat([torch.cat([parts[b] for parts in owned])[:size] for b, size in enumerate(sizes)])

    def _residuals(self) -> list[torch.Tensor]:
        return [stage.residual_NS.view(-1)[: stage.staging.size] for stage in self._stages]


def _wait(stage: _Stage) -> None:
    for handle in stage.under_way:
        handle.wait()
    stage.under_way.clear()


def _zero(views: list[torch.Tensor]) -> None:
    if views:
        torch._foreach_zero_(views)
