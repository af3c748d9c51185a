"""Where two recognitions of the same input differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hocket.recognition.hypotheses import Hypothesis


@dataclass(frozen=True)
class Difference:
    """An utterance with two answers; None where one side has none."""

    id: str
    text_a: str | None
    text_b: str | None


def differing(hyps_a: Iterable[Hypothesis], hyps_b: Iterable[Hypothesis]) -> list[Difference]:
    """Utterances whose text is not the same on both sides, in the order of ``hyps_a``.

    Those that only ``hyps_b`` holds come last.
    """
    texts_a = {hypothesis.id: hypothesis.text for hypothesis in hyps_a}
    texts_b = {hypothesis.id: hypothesis.text for hypothesis in hyps_b}
    return [
        Difference(id, texts_a.get(id), texts_b.get(id))
        for id in {**texts_a, **texts_b}
        if texts_a.get(id) != texts_b.get(id)
    ]
