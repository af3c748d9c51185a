"""Log-mel features: those of the Parakeet models, each utterance alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from corpora import noise
from hocket.corpus.features import LogMel


@pytest.mark.parametrize("num_mel_bins", [80, 128])
@pytest.mark.parametrize("num", [16_000, 47_999, 3_200])
def test_equal_to_hugging_face(num_mel_bins: int, num: int) -> None:
    transformers = pytest.importorskip("transformers")
    extract = transformers.ParakeetFeatureExtractor(feature_size=num_mel_bins)
    x = noise(3.0, seed=num)[:num]
    theirs = extract(x, sampling_rate=16_000, return_tensors="pt")
    num_frames = int(theirs["attention_mask"].sum())
    ours = LogMel(num_mel_bins)(x)
    assert ours.shape == (num // 160, num_mel_bins) == (num_frames, num_mel_bins)
    assert (ours - theirs["input_features"][0, :num_frames]).abs().max() <= 1e-4


def test_mean_zero_deviation_one_for_each_bin() -> None:
    features_TF = LogMel()(noise(2.0))
    assert features_TF.dtype == torch.float32
    assert features_TF.mean(0).abs().max() < 1e-4
    assert (features_TF.std(0) - 1).abs().max() < 1e-3


@pytest.mark.parametrize(("num", "num_frames"), [(0, 0), (159, 0), (160, 1), (319, 1), (320, 2)])
def test_few_samples_give_finite_features(num: int, num_frames: int) -> None:
    features_TF = LogMel()(noise(1.0)[:num])
    assert features_TF.shape == (num_frames, 80)
    assert features_TF.isfinite().all()


def test_silence_gives_finite_features() -> None:
    assert LogMel()(np.zeros(16_000, np.float32)).isfinite().all()
