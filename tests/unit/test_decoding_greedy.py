"""Greedy CTC against a naive loop, frame by frame."""

from __future__ import annotations

import pytest
import torch

from hocket.decoding.greedy import greedy, greedy_paths

BLANK = 4


def naive(best: list[int], length: int) -> tuple[list[int], list[int]]:
    tokens, frames, previous = [], [], BLANK
    for frame, token in enumerate(best[:length]):
        if token != BLANK and token != previous:
            tokens.append(token)
            frames.append(frame)
        previous = token
    return tokens, frames


def test_a_batch_decodes_as_a_loop_over_frames_does() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(17, 40, 5, generator=generator)
    lens = torch.randint(0, 41, (17,), generator=generator)
    lens[0], lens[1] = 0, 40
    paths = greedy_paths(logits, lens, BLANK)
    for best, length, path in zip(logits.argmax(-1).tolist(), lens.tolist(), paths, strict=True):
        assert (path.tokens, path.starts) == naive(best, length)
        backwards = naive(best[:length][::-1], length)
        assert path.ends == [length - 1 - frame for frame in backwards[1][::-1]]
    assert greedy(logits, lens, BLANK) == [path.tokens for path in paths]


def test_a_blank_between_equal_tokens_keeps_both() -> None:
    frames = torch.tensor([[4, 1, 1, 4, 1, 2, 2, 4, 3]])
    logits = torch.nn.functional.one_hot(frames, 5).float()
    (path,) = greedy_paths(logits, torch.tensor([8]), BLANK)
    assert path.tokens == [1, 1, 2]
    assert path.starts == [1, 4, 5]


def test_padding_never_speaks() -> None:
    logits = torch.zeros(2, 6, 5)
    logits[:, :, 2] = 1.0
    assert greedy(logits, torch.tensor([3, 0]), BLANK) == [[2], []]
    assert greedy(torch.zeros(2, 0, 5), torch.tensor([0, 0]), BLANK) == [[], []]
    assert greedy(torch.zeros(0, 7, 5), torch.zeros(0, dtype=torch.long), BLANK) == []


@pytest.mark.parametrize(
    ("lens", "blank"), [(torch.tensor([7]), BLANK), (torch.tensor([3, 3]), BLANK), (torch.tensor([3]), 5)]
)
def test_what_does_not_belong_together_is_refused(lens: torch.Tensor, blank: int) -> None:
    with pytest.raises(ValueError):
        greedy(torch.zeros(1, 6, 5), lens, blank)
