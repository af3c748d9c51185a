"""Beam search: its sums, what it adds, which frames it leaves out, and what it calls a word."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from hocket.corpus.tokens import CharTokens
from hocket.decoding import ngram
from hocket.decoding.alignment import align
from hocket.decoding.beam import BeamSearch, BeamSettings
from hocket.decoding.fusion import Hotwords, Weights
from hocket.decoding.paths import TokenPath, words
from hocket.decoding.vocabulary import SENTENCEPIECE, Vocabulary

TOKENS = CharTokens(" ab")
VOCABULARY = Vocabulary.of(TOKENS)
WIDE = BeamSettings(beam=500, token_threshold=1e-12, blank_skip=1.0)


def log_probs(num_frames: int, seed: int, num_tokens: int = 4) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 2, (num_frames, num_tokens))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def collapsed(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != blank)


def test_a_wide_beam_sums_all_paths_of_a_text() -> None:
    """Against every path there is, one by one."""
    scores_TV = log_probs(5, 0)
    sums: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(4), repeat=5):
        key = collapsed(path, VOCABULARY.blank)
        sums[key] = sums.get(key, 0.0) + math.exp(sum(scores_TV[t, v] for t, v in enumerate(path)))
    found = BeamSearch(WIDE, VOCABULARY).search(scores_TV, num_best=5)
    best = sorted(sums.items(), key=lambda entry: -entry[1])
    assert tuple(found[0].tokens) == best[0][0]
    assert found[0].score == pytest.approx(math.log(best[0][1]), abs=1e-3)
    assert len({entry.text for entry in found}) == 5
    assert [entry.score for entry in found] == sorted((entry.score for entry in found), reverse=True)


def test_long_utterances_do_not_underflow() -> None:
    found = BeamSearch(BeamSettings(), VOCABULARY).search(log_probs(3000, 1))
    assert math.isfinite(found[0].score) and found[0].text
    assert BeamSearch(BeamSettings(), VOCABULARY).search(log_probs(0, 1))[0].text == ""


def test_skipped_blanks_still_part_equal_tokens() -> None:
    """a, blank, blank, blank, a is two of them; of the blanks one is searched."""
    scores_TV = np.full((5, 4), math.log(1e-5), np.float32)
    for frame, token in enumerate((1, 3, 3, 3, 1)):
        scores_TV[frame, token] = math.log(1 - 3e-5)
    search = BeamSearch(BeamSettings(), VOCABULARY)
    assert search.searched_frames(scores_TV).tolist() == [0, 1, 4]
    assert search.search(scores_TV)[0].text == "aa"
    assert BeamSearch(BeamSettings(blank_skip=1.0), VOCABULARY).searched_frames(scores_TV).tolist() == [
        *range(5)
    ]


def between(first: str, second: str, share: float) -> np.ndarray:
    """Frames that spell ``first`` with probability ``share`` and ``second`` otherwise, letter by letter."""
    scores_TV = np.full((2 * len(first), 4), 1e-4)
    for place, (a, b) in enumerate(zip(first, second, strict=True)):
        scores_TV[2 * place, TOKENS.encode(a)[0]] += share
        scores_TV[2 * place, TOKENS.encode(b)[0]] += 1 - share
        scores_TV[2 * place + 1, VOCABULARY.blank] = 1.0
    return np.log(scores_TV / scores_TV.sum(axis=1, keepdims=True)).astype(np.float32)


def test_hotwords_are_preferred_only_as_whole_words() -> None:
    scores_TV = between("a ab", "a bb", 0.6)

    def text(*hotwords: str) -> str:
        weights = Weights(hotword_score=2.0)
        return (
            BeamSearch(BeamSettings(hotwords=hotwords, weights=weights), VOCABULARY).search(scores_TV)[0].text
        )

    assert text() == "a ab"
    assert text("bb") == "a bb"
    assert text("a bb") == "a bb"
    assert text("bba") == "a ab"  # spelt half: what it had gained is taken back
    assert text("b") == "a ab"


def test_what_a_hotword_gains_is_given_back_if_it_is_not_finished() -> None:
    hotwords = Hotwords(["ab", "ab ba"], 1.0)

    def gained(text: str) -> float:
        state, total = hotwords.start, 0.0
        for character in text:
            state, change = hotwords.step(state, character)
            total += change
        return total

    assert gained("ab ") == 3.0
    assert gained("ab ba ") == 6.0
    assert gained("ab bb ") == 3.0
    assert gained("aa ") == gained("bab ") == gained("abb ") == 0.0
    assert gained("ab ab ") == 6.0


def test_a_language_model_chooses_between_words(tmp_path: Path) -> None:
    pytest.importorskip("flashlight.lib.text.decoder")
    ngram.train(["a bb", "a bb", "bb a", "ab"], 2).write(tmp_path / "lm.arpa")
    scores_TV = between("a ab", "a bb", 0.6)
    for scale, text in ((0.0, "a ab"), (2.0, "a bb")):
        weights = Weights(lm_scale=scale, word_score=0.0)
        settings = BeamSettings(lm=tmp_path / "lm.arpa", weights=weights)
        assert BeamSearch(settings, VOCABULARY).search(scores_TV)[0].text == text


def test_other_weights_need_no_new_search(tmp_path: Path) -> None:
    """Over what is tried in the frames, once and for all: as a search made with them answers."""
    pytest.importorskip("flashlight.lib.text.decoder")
    ngram.train(["a bb", "ab ba b"], 2).write(tmp_path / "lm.arpa")
    first = BeamSearch(BeamSettings(lm=tmp_path / "lm.arpa", hotwords=("ba",)), VOCABULARY)
    scores_TV = log_probs(30, 4)
    for weights in (Weights(0.0, 0.0), Weights(2.0, 3.0, -1.0, 4.0)):
        settings = BeamSettings(lm=tmp_path / "lm.arpa", hotwords=("ba",), weights=weights)
        wanted = BeamSearch(settings, VOCABULARY).search(scores_TV, 5)
        assert first.reweighed(weights).search_tried(first.tried(scores_TV), 5) == wanted
        assert first.search(scores_TV, 5) != wanted


def test_the_forced_alignment_is_the_best_of_all_paths() -> None:
    scores_TV = log_probs(6, 3)
    for tokens in ([1, 1], [1, 2], [2], [1, 0, 2], []):
        best = max(
            (path for path in itertools.product(range(4), repeat=6) if collapsed(path, 3) == tuple(tokens)),
            key=lambda path: sum(float(scores_TV[t, v]) for t, v in enumerate(path)),
        )
        assert align(scores_TV, tokens, 3) == TokenPath.of_frames(best, 3)
    assert align(scores_TV[:2], [1, 1], 3) is None
    assert align(scores_TV[:0], [], 3) == TokenPath([], [], [])


def test_words_have_the_frames_of_their_tokens_and_the_least_confidence() -> None:
    scores_TV = np.log(np.full((8, 4), 0.1, np.float32))
    scores_TV[1, 1] = scores_TV[2, 1] = math.log(0.9)
    scores_TV[3, 2] = math.log(0.6)
    scores_TV[6, 1] = math.log(0.8)
    path = TokenPath([1, 2, 0, 1], [1, 3, 5, 6], [2, 3, 5, 7])
    first, second = words(path, scores_TV, VOCABULARY, 0.04)
    assert (first.text, first.start, first.end, first.confidence) == ("ab", 0.04, 0.16, 0.6)
    assert (second.text, second.start, second.end, second.confidence) == ("a", 0.24, 0.32, 0.8)


@pytest.mark.parametrize(
    "vocabulary",
    [
        Vocabulary((f"{SENTENCEPIECE}he", "llo", f"{SENTENCEPIECE}", "you", ""), 4, SENTENCEPIECE),
        Vocabulary(("he", "llo", "|", "you", ""), 4, "|"),
    ],
)
def test_words_are_those_of_the_text(vocabulary: Vocabulary) -> None:
    ids = [2, 0, 1, 2, 2, 3, 4]
    assert vocabulary.text(ids) == "hello you"
    assert [word for word, _ in vocabulary.words(ids)] == ["hello", "you"]
    assert vocabulary.words(ids)[0][1] == [1, 2]
