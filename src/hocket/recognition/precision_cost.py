"""What another backend or precision costs: the same input recognised by each, and scored."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hocket.core.errors import CorpusError
from hocket.recognition import compare, hypotheses, job
from hocket.recognition.score import score


@dataclass(frozen=True)
class Way:
    """A model and a precision to recognise with."""

    name: str
    model: str
    precision: str


@dataclass(frozen=True)
class Cost:
    """What came of a way; the first of a list is what the others are compared with."""

    name: str
    wer: float | None
    """None where the input has no references."""
    num_utterances: int
    num_differing: int
    """Utterances whose text is not that of the first way."""


def measure(ways: Sequence[Way], inputs: Sequence[str], workers: int = 1) -> list[Cost]:
    """Recognise ``inputs`` in each way. Raises what a recognition job raises."""
    costs: list[Cost] = []
    first: list[hypotheses.Hypothesis] = []
    with tempfile.TemporaryDirectory(prefix="hocket-") as folder:
        for number, way in enumerate(ways):
            out = Path(folder) / f"{number}.jsonl"
            job.recognize(way.model, inputs, out, workers=workers, device="cpu", precision=way.precision)
            found = hypotheses.read(out)
            first = first or found
            try:
                wer = score(found).wer
            except CorpusError:  # no references
                wer = None
            costs.append(Cost(way.name, wer, len(found), len(compare.differing(first, found))))
    return costs
