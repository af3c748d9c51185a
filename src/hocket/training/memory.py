"""What a run does when a micro-batch does not fit the memory: smaller pieces, the same gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from hocket.comms.communicator import Communicator
from hocket.core.errors import RunError, UsageError
from hocket.core.work import GlobalBatch, MicroBatch
from hocket.hardware.memory import MemoryLimit
from hocket.model.workload import Polynomial
from hocket.training.recipe import MemorySettings


class MemoryGuard:
    """Knows from what size on micro-batches have not fitted, the same on every rank, and cuts them smaller.

    ``size`` says how much memory micro-batches take beside each other, over (utterances, frames).
    """

    def __init__(
        self,
        settings: MemorySettings,
        communicator: Communicator,
        size: Polynomial,
        *,
        device: torch.device,
        can_repeat: bool,
    ) -> None:
        if settings.limit_mb is not None and device.type != "cpu":
            raise UsageError(
                f"memory.limit_mb {settings.limit_mb}: of the host's memory, and this worker computes on "
                f"{device.type}",
                "Leave it out, or give device: cpu.",
            )
        self._communicator, self._size, self._device = communicator, size, device
        self._limit = None if settings.limit_mb is None else MemoryLimit(settings.limit_mb)
        wanted = settings.when_full
        self.splits = can_repeat and (wanted == "split" or (wanted == "auto" and device.type == "cpu"))
        self._failed_at = math.inf
        self._failed_alone = -1

    @property
    def peak_mb(self) -> float | None:
        """The most that this worker held while it computed, in MiB; None without a limit."""
        return None if self._limit is None else self._limit.peak_mb

    def computing(self) -> AbstractContextManager[None]:
        """While inside, the limit holds; without a limit nothing is different."""
        return nullcontext() if self._limit is None else self._limit.watching()

    def num_pieces(self, num_utterances: int, num_frames: int) -> int:
        """Into how many a micro-batch must be cut so that no piece is as large as one that did not fit.

        Raises :class:`RunError` when one utterance alone is.
        """
        pieces = 1
        while self._size(-(-num_utterances // pieces), num_frames) >= self._failed_at:
            if pieces >= num_utterances:
                raise RunError(
                    f"an utterance padded to {num_frames / 100:g} s does not fit the memory, alone as it is",
                    "Leave such utterances out when preparing the corpus, take a smaller model, or raise "
                    "memory.limit_mb where it is set.",
                )
            pieces += 1
        return pieces

    def cut(self, micro_batches: Sequence[MicroBatch]) -> list[MicroBatch]:
        """Micro-batches, those that are too large in pieces."""
        if math.isinf(self._failed_at):
            return list(micro_batches)
        pieces: list[MicroBatch] = []
        for each in micro_batches:
            number = self.num_pieces(len(each.ids), each.features_BTF.shape[1])
            pieces += [each] if number == 1 else each.pieces(number)
        return pieces

    def note(self, failed: MicroBatch) -> None:
        """A micro-batch or piece did not fit, on this rank."""
        self._failed_at = min(self._failed_at, self._size(len(failed.ids), failed.features_BTF.shape[1]))

    def agree(self, batch: GlobalBatch, failed: MicroBatch | None) -> list[dict[str, Any]]:
        """After a step that some rank had no memory for: all learn what did not fit; for the record.

        Raises :class:`RunError` on every rank when no smaller cut is left.
        """
        told = torch.zeros((len(batch.micro_batches), 2), dtype=torch.int64, device=self._device)
        if failed is not None:
            told[failed.index] = torch.tensor([len(failed.ids), self._communicator.rank])
        self._communicator.all_reduce(told).wait()
        found = []
        again = self._failed_alone == batch.step
        for spec, (num_utterances, rank) in zip(batch.micro_batches, told.tolist(), strict=True):
            if num_utterances > 1 or (num_utterances and again):
                self._failed_at = min(self._failed_at, self._size(num_utterances, spec.num_frames))
            elif num_utterances:  # not to be cut: what was freed meanwhile may be enough, once
                self._failed_alone = batch.step
            if num_utterances:
                found.append({"rank": rank, "utterances": num_utterances, "frames": spec.num_frames})
        for spec in batch.micro_batches:
            self.num_pieces(spec.num_utterances, spec.num_frames)
        return found

    def agree_at_start(self) -> bool:
        """All ranks know what did not fit any of them; True when something did not."""
        mine = torch.tensor([self._failed_at], dtype=torch.float64, device=self._device)
        self._failed_at = min(float(each) for each in self._communicator.all_gather(mine))
        return math.isfinite(self._failed_at)
