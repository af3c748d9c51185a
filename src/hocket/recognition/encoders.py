"""What computes: a waveform to features, features to log-probabilities; one class for each backend.

Shape suffixes: B utterances, T feature frames or encoder frames, F mel bins, V tokens with blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from hocket.comms.communicator import Communicator
from hocket.core.errors import CheckpointError, UsageError
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP, LogMel
from hocket.corpus.loading import pad
from hocket.model import FastConformerCTC
from hocket.model.onnx_graph import LENGTH, LENGTHS, LOGPROBS, SIGNAL
from hocket.parallel.sequence import split_sequence

Samples = npt.NDArray[np.float32]


class Encoder(Protocol):
    """A loaded model. ``features`` and ``encode`` may be called from two threads at a time."""

    vocab_size: int
    """Tokens that it writes, the blank included."""
    frame_seconds: float
    """Seconds between the frames that it writes."""

    def features(self, waveform: Samples) -> torch.Tensor:
        """What the model hears of one utterance (N,), 16 kHz mono float32; the first dimension is time."""

    def encode(self, features: Sequence[torch.Tensor], num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities (B, T, V) and lengths (B) of a micro-batch padded to ``num_frames`` of 10 ms.

        Beyond its length a row may hold anything.
        """


class TorchEncoder:
    """The model in torch, on a CPU or a GPU, in fp32 or under bf16 autocast."""

    def __init__(self, model: FastConformerCTC, device: torch.device, precision: str) -> None:
        self.vocab_size = model.config.vocab_size
        self.frame_seconds = model.config.subsampling_factor * HOP / SAMPLE_RATE
        self.features = LogMel(model.config.num_mel_bins)
        self._device, self._bf16 = device, precision == "bf16"
        self._model = model.to(device).eval()

    @torch.inference_mode()
    def encode(self, features: Sequence[torch.Tensor], num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Encoder.encode`."""
        features_BTF, lens_B = pad(features, num_frames, self.features.num_mel_bins)
        features_BTF, lens_B = features_BTF.to(self._device), lens_B.to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            logits_BTV, logit_lens_B = self._model(features_BTF, lens_B, None)
        logits_BTV = self._model.encoder.part_of(num_frames).gather(logits_BTV)
        return logits_BTV.log_softmax(dim=-1, dtype=torch.float32), logit_lens_B

    def split(self, ranks: Communicator) -> None:
        """From now on share the frames of every micro-batch with ``ranks``, which encode the same ones."""
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # nccl works on the current one
        split_sequence(self._model, ranks)


class OnnxEncoder:
    """An exported model in ONNX Runtime, on the CPU."""

    def __init__(self, path: Path, num_threads: int = 1) -> None:
        runtime = onnxruntime()
        if not path.is_file():
            raise CheckpointError(
                f"{path}: no such file", "Write it with hocket export --format onnx (and --int8)."
            )
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
        # Threads that wait in a loop would take the core from the one that reads audio.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a class for each of its errors, none in common
            raise CheckpointError(f"{path}: ONNX Runtime cannot load it: {error}") from error
        known = self._session.get_modelmeta().custom_metadata_map
        try:
            self.vocab_size, factor = int(known["vocab_size"]), int(known["subsampling_factor"])
            self.features = LogMel(int(known["feat_dim"]))
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{path}: the graph's metadata lack {error}") from error
        self.frame_seconds = factor * HOP / SAMPLE_RATE

    def encode(self, features: Sequence[torch.Tensor], num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Encoder.encode`."""
        features_BTF, lens_B = pad(features, num_frames, self.features.num_mel_bins)
        inputs = {SIGNAL: features_BTF.transpose(1, 2).numpy(), LENGTH: lens_B.numpy()}
        try:
            found_BTV, found_B = self._session.run([LOGPROBS, LENGTHS], inputs)
        except Exception as error:  # as above
            if "allocate memory" in str(error) or "bad_alloc" in str(error):
                raise MemoryError(str(error)) from error
            raise
        return torch.from_numpy(found_BTV), torch.from_numpy(found_B)


def onnxruntime() -> Any:
    """The package. Raises :class:`UsageError` where it is not installed."""
    try:
        import onnxruntime as runtime
    except ImportError as error:
        raise UsageError(
            f"a model in ONNX needs a package that is not here: {error}", "pip install 'hocket[onnx]'"
        ) from error
    return runtime
