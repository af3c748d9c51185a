"""Log-mel features of one utterance, equal to those of the Parakeet models.

Shape suffixes: N samples, T frames of 10 ms, F mel bins, K frequency bins.

Pre-emphasis 0.97; 512-point Fourier transform of 25 ms symmetric Hann windows every 10 ms, centred,
zeros outside; power; Slaney's mel scale and area normalisation; ``log(x + 2**-24)``; then mean 0 and
standard deviation 1 (over N-1) of each bin over the utterance. The same as
``transformers.ParakeetFeatureExtractor``, and so as NeMo's ``AudioToMelSpectrogramPreprocessor``.

Mel scale: Slaney, "Auditory Toolbox", Interval Technical Report 1998-010.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from hocket.core.recipe import Section
from hocket.corpus.audio import HOP as HOP
from hocket.corpus.audio import SAMPLE_RATE

_FFT, _WINDOW, _PREEMPHASIS = 512, 400, 0.97
_GUARD = 2.0**-24
_EPSILON = 1e-5


class FeatureSettings(Section):
    """What a model hears; a model and its features belong together."""

    num_mel_bins: int = Field(80, ge=8, le=256)


def parameters(num_mel_bins: int) -> dict[str, float]:
    """What the features are made with, under the names of ``ParakeetFeatureExtractor``."""
    return {
        "feature_size": num_mel_bins,
        "sampling_rate": SAMPLE_RATE,
        "hop_length": HOP,
        "n_fft": _FFT,
        "win_length": _WINDOW,
        "preemphasis": _PREEMPHASIS,
        "padding_value": 0.0,
    }


class LogMel:
    """Turns a waveform into normalised log-mel features; holds the filter bank."""

    def __init__(self, num_mel_bins: int = 80) -> None:
        self.num_mel_bins = num_mel_bins
        side = (_FFT - _WINDOW) // 2
        window = torch.hann_window(_WINDOW, periodic=False)
        self._window = torch.nn.functional.pad(window, (side, side))
        self._mel_KF = torch.from_numpy(mel_filters(num_mel_bins))

    def __call__(self, waveform: npt.NDArray[np.float32] | torch.Tensor) -> torch.Tensor:
        """Features (T, F), float32, of 16 kHz samples (N,); ``T = N // 160``."""
        x_N = torch.as_tensor(waveform, dtype=torch.float32)
        num_frames = x_N.shape[0] // HOP
        if num_frames == 0:
            return x_N.new_zeros((0, self.num_mel_bins))
        emphasised_N = x_N.clone()
        emphasised_N[1:].sub_(x_N[:-1], alpha=_PREEMPHASIS)
        # Frames and transform by hand, and no reduction over pairs: half the time of torch.stft and sum.
        padded_N = torch.nn.functional.pad(emphasised_N, (_FFT // 2, _FFT // 2))
        frames_TN = padded_N.unfold(0, _FFT, HOP)[:num_frames] * self._window
        real_TK, imaginary_TK = torch.view_as_real(torch.fft.rfft(frames_TN)).unbind(-1)
        power_TK = torch.addcmul(real_TK.square(), imaginary_TK, imaginary_TK)
        mel_TF = (power_TK @ self._mel_KF).add_(_GUARD).log_()
        return _normalise(mel_TF)


def _normalise(mel_TF: torch.Tensor) -> torch.Tensor:
    if mel_TF.shape[0] == 1:
        # One frame has no deviation; it is its own mean.
        return torch.zeros_like(mel_TF)
    centred_TF = mel_TF.sub_(mel_TF.mean(dim=0))
    std_F = (centred_TF.square().sum(dim=0) / (mel_TF.shape[0] - 1)).sqrt_()
    return centred_TF.div_(std_F.add_(_EPSILON))


def mel_filters(num_mel_bins: int) -> npt.NDArray[np.float32]:
    """Triangular filters (K, F) from 0 to 8 kHz on Slaney's mel scale, each of area one (in Hz)."""
    hz_K = np.linspace(0.0, SAMPLE_RATE / 2, _FFT // 2 + 1)
    edges = _mel_to_hz(np.linspace(0.0, _hz_to_mel(SAMPLE_RATE / 2), num_mel_bins + 2))
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising_KF = (hz_K[:, None] - low) / (centre - low)
    falling_KF = (high - hz_K[:, None]) / (high - centre)
    triangles_KF = np.maximum(0.0, np.minimum(rising_KF, falling_KF))
    return np.asarray(triangles_KF * (2.0 / (high - low)), np.float32)


# Slaney's scale is linear up to 1 kHz (15 mel) and logarithmic above: 27 mel for a factor of 6.4.
_LINEAR_HZ, _BREAK_HZ, _BREAK_MEL = 200.0 / 3.0, 1000.0, 15.0
_PER_MEL = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return hz / _LINEAR_HZ if hz < _BREAK_HZ else _BREAK_MEL + float(np.log(hz / _BREAK_HZ)) / _PER_MEL


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear = mel * _LINEAR_HZ
    logarithmic = _BREAK_HZ * np.exp(_PER_MEL * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, linear, logarithmic)
