"""The atom of work: a micro-batch, first as planned, then as tensors.

Shape suffixes: B utterances, T feature frames, F mel bins, U tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MicroBatchSpec:
    """A micro-batch as all ranks know it from the plan, before any audio is read.

    ``rows`` are rows of the corpus index; ``speed_percent`` the speed factor of each (100 leaves it
    as it is); ``passes`` the how-manieth time each is learnt from, from 0 (None: the epoch);
    ``num_frames`` and ``num_tokens`` the padded sizes; ``total_tokens`` and ``total_frames`` the sums
    without padding; ``cost`` the predicted seconds.
    """

    index: int
    rows: I64
    speed_percent: I64
    num_frames: int
    num_tokens: int
    total_frames: int
    total_tokens: int
    cost: float
    passes: I64 | None = None

    @property
    def num_utterances(self) -> int:
        """Utterances in the micro-batch; may be 0 when the corpus is tiny."""
        return len(self.rows)


EMPTY = MicroBatchSpec(-1, np.zeros(0, np.int64), np.zeros(0, np.int64), 0, 0, 0, 0, 0.0)
"""A slot without work."""


@dataclass(frozen=True)
class GlobalBatch:
    """The micro-batches of one optimiser step, the same on every rank."""

    epoch: int
    step: int
    """Optimiser step of the run, from 0."""
    micro_batches: tuple[MicroBatchSpec, ...]
    probe: bool = False
    """Its micro-batches are random samples of the corpus: the noise of gradients is measured."""

    @property
    def num_utterances(self) -> int:
        """Utterances of the step."""
        return sum(m.num_utterances for m in self.micro_batches)

    @property
    def total_tokens(self) -> int:
        """Tokens of the step: the integer that the sum of losses is divided by."""
        return sum(m.total_tokens for m in self.micro_batches)

    @property
    def total_frames(self) -> int:
        """Feature frames of the step without padding."""
        return sum(m.total_frames for m in self.micro_batches)

    @property
    def padded_frames(self) -> int:
        """Feature frames of the step with padding."""
        return sum(m.num_utterances * m.num_frames for m in self.micro_batches)


@dataclass
class MicroBatch:
    """A micro-batch as tensors. An utterance that could not be read is left out and listed."""

    index: int
    ids: list[str]
    features_BTF: torch.Tensor
    feature_lens_B: torch.Tensor
    tokens_BU: torch.Tensor
    token_lens_B: torch.Tensor
    dropout_key: int = 0
    """Key of (seed, step, micro-batch): with a site's name it gives that site's dropout mask."""
    num_views: int = 1
    """How often each utterance is among the rows of ``features_BTF``: all once, then all again."""
    dropped: list[tuple[str, str]] = field(default_factory=list)
    """(id, reason) of utterances that could not be read."""
    keys: tuple[int, ...] = ()
    """Of the utterances in it: what randomness is keyed by."""
    rows_R: torch.Tensor | None = None
    """Of a piece: which rows of the whole micro-batch's features these are; None of a whole one."""

    def pieces(self, num_pieces: int) -> list[MicroBatch]:
        """The same utterances in ``num_pieces`` parts, padded as they are, each with its rows' dropout.

        The sum of the pieces' losses is the loss of the whole. What could not be read, and whose keys
        it has, the first piece tells for all.
        """
        whole, pieces = len(self.ids), []
        for number, part in enumerate(torch.arange(whole).chunk(max(1, num_pieces))):
            rows_R = torch.cat([part + view * whole for view in range(self.num_views)])
            pieces.append(
                replace(
                    self,
                    ids=[self.ids[position] for position in part.tolist()],
                    features_BTF=self.features_BTF[rows_R],
                    feature_lens_B=self.feature_lens_B[part],
                    tokens_BU=self.tokens_BU[part],
                    token_lens_B=self.token_lens_B[part],
                    dropped=self.dropped if number == 0 else [],
                    keys=self.keys if number == 0 else (),
                    rows_R=rows_R if self.rows_R is None else self.rows_R[rows_R],
                )
            )
        return pieces or [self]

    def to(self, device: torch.device) -> MicroBatch:
        """The same micro-batch with its tensors on ``device``; copies do not wait for each other."""
        move = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("features_BTF", "feature_lens_B", "tokens_BU", "token_lens_B", "rows_R")
            if getattr(self, name) is not None
        }
        return replace(self, **move)
