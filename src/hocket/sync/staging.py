"""Some of a bucket's gradients side by side, padded so that they cut into whole groups and equal shards."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hocket.core.protocols import GradBucket


class Staging:
    """Where the parameters of a bucket at ``positions`` lie in a buffer of ``num_shards`` equal shards.

    Each begins at a multiple of ``group``, and shards are multiples of it, so that a group belongs to
    one parameter and to one shard. What is between them is padding.
    """

    def __init__(self, bucket: GradBucket, positions: Sequence[int], *, group: int, num_shards: int) -> None:
        self._positions, self._spans = list(positions), []
        start = 0
        for position in positions:
            size = bucket.parameters[position].numel()
            self._spans.append((start, start + size))
            start += -(-size // group) * group
        self.size = start
        """Elements without the padding after the last parameter's groups: the same for any shards."""
        self.shard_size = -(-start // (group * num_shards)) * group
        self.num_shards, self._group = num_shards, group
        self._sources = [view.view(-1) for _, view in bucket.views(bucket.flat)]
        self._sources = [self._sources[position] for position in positions]

    def buffer(self, like: torch.Tensor) -> torch.Tensor:
        """A buffer of zeros, (num_shards, shard_size)."""
        return like.new_zeros((self.num_shards, self.shard_size))

    def fill(self, buffer: torch.Tensor) -> None:
        """Copy the bucket's gradients into ``buffer``; padding stays as it is."""
        if self._positions:
            torch._foreach_copy_(self._views(buffer), self._sources)

    def drain(self, buffer: torch.Tensor) -> None:
        """Copy ``buffer`` back over the bucket's gradients."""
        if self._positions:
            torch._foreach_copy_(self._sources, self._views(buffer))

    def num_real(self) -> torch.Tensor:
        """Elements of each group that are no padding, at least 1; (num_shards * shard_size / group)."""
        real = torch.zeros(self.num_shards * self.shard_size, dtype=torch.float64)
        for start, end in self._spans:
            real[start:end] = 1.0
        return real.view(len(real) // self._group, self._group).sum(1).clamp(min=1.0)

    def padding(self, buffer: torch.Tensor, first: int = 0) -> list[torch.Tensor]:
        """Views of the padding within ``buffer``, which holds the elements from ``first`` on."""
        flat, last = buffer.view(-1), first + buffer.numel()
        ends = [0, *(end for _, end in self._spans)]
        starts = [*(start for start, _ in self._spans), self.num_shards * self.shard_size]
        gaps = [(max(a, first), min(b, last)) for a, b in zip(ends, starts, strict=True)]
        return [flat[a - first : b - first] for a, b in gaps if a < b]

    def _views(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        flat = buffer.view(-1)
        return [flat[start:end] for start, end in self._spans]
