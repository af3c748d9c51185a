"""Weights of a beam search with a language model, chosen on speech whose texts are known.

The encoder runs once; of its outputs only what the search would try is kept, and that is searched again with
every pair of weights. In this process, on one micro-batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein

from hocket.core.errors import CorpusError
from hocket.decoding import Normalisation
from hocket.decoding import normalise as normalised
from hocket.decoding.beam import BeamSearch, BeamSettings, Tried
from hocket.decoding.fusion import Weights
from hocket.decoding.greedy import greedy_paths
from hocket.decoding.grid import Axis, choose
from hocket.decoding.vocabulary import Vocabulary
from hocket.recognition import inputs, job, opening
from hocket.recognition.encoders import Encoder
from hocket.recognition.plan import BATCH_SECONDS, make_plan
from hocket.recognition.reading import Readers
from hocket.recognition.survey import survey

_USUAL = Weights()
LM_SCALE = Axis("LM scale", first=0.2, last=1.2, step=0.2, lowest=0.0, highest=4.0, usual=_USUAL.lm_scale)
WORD_SCORE = Axis(
    "word score", first=-1.0, last=3.0, step=1.0, lowest=-8.0, highest=16.0, usual=_USUAL.word_score
)

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Point:
    """A pair of weights, and the word error rate with them as a fraction."""

    lm_scale: float
    word_score: float
    wer: float


@dataclass(frozen=True)
class Tuning:
    """What was chosen, and from what. Error rates are fractions."""

    lm: Path
    beam: int
    num_utterances: int
    num_failed: int
    """Utterances with a text that could not be heard: unreadable, or the model's output is not finite."""
    num_words: int
    greedy_wer: float
    wer: float
    """With the weights chosen. They were chosen on the same speech, so it flatters them."""
    lm_scale: float
    word_score: float
    tried: tuple[Point, ...]
    widened: tuple[str, ...]
    """Weights that were tried beyond the values tried first, since the best lay at their edge."""
    at_limit: tuple[str, ...]
    """Weights whose best value is the least or largest that is ever tried: then something else is wrong."""


@dataclass(frozen=True)
class _Heard:
    """Utterances (pieces of each), what a search tries in them, their texts, and those of a greedy search."""

    tried: list[list[Tried]]
    refs: list[list[str]]
    greedy: list[str]
    num_failed: int


def tune(
    model: str | Path,
    names: Sequence[str],
    settings: BeamSettings,
    *,
    normalise: Normalisation = "none",
    device: str = "auto",
    precision: str = "fp32",
    progress: Progress | None = None,
) -> Tuning:
    """Weights of ``settings.lm`` for a model, by the errors in ``names`` (inputs of a job, with texts).

    Both weights are tried on a grid that widens while the best lie at its edge; see
    :func:`hocket.decoding.grid.choose`. The language model must not have seen the texts that it is tuned on.

    Raises :class:`CorpusError` where no text is known, and what opening the model and the inputs raises.
    """
    if settings.lm is None:
        raise ValueError("weights of a language model need one")
    tell = progress or (lambda what, done, total: None)
    found = opening.find(model)
    encoder, vocabulary = opening.load(found, device, precision)
    search = BeamSearch(settings, vocabulary)
    heard = _hear(found, encoder, search, vocabulary, names, normalise, tell)
    num_words = sum(map(len, heard.refs))
    num_tried = 0

    def errors(at: tuple[float, ...]) -> int:
        nonlocal num_tried
        weights = replace(settings.weights, lm_scale=at[0], word_score=at[1])
        weighed = search.reweighed(weights)
        texts = [" ".join(weighed.search_tried(piece)[0].text for piece in pieces) for pieces in heard.tried]
        num_tried += 1
        tell("weights", num_tried, None)
        return _errors(texts, heard.refs, normalise)

    choice = choose(errors, (LM_SCALE, WORD_SCORE))
    lm_scale, word_score = choice.best
    return Tuning(
        lm=settings.lm,
        beam=settings.beam,
        num_utterances=len(heard.refs),
        num_failed=heard.num_failed,
        num_words=num_words,
        greedy_wer=_errors(heard.greedy, heard.refs, normalise) / num_words,
        wer=choice.errors[choice.best] / num_words,
        lm_scale=lm_scale,
        word_score=word_score,
        tried=tuple(
            Point(scale, score, count / num_words) for (scale, score), count in sorted(choice.errors.items())
        ),
        widened=choice.widened,
        at_limit=choice.at_limit,
    )


def _hear(
    found: opening.Found,
    encoder: Encoder,
    search: BeamSearch,
    vocabulary: Vocabulary,
    names: Sequence[str],
    normalise: Normalisation,
    tell: Progress,
) -> _Heard:
    """Encode all utterances with a text; those that cannot be read are counted."""
    surveyed = survey(inputs.collect(names), job.longest_piece(found))
    plan = make_plan(surveyed, BATCH_SECONDS)
    readers = Readers(encoder.features, 1)
    by_piece: dict[int, tuple[Tried, str]] = {}
    for number in range(len(plan.micro_batches)):
        tell("micro-batches", number, len(plan.micro_batches))
        lease = plan.lease(number)
        loaded = readers.load(lease)
        if not loaded.features:
            continue
        log_probs_BTV, lens_B = encoder.encode(list(loaded.features.values()), lease.num_frames)
        paths = greedy_paths(log_probs_BTV, lens_B, vocabulary.blank)
        rows_BTV, lens = log_probs_BTV.float().cpu().numpy(), lens_B.tolist()
        pieces = plan.micro_batches[number].tolist()
        for row, position in enumerate(loaded.features):
            if not np.isfinite(rows_BTV[row, : lens[row]]).all():
                continue
            tried = search.tried(rows_BTV[row, : lens[row]])
            by_piece[pieces[position]] = (tried, vocabulary.text(paths[row].tokens))
    heard = _Heard([], [], [], 0)
    num_failed = 0
    for position, item in enumerate(plan.items):
        words = [] if item.ref is None else normalised(item.ref, normalise).split()
        if not words:
            continue
        parts = [by_piece.get(piece) for piece in plan.pieces(position)]
        whole = [part for part in parts if part is not None]
        if len(whole) < len(parts):
            num_failed += 1
            continue
        heard.tried.append([tried for tried, _ in whole])
        heard.greedy.append(" ".join(text for _, text in whole))
        heard.refs.append(words)
    if not heard.refs:
        raise CorpusError(
            f"{', '.join(names)}: no utterance with a text that could be heard",
            "Weights are chosen by errors: give a table with the column text, or a prepared corpus as "
            "FOLDER:dev.",
        )
    return replace(heard, num_failed=num_failed)


def _errors(texts: Sequence[str], refs: Sequence[Sequence[str]], normalise: Normalisation) -> int:
    return sum(
        Levenshtein.distance(normalised(text, normalise).split(), list(words))
        for text, words in zip(texts, refs, strict=True)
    )
