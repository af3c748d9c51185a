"""An n-gram model from files of text."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hocket.core.errors import CorpusError, UsageError
from hocket.corpus.report import FILE
from hocket.decoding import ngram

_TABLES = (".jsonl", ".jsonl.gz", ".csv", ".tsv")


@dataclass(frozen=True)
class LanguageModel:
    """What was built."""

    out: Path
    order: int
    num_sentences: int
    num_words: int
    """Words of the text, repeated ones counted."""
    num_ngrams: tuple[int, ...]
    """By length."""
    perplexity: float
    """Of the text itself, per word and end of sentence: for telling a broken model, not a good one."""


def build(sources: Sequence[Path], out: Path, order: int, split: str | None = None) -> LanguageModel:
    """Train on the texts of ``sources`` and write ``out``.

    Raises :class:`UsageError` for files that cannot be read, and :class:`CorpusError` naming the line of
    a table that has no text.
    """
    sentences = [line for source in sources for line in _sentences(source, split)]
    model = ngram.train(sentences, order)
    model.write(out)
    words = [sentence.split() for sentence in sentences]
    num_words = sum(map(len, words))
    log_prob = sum(model.sentence(line) for line in words)
    return LanguageModel(
        out=out,
        order=order,
        num_sentences=len(sentences),
        num_words=num_words,
        num_ngrams=tuple(sum(len(key) == n for key in model.log_probs) for n in range(1, order + 1)),
        perplexity=10.0 ** (-log_prob / (num_words + len(sentences))),
    )


def _sentences(source: Path, split: str | None) -> Iterator[str]:
    try:
        prepared, colon, named = str(source).rpartition(":")
        if (source / FILE).is_file():
            yield from _of_corpus(source, split or "train")
            return
        if colon and not source.exists() and (Path(prepared) / FILE).is_file():
            yield from _of_corpus(Path(prepared), named)
            return
        if not source.name.endswith(_TABLES):
            if split is not None:
                raise UsageError(f"{source}: text has no splits", "Give tables, or leave the split out.")
            with _open(source) as file:
                yield from (line.strip() for line in file if line.strip())
            return
        for number, row in _rows(source):
            if split is not None and row.get("split") != split:
                continue
            text = row.get("text")
            if not isinstance(text, str):
                raise CorpusError(
                    f"{source}:{number}: no text", "A table for a language model has the column text."
                )
            if text.strip():
                yield text.strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(
            f"{source}: cannot read the text: {why}",
            "Give files with a sentence on each line, tables with the column text, or a prepared corpus as "
            "FOLDER:SPLIT.",
        ) from error


def _of_corpus(folder: Path, split: str) -> Iterator[str]:
    from hocket.corpus.index import CorpusIndex  # and torch: here for those who have a corpus

    try:
        index = CorpusIndex.open(folder, split)
    except CorpusError as error:
        raise UsageError(error.message, error.hint) from error
    for row in range(len(index)):
        text = index.utterance(row).text.strip()
        if text:
            yield text


def _rows(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with _open(source) as file:
        if source.suffix in (".csv", ".tsv"):
            reader = csv.DictReader(file, delimiter="\t" if source.suffix == ".tsv" else ",")
            yield from ((reader.line_num, row) for row in reader)
            return
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise CorpusError(f"{source}:{number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise CorpusError(f"{source}:{number}: not a JSON object")
            yield number, row


def _open(source: Path) -> Any:
    if source.suffix == ".gz":
        return gzip.open(source, "rt", encoding="utf-8", newline="")
    return source.open(encoding="utf-8", newline="")
