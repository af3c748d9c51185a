"""Audio in, words out, in this process: the Python API of recognition.

Shape suffixes: B utterances, T feature frames, F mel bins, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from hocket import batching
from hocket.core import clock
from hocket.core.errors import AudioError, UsageError
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP, LogMel
from hocket.corpus.loading import pad
from hocket.corpus.tokens import Tokens
from hocket.decoding import Transcript, greedy
from hocket.hardware.device import choose_device
from hocket.model import FastConformerCTC, store
from hocket.recognition.hypotheses import Hypothesis

Precision = Literal["fp32", "bf16"]
Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BatchAnswer:
    """Transcripts of a micro-batch; None where the model's output was not finite."""

    transcripts: tuple[Transcript | None, ...]
    encode_seconds: float
    decode_seconds: float


class Recognizer:
    """A model, its features and its tokens, ready to recognise."""

    def __init__(
        self,
        model: FastConformerCTC,
        tokens: Tokens,
        device: torch.device | None = None,
        precision: Precision = "fp32",
    ) -> None:
        check_precision(precision)
        if tokens.vocab_size != model.config.vocab_size:
            raise UsageError(
                f"the model writes {model.config.vocab_size} tokens, the token set has {tokens.vocab_size}"
            )
        self.device = device or torch.device("cpu")
        self.precision = precision
        self._tokens = tokens
        self._features = LogMel(model.config.num_mel_bins)
        self._model = model.to(self.device).eval()

    @staticmethod
    def load(
        model_folder: Path, device: str = "auto", precision: Precision = "fp32", slot: int = 0
    ) -> Recognizer:
        """Load ``RUN/model``. ``slot`` chooses the GPU where there are several.

        Raises :class:`UsageError` when the device is not there, and what the model's store raises
        when the folder is no model.
        """
        chosen = choose_device(device, slot)
        return Recognizer(store.load(model_folder), Tokens.load(model_folder), chosen, precision)

    def features(self, waveform: Samples) -> torch.Tensor:
        """Features (T, F) of one utterance (N,), 16 kHz mono float32."""
        return self._features(waveform)

    def transcribe(
        self, waveforms: Sequence[Samples], *, batch_seconds: float = 60.0, max_utterances: int = 256
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

    @torch.inference_mode()
    def recognize(self, features: Sequence[torch.Tensor], num_frames: int) -> BatchAnswer:
        """Recognise one micro-batch of features (T, F), padded with zeros to ``num_frames``."""
        began = clock.monotonic()
        features_BTF, lens_B = pad(features, num_frames, self._features.num_mel_bins)
        features_BTF, lens_B = features_BTF.to(self.device), lens_B.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits_BTV, logit_lens_B = self._model(features_BTF, lens_B, None)
        # A row's padding may hold anything, so only its own frames are looked at.
        inside_BT = torch.arange(logits_BTV.shape[1], device=self.device) < logit_lens_B[:, None]
        finite_B = (logits_BTV.isfinite().all(dim=-1) | ~inside_BT).all(dim=-1).tolist()
        encoded = clock.monotonic()
        found = greedy(logits_BTV, logit_lens_B, self._tokens.blank)
        transcripts = [
            Transcript(self._tokens.decode(ids)) if ok else None
            for ids, ok in zip(found, finite_B, strict=True)
        ]
        return BatchAnswer(tuple(transcripts), encoded - began, clock.monotonic() - encoded)


def check_precision(precision: str) -> None:
    """Raises :class:`UsageError` unless it is a :data:`Precision`."""
    known = get_args(Precision)
    if precision not in known:
        raise UsageError(f"precision: {precision!r} is not known", f"Known: {', '.join(known)}.")
