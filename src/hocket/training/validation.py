"""Loss, WER and CER on held-back speech, dealt over the ranks like training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from hocket.batching import assign, cut_by_budget
from hocket.comms.communicator import Communicator
from hocket.core.cost import CostModel
from hocket.core.work import MicroBatchSpec
from hocket.corpus.features import HOP
from hocket.corpus.index import CorpusIndex
from hocket.corpus.loading import Loader
from hocket.corpus.tokens import Tokens
from hocket.decoding import greedy
from hocket.decoding.wer import edits
from hocket.model.ctc import ctc_losses
from hocket.parallel.precision import Precision, autocast


@dataclass(frozen=True)
class ValidationReport:
    """Sums over the split; the same on every rank."""

    loss: float
    """Nats per token, over the utterances that CTC can align."""
    wer: float
    cer: float
    num_utterances: int


class Validation:
    """One split, cut once; every call runs all of it."""

    def __init__(
        self,
        index: CorpusIndex,
        tokens: Tokens,
        loader: Loader,
        cost: CostModel,
        communicator: Communicator | None,
        *,
        batch_seconds: float,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self._index, self._tokens, self._loader, self._communicator = index, tokens, loader, communicator
        self._precision, self._device = precision, device
        frames = np.asarray(index.num_samples) // HOP
        num_tokens = np.asarray(index.num_tokens).astype(np.int64)
        parts = cut_by_budget(frames, int(batch_seconds * 100))
        specs = [
            MicroBatchSpec(
                index=number,
                rows=rows,
                speed_percent=np.full(len(rows), 100),
                num_frames=int(frames[rows].max()),
                num_tokens=int(num_tokens[rows].max()),
                total_frames=int(frames[rows].sum()),
                total_tokens=int(num_tokens[rows].sum()),
                cost=float(cost.micro_batch(len(rows), int(frames[rows].max()))),
            )
            for number, rows in enumerate(parts)
        ]
        self._specs = specs

    def run(self, model: torch.nn.Module) -> ValidationReport:
        """Recognise the split with the weights as they are. Every rank must call."""
        assert self._communicator is not None
        sums = self.part(model, self._communicator.rank, self._communicator.world_size)
        self._communicator.all_reduce(sums).wait()
        return report(sums.tolist())

    @torch.no_grad()
    def part(self, model: torch.nn.Module, place: int, num_places: int) -> torch.Tensor:
        """What one of ``num_places`` workers finds in its part of the split: see :func:`report`."""
        model.eval()
        sums = torch.zeros(7, dtype=torch.float64, device=self._device)
        for number in assign([spec.cost for spec in self._specs], num_places)[place]:
            sums += torch.tensor(
                self._count(model, self._specs[number]), dtype=torch.float64, device=self._device
            )
        model.train()
        return sums

    def _count(self, model: torch.nn.Module, spec: MicroBatchSpec) -> list[float]:
        batch = self._loader.load(spec, 0, 0).to(self._device)
        if not batch.ids:
            return [0.0] * 7
        with autocast(self._precision, self._device):
            logits_BTV, lens_B = model(batch.features_BTF, batch.feature_lens_B, None)
        loss_B = ctc_losses(logits_BTV, lens_B, batch.tokens_BU, batch.token_lens_B)
        aligned_B = loss_B.isfinite()
        counts = [
            float(loss_B[aligned_B].sum()),
            float(batch.token_lens_B[aligned_B].sum()),
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
        ]
        left_out = {utterance for utterance, _ in batch.dropped}
        texts = [self._index.utterance(row).text for row in spec.rows if self._index.id(row) not in left_out]
        for ref, ids in zip(texts, greedy(logits_BTV, lens_B, self._tokens.blank), strict=True):
            ref_words, hyp_words = ref.split(), self._tokens.decode(ids).split()
            counts[2] += edits(ref_words, hyp_words).errors
            counts[3] += len(ref_words)
            counts[4] += Levenshtein.distance(" ".join(ref_words), " ".join(hyp_words))
            counts[5] += len(" ".join(ref_words))
            counts[6] += 1
        return counts


def report(sums: Sequence[float]) -> ValidationReport:
    """From the sum over all parts: loss, tokens, word errors, words, character errors, characters, count."""
    loss, num_tokens, word_errors, words, char_errors, chars, utterances = sums
    return ValidationReport(
        loss=loss / max(num_tokens, 1),
        wer=word_errors / max(words, 1),
        cer=char_errors / max(chars, 1),
        num_utterances=round(utterances),
    )
