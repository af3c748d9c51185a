"""N-gram language models in ARPA's format: text, one n-gram a line, logarithms to base 10.

https://cmusphinx.github.io/wiki/arpaformat/; KenLM and SRILM read and write it.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hocket.core import files
from hocket.core.errors import UsageError

Ngram = tuple[str, ...]
BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
NEVER = -99.0
"""The logarithm of a probability of zero, as the format writes it."""


@dataclass(frozen=True)
class NgramModel:
    """Logarithms (base 10) of probabilities and back-off weights, by n-gram."""

    order: int
    log_probs: Mapping[Ngram, float]
    backoffs: Mapping[Ngram, float]

    def log_prob(self, word: str, history: Sequence[str]) -> float:
        """log10 P(word | history), by the longest n-gram known; unknown words are ``<unk>``."""
        word = word if (word,) in self.log_probs else UNKNOWN
        known = [before if (before,) in self.log_probs else UNKNOWN for before in history]
        context = tuple(known[max(0, len(known) - self.order + 1) :])
        backed_off = 0.0
        while context:
            found = self.log_probs.get((*context, word))
            if found is not None:
                return backed_off + found
            backed_off += self.backoffs.get(context, 0.0)
            context = context[1:]
        return backed_off + self.log_probs.get((word,), NEVER)

    def sentence(self, words: Sequence[str]) -> float:
        """log10 of the probability of a sentence, its end included."""
        line = [BEGIN, *words, END]
        return sum(self.log_prob(line[place], line[:place]) for place in range(1, len(line)))

    def write(self, path: Path) -> None:
        """Write the model whole, its n-grams sorted: equal models give equal files."""
        by_order: list[list[Ngram]] = [[] for _ in range(self.order)]
        for ngram in self.log_probs:
            by_order[len(ngram) - 1].append(ngram)
        lines = ["\\data\\"]
        lines += [f"ngram {number}={len(ngrams)}" for number, ngrams in enumerate(by_order, 1)]
        for number, ngrams in enumerate(by_order, 1):
            lines += ["", f"\\{number}-grams:"]
            for ngram in sorted(ngrams):
                backoff = self.backoffs.get(ngram)
                tail = "" if backoff is None else f"\t{backoff:.6f}"
                lines.append(f"{self.log_probs[ngram]:.6f}\t{' '.join(ngram)}{tail}")
        files.write_text(path, "\n".join([*lines, "", "\\end\\", ""]))


def read(path: Path) -> NgramModel:
    """A model from an ARPA file (also .gz). Raises :class:`UsageError` naming file and line."""
    log_probs: dict[Ngram, float] = {}
    backoffs: dict[Ngram, float] = {}
    order = 0
    for number, length, fields in _entries(path):
        try:
            ngram = tuple(fields[1].split())
            if len(ngram) != length:
                raise ValueError(f"{len(ngram)} words, not {length}")
            log_probs[ngram] = float(fields[0])
            if len(fields) > 2:
                backoffs[ngram] = float(fields[2])
        except (ValueError, IndexError) as error:
            raise UsageError(f"{path}:{number}: not an n-gram: {error}") from error
        order = max(order, length)
    if not log_probs:
        raise UsageError(f"{path}: no n-grams in it", "A language model is a file in ARPA's format.")
    return NgramModel(order, log_probs, backoffs)


def vocabulary(path: Path) -> list[str]:
    """The words of a model: its unigrams, in the file's order, without the marks of a sentence."""
    words = []
    for _, length, fields in _entries(path):
        if length > 1:
            break
        if len(fields) > 1 and fields[1] not in (BEGIN, END, UNKNOWN):
            words.append(fields[1])
    if not words:
        raise UsageError(f"{path}: no words in it", "A language model is a file in ARPA's format.")
    return words


def _entries(path: Path) -> Iterator[tuple[int, int, list[str]]]:
    """Line number, order and fields of each n-gram."""
    length = 0
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8") as file
        ):
            for number, line in enumerate(file, 1):
                line = line.strip("\n\r")
                if line.startswith("\\"):
                    length = int(line[1:-7]) if line.endswith("-grams:") else 0
                elif length and line.strip():
                    yield number, length, line.split("\t") if "\t" in line else _spaced(line, length)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot read the language model: {error}") from error


def _spaced(line: str, length: int) -> list[str]:
    """Some programs part the columns by spaces."""
    fields = line.split()
    return [fields[0], " ".join(fields[1 : length + 1]), *fields[length + 1 :]]
