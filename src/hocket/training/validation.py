"""Loss, WER and CER on held-back speech, dealt over the ranks like training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from hocket.batching import cut_by_budget, deal
from hocket.comms.heartbeat import WAITING
from hocket.core.cost import CostModel
from hocket.core.protocols import Replica
from hocket.core.work import EMPTY, MicroBatch, MicroBatchSpec
from hocket.corpus.features import HOP
from hocket.corpus.index import CorpusIndex
from hocket.corpus.loading import Loader
from hocket.corpus.mixture import CorpusMixture
from hocket.corpus.tokens import Tokens
from hocket.decoding.greedy import paths_of
from hocket.decoding.wer import edits
from hocket.training.seat import Seat

LOSS_BITS = 30
"""A loss of 1 nat is the integer 2**30. Sums of integers depend on no order, so that a run stops at the same
validation on any number of workers."""


@dataclass(frozen=True)
class Scores:
    """Means over some utterances; bit for bit the same on every rank, and for any number of them."""

    loss: float
    """Nats per token, over the utterances that CTC can align."""
    wer: float
    cer: float
    num_utterances: int

    @classmethod
    def of(cls, sums: Sequence[int]) -> Self:
        """From the sums that :meth:`Validation.run` makes."""
        loss, num_tokens, word_errors, words, char_errors, chars, utterances = sums
        return cls(
            loss=loss * 2.0**-LOSS_BITS / max(num_tokens, 1),
            wer=word_errors / max(words, 1),
            cer=char_errors / max(chars, 1),
            num_utterances=utterances,
        )


@dataclass(frozen=True)
class ValidationReport(Scores):
    """Of the whole split: every utterance counts alike, of whatever corpus."""

    by_corpus: dict[str, Scores] = field(default_factory=dict)
    """Of each corpus's part, where several are mixed."""


def report(sums: Sequence[Sequence[int]], corpora: Sequence[str]) -> ValidationReport:
    """From the sums over all parts of a validation: a row of :meth:`Scores.of` for each corpus."""
    whole = ValidationReport.of([sum(column) for column in zip(*sums, strict=True)])
    if len(sums) == 1:
        return whole
    return replace(whole, by_corpus={name: Scores.of(part) for name, part in zip(corpora, sums, strict=True)})


class Validation:
    """One split of one corpus or some, each cut once and all dealt together; every call runs all of it."""

    def __init__(
        self,
        corpora: CorpusMixture,
        tokens: Tokens,
        loader: Loader,
        cost: CostModel,
        seat: Seat | None,
        *,
        batch_seconds: float,
        device: torch.device,
    ) -> None:
        self._corpora, self._tokens, self._loader, self._seat = corpora, tokens, loader, seat
        self._device = device
        specs = [
            (number, spec)
            for number, member in enumerate(corpora.members)
            for spec in _cut(
                member.index, corpora.ends[number] - len(member.index), int(batch_seconds * 100), cost
            )
        ]
        self._specs = specs

    def run(self, replica: Replica, beat: Callable[[str], None]) -> ValidationReport:
        """Recognise the split with the weights as they are. Every rank must call.

        For ``beat`` see :meth:`part`.
        """
        assert self._seat is not None
        layout = self._seat.layout
        mine = (self._seat.replica, self._seat.group)
        sums = self.part(replica, mine, (layout.dp_replicate, layout.dp_shard), beat)
        if not replica.speaks:
            sums.zero_()
        beat(WAITING)
        self._seat.world.all_reduce(sums).wait()
        return report(sums.tolist(), [member.name for member in self._corpora.members])

    def part(
        self, replica: Replica, place: tuple[int, int], degrees: tuple[int, int], beat: Callable[[str], None]
    ) -> torch.Tensor:
        """What is found in a part of the split (see :func:`report`) by one group of ranks of one replica.

        ``place`` is (replica, group) and ``degrees`` how many there are of each. ``beat`` is a
        heartbeat's, so that neither a large split nor other ranks count as a silence of this one.
        """
        replica.model.eval()
        sums = torch.zeros((len(self._corpora.members), 7), dtype=torch.int64, device=self._device)
        for number in deal([spec.cost for _, spec in self._specs], *degrees).of(*place):
            beat("validating")
            corpus, spec = (0, EMPTY) if number is None else self._specs[number]
            sums[corpus] += torch.tensor(self._count(replica, spec), device=self._device)
        replica.model.train()
        return sums

    def _count(self, replica: Replica, spec: MicroBatchSpec) -> list[int]:
        batch: MicroBatch = self._loader.load(spec, 0, 0).to(self._device)
        found = replica.evaluate(batch)
        if found is None:
            return [0] * 7
        loss_B, lens_B = found.losses_B, found.lens_B
        aligned_B = loss_B.isfinite()
        counts = [
            round(float(loss_B[aligned_B].sum()) * 2.0**LOSS_BITS),
            int(batch.token_lens_B[aligned_B].sum()),
            *[0] * 5,
        ]
        left_out = {utterance for utterance, _ in batch.dropped}
        rows = [row for row in spec.rows.tolist() if self._corpora.id(row) not in left_out]
        texts = [self._corpora.utterance(row).text for row in rows]
        for ref, path in zip(texts, paths_of(found.best_BT, lens_B, self._tokens.blank), strict=True):
            ref_words, hyp_words = ref.split(), self._tokens.decode(path.tokens).split()
            counts[2] += edits(ref_words, hyp_words).errors
            counts[3] += len(ref_words)
            counts[4] += Levenshtein.distance(" ".join(ref_words), " ".join(hyp_words))
            counts[5] += len(" ".join(ref_words))
            counts[6] += 1
        return counts


def _cut(index: CorpusIndex, first_row: int, max_frames: int, cost: CostModel) -> Iterator[MicroBatchSpec]:
    """A split in micro-batches; ``first_row`` is where its rows begin among those of all corpora."""
    frames = np.asarray(index.num_samples) // HOP
    num_tokens = np.asarray(index.num_tokens).astype(np.int64)
    for number, rows in enumerate(cut_by_budget(frames, max_frames)):
        longest = int(frames[rows].max())
        yield MicroBatchSpec(
            index=number,
            rows=rows + first_row,
            speed_percent=np.full(len(rows), 100),
            num_frames=longest,
            num_tokens=int(num_tokens[rows].max()),
            total_frames=int(frames[rows].sum()),
            total_tokens=int(num_tokens[rows].sum()),
            cost=float(cost.micro_batch(len(rows), longest)),
        )
