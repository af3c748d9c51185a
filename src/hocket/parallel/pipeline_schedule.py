"""In which order each rank of a pipeline runs its stages: lists of actions, nothing else.

Stage ``s`` of ``degree * chunks`` is on rank ``s % degree``. GPipe: Huang et al., 2019 (arXiv:1811.06965).
1F1B: Narayanan et al., *PipeDream*, SOSP 2019. Interleaved: Narayanan et al., SC 2021 (arXiv:2104.04473);
rounds are of as many micro-batches as ranks there, and of one or a few more here, so that any number fits.

In every schedule a stage sees the micro-batches in ascending order, forward and backward: so messages
between two stages arrive in the order in which they are needed, and gradients add up in the order in which
one process adds them up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Literal, NamedTuple

from hocket.core.errors import UsageError

ScheduleName = Literal["gpipe", "1f1b", "interleaved"]


class Action(NamedTuple):
    """A stage runs a micro-batch, forward or backward."""

    kind: Literal["forward", "backward"]
    stage: int
    micro_batch: int
    """Its position among those of the step that hold utterances."""


Order = list[list[Action]]
"""The actions of each rank, in the order in which it takes them."""


def make_order(name: ScheduleName, degree: int, chunks: int, num_micro_batches: int) -> Order:
    """The actions of all ranks for one step; any number of micro-batches.

    Raises :class:`UsageError` when the schedule cannot have so many chunks on a rank.
    """
    check_chunks(name, chunks)
    return [_SCHEDULES[name](rank, degree, chunks, num_micro_batches) for rank in range(degree)]


def check_chunks(name: ScheduleName, chunks: int) -> None:
    """Raise :class:`UsageError` when ``chunks`` stages on each rank do not go with the schedule."""
    if (chunks > 1) != (name == "interleaved"):
        raise UsageError(
            f"layout: the schedule {name} with {chunks} chunks on each rank",
            "interleaved takes 2 or more, gpipe and 1f1b take 1.",
        )


def _gpipe(rank: int, _degree: int, _chunks: int, num: int) -> list[Action]:
    """All forward, then all backward: every micro-batch's activations are held at once."""
    return [Action("forward", rank, m) for m in range(num)] + [
        Action("backward", rank, m) for m in range(num)
    ]


def _1f1b(rank: int, degree: int, _chunks: int, num: int) -> list[Action]:
    """Backward as early as can be: at most ``degree - rank`` micro-batches are held."""
    return _alternate(_gpipe(rank, degree, 1, num), ahead=degree - rank - 1)


def _interleaved(rank: int, degree: int, chunks: int, num: int) -> list[Action]:
    """Several stages a rank, smaller each: the bubble is that much smaller, the messages that many more."""
    sizes = _rounds(degree, num)

    def actions(kind: Literal["forward", "backward"], order: range) -> Iterator[Action]:
        first = 0
        for size in sizes:
            for chunk in order:
                for micro_batch in range(first, first + size):
                    yield Action(kind, chunk * degree + rank, micro_batch)
            first += size

    forwards = actions("forward", range(chunks))
    backwards = actions("backward", range(chunks - 1, -1, -1))
    ahead = (chunks - 1) * max(sizes, default=0) + 2 * (degree - rank - 1)
    return _alternate([*forwards, *backwards], ahead)


def _rounds(degree: int, num: int) -> list[int]:
    """Micro-batches of each round: at least ``degree`` where there are so many, and nearly equal."""
    number = max(1, num // degree)
    return [num // number + (position < num % number) for position in range(number)]


def _alternate(actions: list[Action], ahead: int) -> list[Action]:
    """``ahead`` forwards, then a forward and a backward in turn, then the backwards that are left."""
    half = len(actions) // 2
    forwards, backwards = iter(actions[:half]), iter(actions[half:])
    order = list(islice(forwards, ahead))
    for forward, backward in zip(forwards, backwards, strict=False):
        order += [forward, backward]
    return [*order, *backwards]


_SCHEDULES: dict[ScheduleName, Callable[[int, int, int, int], list[Action]]] = {
    "gpipe": _gpipe,
    "1f1b": _1f1b,
    "interleaved": _interleaved,
}
