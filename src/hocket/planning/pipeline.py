"""How long a pipeline takes, by events: from the seconds of its stages and the order of its actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hocket.parallel.pipeline_schedule import Action, Order

Seconds = Callable[[Action], float]


@dataclass(frozen=True)
class Forecast:
    """What a simulation says of one step."""

    seconds: float
    """From the start of the first action to the end of the last."""
    busy: tuple[float, ...]
    """Seconds that each rank computes."""
    ends: dict[Action, float]
    """When each action ends."""

    @property
    def bubbles(self) -> tuple[float, ...]:
        """The share of the step in which each rank is idle."""
        return tuple(1.0 - busy / self.seconds for busy in self.busy) if self.seconds else ()

    @property
    def bubble(self) -> float:
        """Their mean."""
        return sum(self.bubbles) / len(self.bubbles) if self.bubbles else 0.0


def simulate(order: Order, seconds: Seconds, transfer: Seconds = lambda action: 0.0) -> Forecast:
    """Run the actions of :func:`~hocket.parallel.pipeline_schedule.make_order` on paper.

    ``seconds`` says how long an action takes, ``transfer`` how long what it makes then travels to the rank
    of the stage that goes on with it. A rank takes its actions in their order, one at a time, each as soon as
    what it needs is there; sending does not hold up who sends, and links are never full.

    Raises :class:`ValueError` when the actions wait for each other without end.
    """
    rank_of = {action.stage: rank for rank, actions in enumerate(order) for action in actions}
    last_stage = max(rank_of, default=0)
    ends: dict[Action, float] = {}
    free, busy, taken = [0.0] * len(order), [0.0] * len(order), [0] * len(order)

    def arrival(action: Action, rank: int) -> float | None:
        """When what the action needs is there; None when that is not known yet."""
        there = 0.0
        for needed in _needs(action, last_stage):
            if needed not in ends:
                return None
            away = rank_of[needed.stage] != rank
            there = max(there, ends[needed] + (transfer(needed) if away else 0.0))
        return there

    moved = True
    while moved:
        moved = False
        for rank, actions in enumerate(order):
            while taken[rank] < len(actions):
                action = actions[taken[rank]]
                there = arrival(action, rank)
                if there is None:
                    break
                took = seconds(action)
                free[rank] = ends[action] = max(free[rank], there) + took
                busy[rank] += took
                taken[rank] += 1
                moved = True
    if len(ends) < sum(len(actions) for actions in order):
        stuck = [str(actions[n]) for actions, n in zip(order, taken, strict=True) if n < len(actions)]
        raise ValueError(f"a pipeline that waits for itself at {', '.join(stuck)}")
    return Forecast(max(free, default=0.0), tuple(busy), ends)


def _needs(action: Action, last_stage: int) -> Sequence[Action]:
    """What must have ended before: the stage before, or the same stage forward and the stage after."""
    kind, stage, micro_batch = action
    if kind == "forward":
        return [Action("forward", stage - 1, micro_batch)] if stage else []
    needed = [Action("forward", stage, micro_batch)]
    if stage < last_stage:
        needed.append(Action("backward", stage + 1, micro_batch))
    return needed
