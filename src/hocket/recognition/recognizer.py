"""Audio in, words out, in this process: the Python API of recognition.

Shape suffixes: B utterances, T feature frames, F mel bins, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hocket import batching
from hocket.core import clock
from hocket.core.errors import AudioError, UsageError
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP
from hocket.corpus.tokens import Tokens
from hocket.decoding import Transcript
from hocket.decoding.vocabulary import Vocabulary
from hocket.model import FastConformerCTC
from hocket.recognition import opening
from hocket.recognition.encoders import Encoder, Samples, TorchEncoder
from hocket.recognition.hypotheses import Hypothesis
from hocket.recognition.opening import Precision, check_precision
from hocket.recognition.plan import BATCH_SECONDS
from hocket.recognition.search import Search, SearchSettings


@dataclass(frozen=True)
class BatchAnswer:
    """Transcripts of a micro-batch; None where the model's output was not finite."""

    transcripts: tuple[Transcript | None, ...]
    encode_seconds: float
    decode_seconds: float


class Recognizer:
    """What computes, its tokens and a search, ready to recognise."""

    def __init__(
        self,
        model: FastConformerCTC | Encoder,
        tokens: Tokens | Vocabulary,
        device: torch.device | None = None,
        precision: Precision = "fp32",
        search: SearchSettings | None = None,
    ) -> None:
        check_precision(precision)
        vocabulary = Vocabulary.of(tokens) if isinstance(tokens, Tokens) else tokens
        if isinstance(model, FastConformerCTC):
            model = TorchEncoder(model, device or torch.device("cpu"), precision)
        if vocabulary.vocab_size != model.vocab_size:
            raise UsageError(
                f"the model writes {model.vocab_size} tokens, the token set has {vocabulary.vocab_size}"
            )
        self._encoder: Encoder = model
        self._search = Search(search or SearchSettings(), vocabulary, model.frame_seconds)

    @staticmethod
    def load(
        name: str | Path,
        device: str = "auto",
        precision: Precision = "fp32",
        slot: int = 0,
        threads: int = 1,
        search: SearchSettings | None = None,
    ) -> Recognizer:
        """Load ``RUN``, ``RUN/model``, an exported folder, or ``hf:FOLDER``.

        ``slot`` chooses the GPU where there are several; ``threads`` are ONNX Runtime's, torch's are
        the process's own. Raises :class:`UsageError` when the device is not there, and what
        :mod:`~hocket.recognition.opening` raises when the folder is no model.
        """
        encoder, vocabulary = opening.load(opening.find(name), device, precision, slot, threads)
        return Recognizer(encoder, vocabulary, search=search)

    def features(self, waveform: Samples) -> torch.Tensor:
        """What the model hears of one utterance (N,), 16 kHz mono float32; time comes first."""
        return self._encoder.features(waveform)

    def transcribe(
        self, waveforms: Sequence[Samples], *, batch_seconds: float = BATCH_SECONDS, max_utterances: int = 256
    ) -> list[Hypothesis]:
        """Recognise waveforms (N,), 16 kHz mono float32; ids are their positions.

        They are cut into the same micro-batches as a job would cut them, so the answers are the
        same. Raises :class:`AudioError` for a waveform that is too short or not finite.
        """
        for position, waveform in enumerate(waveforms):
            if waveform.ndim != 1 or len(waveform) < HOP:
                raise AudioError(
                    f"waveform {position} has the shape {waveform.shape}",
                    f"One channel of at least {HOP} samples is needed.",
                )
        frames = np.array([len(waveform) // HOP for waveform in waveforms], np.int64)
        max_frames = max(1, round(batch_seconds * SAMPLE_RATE / HOP))
        found: dict[int, Transcript] = {}
        for part in batching.cut_by_budget(frames, max_frames, max_utterances):
            features = [self.features(waveforms[position]) for position in part]
            answer = self.recognize(features, int(frames[part].max()))
            for position, transcript in zip(part.tolist(), answer.transcripts, strict=True):
                if transcript is None:
                    raise AudioError(f"waveform {position}: the model's output is not finite")
                found[position] = transcript
        return [
            Hypothesis.of(str(position), found[position], len(waveform) / SAMPLE_RATE)
            for position, waveform in enumerate(waveforms)
        ]

    def recognize(self, features: Sequence[torch.Tensor], num_frames: int) -> BatchAnswer:
        """Recognise one micro-batch of :meth:`features`, padded to ``num_frames`` of 10 ms."""
        began = clock.monotonic()
        log_probs_BTV, lens_B = self._encoder.encode(features, num_frames)
        # A row's padding may hold anything, so only its own frames are looked at. What is not finite
        # anywhere in a frame is not finite in its sum.
        sums_BT = log_probs_BTV.sum(dim=-1)
        inside_BT = torch.arange(sums_BT.shape[1], device=sums_BT.device) < lens_B[:, None]
        finite_B = (sums_BT.isfinite() | ~inside_BT).all(dim=-1).tolist()
        encoded = clock.monotonic()
        found = self._search(log_probs_BTV, torch.where(torch.tensor(finite_B), lens_B.cpu(), 0))
        transcripts = [transcript if ok else None for transcript, ok in zip(found, finite_B, strict=True)]
        return BatchAnswer(tuple(transcripts), encoded - began, clock.monotonic() - encoded)
