"""An exponential moving average of the weights, kept beside those that are trained.

The average is what is validated and what recognition gets: it stands where the steps of a large
learning rate scatter around. Polyak & Juditsky, SIAM J. Control Optim. 1992; for neural networks
Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017. The warm-up of the decay is
that of TensorFlow's ``ExponentialMovingAverage``: the weights drawn at the start count for nothing soon.

Every rank keeps it for itself, out of weights that are the same on all: nothing is sent, and where
the weights are equal bit for bit, so is their average.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from pydantic import Field

from hocket.core.errors import CheckpointError
from hocket.core.held import Held, Part
from hocket.core.recipe import Section

PREFIX = "ema."
"""Of the average's tensors in a checkpoint."""


class EmaSettings(Section):
    """An average of the weights over steps, for validation and for the model that comes out."""

    decay: float = Field(default=0.0, ge=0, lt=1)
    """What stays of the average in a step: 0.999 averages over about the last thousand steps. 0 keeps
    no average. Step N (from 0) uses (1 + N) / (10 + N) while that is less."""


class Average(Protocol):
    """An average of a model's weights, or none."""

    def update(self, step: int) -> None:
        """Take in the weights after optimiser step ``step`` (from 0). Waits for no device."""
        ...

    def in_place(self) -> AbstractContextManager[None]:
        """While inside, the model holds the average; afterwards its own weights again, bit for bit."""
        ...

    def tensors(self) -> dict[str, Part]:
        """For a checkpoint: by :data:`PREFIX` and the parameter's name."""
        ...

    def take_up(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from a checkpoint's tensors; raises :class:`CheckpointError` when it has others."""
        ...


def make_average(held: Sequence[Held], settings: EmaSettings) -> Average:
    """What a recipe asks for, of what a rank holds."""
    return MovingAverage(held, settings.decay) if settings.decay > 0 else NoAverage()


def decay_at(step: int, decay: float) -> float:
    """The decay of optimiser step ``step`` (from 0): it rises to ``decay``."""
    return min(decay, (1 + step) / (10 + step))


class MovingAverage:
    """Averages of all parameters that are trained; one that is frozen is its own.

    Costs a copy of the weights, and three times their bytes of memory traffic a step.
    """

    def __init__(self, held: Sequence[Held], decay: float) -> None:
        self._trained = [each for each in held if each.trained]
        self._decay = decay
        self._weights = [each.tensor for each in self._trained]
        self._averages = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """See :class:`Average`. A step that was skipped left the weights as they were, and counts."""
        torch._foreach_lerp_(self._averages, self._weights, 1.0 - decay_at(step, self._decay))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """See :class:`Average`."""
        own = [weight.detach().clone() for weight in self._weights]
        self._set(self._averages)
        try:
            yield
        finally:
            self._set(own)

    def tensors(self) -> dict[str, Part]:
        """See :class:`Average`."""
        return {
            PREFIX + each.name: Part(average, each.place)
            for each, average in zip(self._trained, self._averages, strict=True)
        }

    def take_up(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """See :class:`Average`."""
        for name, average in self.tensors().items():
            if name not in tensors:
                raise CheckpointError(
                    f"the checkpoint holds no average of {name.removeprefix(PREFIX)}: it was taken without "
                    "ema, or with other parameters frozen",
                    "Go on with the recipe of the run, or begin another run with init.",
                )
            average.tensor.copy_(average.place.cut(tensors[name]))

    @torch.no_grad()
    def _set(self, values: list[torch.Tensor]) -> None:
        torch._foreach_copy_(self._weights, values)


class NoAverage:
    """The weights as they are."""

    def update(self, step: int) -> None:
        """Nothing to do."""

    def in_place(self) -> AbstractContextManager[None]:
        """The model holds what it holds."""
        return nullcontext()

    def tensors(self) -> dict[str, Part]:
        """None."""
        return {}

    def take_up(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """See :class:`Average`."""
        if any(name.startswith(PREFIX) for name in tensors):
            raise CheckpointError(
                "the checkpoint holds an average of the weights, the recipe asks for none",
                "Go on with the ema section of the run's recipe, or begin another run with init.",
            )
