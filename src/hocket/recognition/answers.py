"""From the answers of pieces in a journal to those of utterances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import numpy as np

from hocket.core.errors import UsageError
from hocket.core.transcript import stitch
from hocket.recognition.hypotheses import Failure, Hypothesis
from hocket.recognition.journal import Journal
from hocket.recognition.plan import Plan

Order = Literal["input", "finished"]


def check_order(order: str) -> None:
    """Raises :class:`UsageError` unless it is an :data:`Order`."""
    if order not in get_args(Order):
        raise UsageError(f"order: {order!r} is not known", f"Known: {', '.join(get_args(Order))}.")


def answers(
    plan: Plan, journal: Journal, given_up: Mapping[int, str], order: Order = "input"
) -> Iterator[Hypothesis | Failure]:
    """Every item once, with a hypothesis or a failure; one at a time, so that memory stays small.

    ``given_up`` has the reasons of pieces that the journal does not hold. In the order of the input, or
    as their last pieces were finished, those without any answer first.
    """
    positions: range | list[int] = range(len(plan.items))
    if order == "finished":
        last = np.zeros(len(plan.items), np.int64)
        np.maximum.at(last, plan.piece_item, journal.finished_at())
        positions = np.argsort(last, kind="stable").tolist()
    for position in positions:
        yield _answer(plan, journal, given_up, position)


def _answer(plan: Plan, journal: Journal, given_up: Mapping[int, str], position: int) -> Hypothesis | Failure:
    item = plan.items[position]
    if position in plan.unreadable:
        return Failure(item.id, str(item.audio), plan.unreadable[position])
    found, samples = [], 0
    for piece in plan.pieces(position):
        answer = journal.answer(piece)
        if answer is None or answer.transcript is None:
            reason = given_up.get(piece) if answer is None else answer.reason
            if reason is None:
                raise RuntimeError(f"{item.id}: neither answered nor given up")
            return Failure(item.id, str(item.audio), reason)
        start, num = samples / 16_000, int(plan.num_samples[piece])
        found.append((start, num / 16_000, answer.transcript))
        samples += num
    return Hypothesis.of(item.id, stitch(found), round(samples / 16_000, 4), item.ref, item.speaker)
