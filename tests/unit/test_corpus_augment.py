"""Augmentation is drawn from (seed, epoch, utterance), and from nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from hocket.core import seeds
from hocket.corpus.augment import AugmentSettings, draw_speed, spec_augment

KEYS = np.asarray([seeds.key("utterance", f"u{number}") for number in range(3000)], np.uint64)


def test_speeds_are_drawn_equally_often_and_anew_each_epoch() -> None:
    drawn = draw_speed(1, 0, KEYS, (90, 100, 110))
    assert drawn.dtype == np.int64
    for percent in (90, 100, 110):
        assert (drawn == percent).mean() == pytest.approx(1 / 3, abs=0.04)
    assert (drawn == draw_speed(1, 1, KEYS, (90, 100, 110))).mean() == pytest.approx(1 / 3, abs=0.04)
    assert (drawn == draw_speed(2, 0, KEYS, (90, 100, 110))).mean() == pytest.approx(1 / 3, abs=0.04)


def test_a_speed_does_not_depend_on_the_company() -> None:
    whole = draw_speed(1, 4, KEYS, (90, 100, 110))
    np.testing.assert_array_equal(draw_speed(1, 4, KEYS[100:200], (90, 100, 110)), whole[100:200])


def _mask(
    settings: AugmentSettings, num_frames: int, seed: int = 1, epoch: int = 0, key: int = 5
) -> torch.Tensor:
    return spec_augment(torch.ones(num_frames, 80), settings, seed, epoch, key) == 0


def test_masks_are_the_same_for_the_same_utterance_and_epoch_alone() -> None:
    settings = AugmentSettings()
    mask = _mask(settings, 400)
    assert torch.equal(mask, _mask(settings, 400))
    assert not torch.equal(mask, _mask(settings, 400, seed=2))
    assert not torch.equal(mask, _mask(settings, 400, epoch=1))
    assert not torch.equal(mask, _mask(settings, 400, key=6))


def test_time_masks_grow_with_the_utterance_and_stay_in_bounds() -> None:
    settings = AugmentSettings(freq_masks=0, time_masks=1, time_width=0.1)
    for num_frames in (50, 1000):
        widths = [int(_mask(settings, num_frames, key=key)[:, 0].sum()) for key in range(1500)]
        assert max(widths) == num_frames // 10
        assert min(widths) == 0
        assert np.mean(widths) == pytest.approx(num_frames / 20, rel=0.1)


def test_frequency_masks_hide_whole_bins_up_to_their_width() -> None:
    settings = AugmentSettings(freq_masks=1, freq_width=10, time_masks=0)
    counts = np.zeros(80)
    for key in range(500):
        mask = _mask(settings, 30, key=key)
        assert torch.equal(mask, mask[:1].expand(30, 80))
        assert int(mask[0].sum()) <= 10
        counts += mask[0].numpy()
    assert (counts > 0).all()


def test_no_masks_leave_the_features() -> None:
    assert not _mask(AugmentSettings(freq_masks=0, time_masks=0), 100).any()


@pytest.mark.parametrize("percents", [[], [100, 100], [40], [300]])
def test_speeds_that_make_no_sense_are_refused(percents: list[int]) -> None:
    with pytest.raises(ValidationError, match="speed_percents"):
        AugmentSettings(speed_percents=tuple(percents))
