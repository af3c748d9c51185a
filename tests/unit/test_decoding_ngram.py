"""N-gram models: against the definition, as probabilities, and as another program reads them."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from hocket.core.errors import UsageError
from hocket.decoding import arpa, ngram
from hocket.decoding.arpa import BEGIN, END, UNKNOWN


def corpus() -> list[str]:
    chance = random.Random(5)
    weights = [1 / rank for rank in range(1, 401)]
    return [
        " ".join(chance.choices([f"w{n}" for n in range(400)], weights, k=chance.randint(1, 9)))
        for _ in range(300)
    ]


class Definition:
    """Interpolated modified Kneser-Ney as Chen & Goodman write it, straight from the text, and slow."""

    def __init__(self, sentences: Sequence[str], order: int) -> None:
        self.lines = [[BEGIN, *sentence.split(), END] for sentence in sentences]
        self.order = order
        self.words = {word for line in self.lines for word in line} - {BEGIN} | {UNKNOWN}
        self.seen = [
            Counter(tuple(line[i : i + n]) for line in self.lines for i in range(len(line) - n + 1))
            for n in range(1, order + 1)
        ]
        self.by_length = [self.counts(length) for length in range(1, order + 1)]

    def count(self, ngram: tuple[str, ...]) -> int:
        if len(ngram) == self.order or ngram[0] == BEGIN:
            return self.seen[len(ngram) - 1][ngram]
        return sum(1 for longer in self.seen[len(ngram)] if longer[1:] == ngram)

    def counts(self, length: int) -> dict[tuple[str, ...], int]:
        found = {ngram: self.count(ngram) for ngram in self.seen[length - 1]}
        return {ngram: count for ngram, count in found.items() if ngram != (BEGIN,) and count}

    def prob(self, word: str, history: tuple[str, ...]) -> float:
        length = len(history) + 1
        counts = self.by_length[length - 1]
        of = Counter(counts.values())
        share = of[1] / (of[1] + 2 * of[2])
        steps = [0.0] + [n - (n + 1) * share * of[n + 1] / of[n] for n in (1, 2, 3)]
        here = {ngram: count for ngram, count in counts.items() if ngram[:-1] == history}
        lower = self.prob(word, history[1:]) if history else 1 / len(self.words)
        total = sum(here.values())
        if not total:
            return lower
        left = sum(steps[min(count, 3)] for count in here.values()) / total
        count = here.get((*history, word), 0)
        return max(count - steps[min(count, 3)], 0.0) / total + left * lower


def test_probabilities_are_those_of_the_definition() -> None:
    sentences = corpus()
    model, definition = ngram.train(sentences, 3), Definition(sentences, 3)
    for history in [(), ("w0",), ("w1", "w0"), (BEGIN, "w2"), (BEGIN,), ("w390", "w12"), ("w3", "w1")]:
        for word in ("w0", "w5", "w390", END, UNKNOWN):
            wanted = definition.prob(word, history)
            assert 10 ** model.log_prob(word, history) == pytest.approx(wanted, rel=1e-9), (word, history)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_after_any_history_all_words_together_have_probability_one(order: int) -> None:
    model = ngram.train([*corpus(), "rare words once"], order)
    vocabulary = [word for (word,) in (key for key in model.log_probs if len(key) == 1) if word != BEGIN]
    for history in [[], [BEGIN], ["w0", "w1", "w2"], ["once"], [BEGIN, "rare"], ["never"]]:
        assert sum(10 ** model.log_prob(word, history) for word in vocabulary) == pytest.approx(1.0, abs=1e-9)


def test_a_written_model_reads_the_same_and_is_the_same_file(tmp_path: Path) -> None:
    model = ngram.train(corpus(), 3)
    model.write(tmp_path / "a.arpa")
    read = arpa.read(tmp_path / "a.arpa")
    assert read.order == 3 and read.log_probs.keys() == model.log_probs.keys()
    line = ["w3", "w0", "never", "w1"]
    assert read.sentence(line) == pytest.approx(model.sentence(line), abs=1e-4)
    read.write(tmp_path / "b.arpa")
    assert (tmp_path / "a.arpa").read_bytes() == (tmp_path / "b.arpa").read_bytes()
    assert arpa.vocabulary(tmp_path / "a.arpa") == sorted({w for s in corpus() for w in s.split()})


def test_kenlm_scores_it_alike(tmp_path: Path) -> None:
    pytest.importorskip("flashlight.lib.text.decoder")
    from hocket.decoding.fusion import WordModel

    model = ngram.train(corpus(), 3)
    model.write(tmp_path / "lm.arpa")
    kenlm = WordModel(tmp_path / "lm.arpa")
    for sentence in ("w0 w1 w0", "w390 w12 w7 w7", "never w0"):
        state, total = kenlm.start, 0.0
        for word in sentence.split():
            state, log_prob = kenlm.score(state, word)
            total += log_prob
        total += kenlm.finish(state)
        assert total == pytest.approx(model.sentence(sentence.split()) * math.log(10), abs=1e-3)


def test_small_texts_and_wrong_orders(tmp_path: Path) -> None:
    assert ngram.train(["yes"], 3).log_prob("yes", [BEGIN]) < 0
    for sentences, order in ((["yes"], 0), ([" "], 2)):
        with pytest.raises(UsageError):
            ngram.train(sentences, order)
    (tmp_path / "x").write_text("\\data\\\n\\1-grams:\nnan nan nan\n-1\ta b\n")
    with pytest.raises(UsageError, match="x:4"):
        arpa.read(tmp_path / "x")
