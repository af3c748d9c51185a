"""Hogwild: workers of one host write into the same weights, without a lock.

Recht, Ré, Wright & Niu, *Hogwild!: A Lock-Free Approach to Parallelizing Stochastic Gradient Descent*,
NIPS 2011. Weights and optimiser state lie in files that all workers map into their memory; an update
may overwrite a part of another's. That pays where gradients are sparse; it is the measure of what no
communication at all would bring.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from hocket.core.errors import UsageError
from hocket.core.protocols import Contribution, Lease, LeasedStrategy, MicroBatchResult, Replica
from hocket.sync.flat import FlatOptimiser, FlatState, OptimiserSpec, flatten_weights, spans
from hocket.sync.leased import LeasedContext, LeasedSettings, clip, norm_per_token, only_bucket

_MEMORY = Path("/dev/shm")
MAX_WORKERS = 1024


class HogwildSettings(LeasedSettings):
    """Shared memory without locks."""

    name: Literal["hogwild"] = "hogwild"

    def make_worker(self, context: LeasedContext) -> LeasedStrategy:
        """See :class:`Hogwild`."""
        return Hogwild(optimiser=context.optimiser, max_grad_norm=context.max_grad_norm, rank=context.rank)


class SharedState:
    """A :class:`FlatState` in files that any process of this host can map, and counts of updates."""

    def __init__(self, folder: Path, size: int, dtype: torch.dtype, slots: Sequence[str]) -> None:
        self.folder = folder
        self.weights = _map(folder / "weights", size, dtype)
        self.slots = {name: _map(folder / name, size, dtype) for name in slots}
        self.counts = _map(folder / "counts", MAX_WORKERS, torch.int64)
        """Updates of each worker: every one writes its own place, so no count is lost."""

    @classmethod
    def create(cls, state: FlatState) -> SharedState:
        """Put ``state`` into a new folder in memory (or the temporary folder where there is none)."""
        folder = Path(tempfile.mkdtemp(prefix="hocket-", dir=_MEMORY if _MEMORY.is_dir() else None))
        shared = cls(folder, state.weights.numel(), state.weights.dtype, sorted(state.slots))
        shared.weights.copy_(state.weights)
        for name, value in state.slots.items():
            shared.slots[name].copy_(value)
        return shared

    def remove(self) -> None:
        """Delete the files; who has mapped them keeps the memory until it ends."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Hogwild:
    """One worker: its replica computes on the shared weights themselves."""

    def __init__(self, *, optimiser: OptimiserSpec, max_grad_norm: float, rank: int) -> None:
        self._spec, self._max_grad_norm, self._rank = optimiser, max_grad_norm, rank
        self._shared: SharedState | None = None

    def attach(self, replica: Replica) -> None:
        """Raises :class:`UsageError` on a device that has no memory to share."""
        if replica.device.type != "cpu":
            raise UsageError(
                f"sync.name hogwild: workers on {replica.device.type} share no memory",
                "Set device: cpu, or choose another strategy.",
            )
        self._bucket = only_bucket(replica)

    def join(self, facts: dict[str, Any]) -> None:
        """Map the shared weights."""
        if self._shared is not None:
            return
        flat = self._bucket.flat
        self._shared = SharedState(Path(facts["memory"]), flat.numel(), flat.dtype, self._spec.slots)
        flatten_weights(self._bucket, into=self._shared.weights)
        self._optimiser = FlatOptimiser(
            self._spec, spans(self._bucket), self._shared.weights, flat, self._shared.slots
        )
        self._first = facts["num_updates"]

    def prepare(self, lease: Lease) -> None:
        """The weights are there; remember how often they had been updated."""
        self._seen = self._num_updates()

    def contribute(self, lease: Lease, results: Sequence[MicroBatchResult]) -> Contribution:
        """Update the shared weights; the step is as long as this part's share of a global batch."""
        assert self._shared is not None
        norm = norm_per_token(self._bucket, lease.tokens, results)
        staleness = self._num_updates() - self._seen
        if not math.isfinite(norm):
            return Contribution(0.0, staleness, skipped=True)
        self._bucket.flat.mul_(clip(norm, self._max_grad_norm) / max(1, lease.tokens))
        self._optimiser.num_updates = self._first + self._num_updates()
        self._optimiser.step(lease.lr * lease.share)
        self._shared.counts[self._rank] += 1
        return Contribution(norm, staleness)

    def rest(self) -> None:
        """Nothing is kept back."""

    def give(self) -> tuple[list[torch.Tensor], float]:
        """Not asked: the state lies in shared memory."""
        raise NotImplementedError("the state of hogwild lies in shared memory")

    def take(self, tensors: Sequence[torch.Tensor], num_updates: float) -> None:
        """Not needed: the weights are shared."""

    def refresh(self) -> None:
        """Not needed: the weights are shared."""

    def tell(self) -> dict[str, float]:
        """Nothing goes over a wire."""
        return {"bytes_sent": 0.0, "bytes_received": 0.0}

    def close(self) -> None:
        """Nothing to end."""

    def _num_updates(self) -> int:
        assert self._shared is not None
        return int(self._shared.counts.sum())


def _map(path: Path, size: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_file(str(path), shared=True, size=size, dtype=dtype)
