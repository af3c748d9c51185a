"""Which words go wrong, and whose: substitutions word by word, and error rates by speaker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from hocket.decoding.normalise import Normalisation
from hocket.decoding.normalise import normalise as normalised
from hocket.decoding.wer import Scored


@dataclass(frozen=True)
class WordErrors:
    """A word of the references and what became of it; the word is empty for insertions."""

    word: str
    num_said: int
    """How often it was said."""
    errors: int
    """How often it was deleted or replaced; for the empty word, all insertions."""
    heard: tuple[tuple[str, int], ...]
    """What was heard instead, the most frequent first; an empty text is a deletion."""


@dataclass(frozen=True)
class SpeakerErrors:
    """Error rate of one speaker; None stands for utterances without one."""

    speaker: str | None
    num_utterances: int
    num_words: int
    errors: int

    @property
    def wer(self) -> float | None:
        """Errors per word; None without a word."""
        return self.errors / self.num_words if self.num_words else None


@dataclass(frozen=True)
class Breakdown:
    """Words by errors, the most first; speakers by error rate, the worst first."""

    words: tuple[WordErrors, ...]
    speakers: tuple[SpeakerErrors, ...]


def break_down(utterances: Iterable[Scored], normalise: Normalisation = "none") -> Breakdown:
    """Break the errors of all utterances with a reference down by word and by speaker."""
    said: Counter[str] = Counter()
    heard: dict[str, Counter[str]] = {}
    speakers: dict[str | None, list[int]] = {}
    for utterance in utterances:
        if utterance.ref is None:
            continue
        ref = normalised(utterance.ref, normalise).split()
        hyp = normalised(utterance.hyp, normalise).split()
        said.update(ref)
        mistakes = substitutions(ref, hyp)
        for word, instead in mistakes:
            heard.setdefault(word, Counter())[instead] += 1
        counts = speakers.setdefault(utterance.speaker, [0, 0, 0])
        for place, count in enumerate((1, len(ref), len(mistakes))):
            counts[place] += count
    words = [
        WordErrors(word, said[word], instead.total(), tuple(sorted(instead.items(), key=_most_first)))
        for word, instead in heard.items()
    ]
    by_speaker = [SpeakerErrors(speaker, *counts) for speaker, counts in speakers.items()]
    return Breakdown(
        tuple(sorted(words, key=lambda entry: (-entry.errors, entry.word))),
        tuple(sorted(by_speaker, key=lambda entry: (-(entry.wer or 0.0), entry.speaker or ""))),
    )


def substitutions(ref: list[str], hyp: list[str]) -> list[tuple[str, str]]:
    """Pairs of what was said and what was heard, where they differ; empty where there was nothing."""
    pairs = []
    for op in Levenshtein.editops(*_numbered(ref, hyp)):
        word = "" if op.tag == "insert" else ref[op.src_pos]
        instead = "" if op.tag == "delete" else hyp[op.dest_pos]
        pairs.append((word, instead))
    return pairs


def correct_words(ref: list[str], hyp: list[str]) -> list[bool]:
    """For each word of ``hyp``, whether a cheapest alignment finds it in ``ref`` at its place."""
    correct = [True] * len(hyp)
    for op in Levenshtein.editops(*_numbered(ref, hyp)):
        if op.tag != "delete":
            correct[op.dest_pos] = False
    return correct


def _numbered(ref: list[str], hyp: list[str]) -> tuple[list[int], list[int]]:
    numbers: dict[str, int] = {}
    ref_ids, hyp_ids = ([numbers.setdefault(word, len(numbers)) for word in words] for words in (ref, hyp))
    return ref_ids, hyp_ids


def _most_first(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]
