"""Published models: folders in Hugging Face's format whose model ends in a CTC head.

``parakeet_ctc`` is computed by hocket's own model. The family of wav2vec 2.0 (Baevski et al., 2020) and
HuBERT (Hsu et al., 2021), which hears samples instead of features, is computed by ``transformers``.

Shape suffixes: B utterances, N samples, T encoder frames, V tokens with blank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hocket.core.errors import CheckpointError, UsageError
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP
from hocket.decoding.vocabulary import SENTENCEPIECE, Vocabulary
from hocket.model import hf
from hocket.recognition.encoders import Samples

PREFIX = "hf:"
"""In front of a folder in Hugging Face's format, where a model is asked for."""
TOKENIZER, VOCAB, FEATURES = "tokenizer.json", "vocab.json", "preprocessor_config.json"
_SPECIAL = ("<s>", "</s>", "<unk>", "<pad>", "[UNK]", "[PAD]", "[CLS]", "[SEP]")
_EPS = 1e-7


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a published folder. Raises :class:`CheckpointError`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot read: {error.strerror}", "Is this a folder in Hugging Face's format?"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path}: no JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return document


def vocabulary(folder: Path) -> Vocabulary:
    """The tokens of a published folder: ``tokenizer.json`` (Parakeet) or ``vocab.json`` (wav2vec 2.0).

    The blank is ``pad_token_id`` of the configuration. Raises :class:`CheckpointError` for files that
    are missing or of another kind.
    """
    config = read_json(folder / hf.CONFIG)
    blank = int(config.get("pad_token_id") or 0)
    vocab_size = int(config.get("vocab_size") or 0)
    if (folder / TOKENIZER).is_file():
        pieces, boundary = _tokenizer_pieces(folder / TOKENIZER), SENTENCEPIECE
    else:
        pieces = {int(number): piece for piece, number in read_json(folder / VOCAB).items()}
        boundary = "|"
        if (folder / "tokenizer_config.json").is_file():
            boundary = read_json(folder / "tokenizer_config.json").get("word_delimiter_token") or "|"
    size = max(vocab_size, blank + 1, *(number + 1 for number in pieces))
    texts = ["" if piece in _SPECIAL else piece for piece in (pieces.get(n, "") for n in range(size))]
    texts[blank] = ""
    return Vocabulary(tuple(texts), blank, boundary)


def _tokenizer_pieces(path: Path) -> dict[int, str]:
    document = read_json(path)
    try:
        model = document["model"]
        if isinstance(model["vocab"], dict):
            pieces = {int(number): piece for piece, number in model["vocab"].items()}
        else:
            pieces = {number: str(entry[0]) for number, entry in enumerate(model["vocab"])}
        special = [int(entry["id"]) for entry in document.get("added_tokens", ()) if entry.get("special")]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: not a tokenizer of pieces: {error!r}") from error
    return pieces | dict.fromkeys(special, "")


class WaveformEncoder:
    """A model of ``transformers`` that hears samples (``Wav2Vec2ForCTC``, ``HubertForCTC``, ``WavLMForCTC``).

    Models that normalise their first convolution over time (``feat_extract_norm: group``) know no
    padding: theirs are computed row by row, so that no answer depends on its neighbours. The others
    are told what is padding.
    """

    def __init__(self, folder: Path, device: torch.device, precision: str) -> None:
        try:
            from transformers import AutoModelForCTC
        except ImportError as error:
            raise UsageError(
                f"this model needs a package that is not here: {error}", "pip install 'hocket[hf]'"
            ) from error
        config = read_json(folder / hf.CONFIG)
        heard = read_json(folder / FEATURES)
        if heard.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
            raise CheckpointError(
                f"{folder / FEATURES}: a model for {heard['sampling_rate']} Hz; hocket reads {SAMPLE_RATE} Hz"
            )
        self._normalise = bool(heard.get("do_normalize", True))
        self._padded = config.get("feat_extract_norm") == "layer"
        try:
            model: Any = AutoModelForCTC.from_pretrained(folder, local_files_only=True)
            strides = [int(stride) for stride in config["conv_stride"]]
            kernels = [int(kernel) for kernel in config["conv_kernel"]]
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{folder}: not a model with a CTC head: {error}") from error
        self._shortest = 1
        for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
            self._shortest = (self._shortest - 1) * stride + kernel
        self._model = model.to(device).eval()
        self._device, self._bf16 = device, precision == "bf16"
        self.vocab_size = int(model.config.vocab_size)
        self.frame_seconds = math.prod(strides) / SAMPLE_RATE

    def features(self, waveform: Samples) -> torch.Tensor:
        """The samples (N,); brought to mean 0 and variance 1 where the model wants that."""
        wave = np.asarray(waveform, np.float32)
        if self._normalise:
            wave = (wave - wave.mean()) / np.sqrt(wave.var() + _EPS)
        wave = np.pad(wave, (0, max(0, self._shortest - len(wave))))  # one frame at least
        return torch.from_numpy(wave.astype(np.float32))

    @torch.inference_mode()
    def encode(self, features: Sequence[torch.Tensor], num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`~hocket.recognition.encoders.Encoder.encode`."""
        if not self._padded:
            rows = [self._run(wave_N[None], None)[0] for wave_N in features]
            lens_B = torch.tensor([len(row) for row in rows], device=self._device)
            return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lens_B
        size = max(num_frames * HOP, *(len(wave_N) for wave_N in features))
        waves_BN = torch.zeros(len(features), size)
        mask_BN = torch.zeros(len(features), size, dtype=torch.int64)
        for row, wave_N in enumerate(features):
            waves_BN[row, : len(wave_N)] = wave_N
            mask_BN[row, : len(wave_N)] = 1
        log_probs_BTV = self._run(waves_BN, mask_BN.to(self._device))
        lens_B = self._model._get_feat_extract_output_lengths(mask_BN.sum(dim=1))
        return log_probs_BTV, lens_B.to(self._device)

    def _run(self, waves_BN: torch.Tensor, mask_BN: torch.Tensor | None) -> torch.Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            logits_BTV = self._model(waves_BN.to(self._device), attention_mask=mask_BN).logits
        log_probs_BTV: torch.Tensor = logits_BTV.log_softmax(dim=-1, dtype=torch.float32)
        return log_probs_BTV
