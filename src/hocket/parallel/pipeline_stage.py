"""One stage of a pipeline: what it runs, what it receives, and what it hands on.

K inner outputs and one hidden stream, R rows, T frames, D channels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from hocket.core.protocols import Evaluated
from hocket.core.work import MicroBatch
from hocket.parallel.pipeline_lines import Arrival, Line, Lines, Shape
from hocket.parallel.precision import Precision, autocast


class PieceCost(Protocol):
    """A piece of a model, and its share of a step."""

    @property
    def name(self) -> str:
        """Of the module."""
        ...

    @property
    def cost(self) -> float:
        """In any unit."""
        ...


class Cuttable(Protocol):
    """A model that is a chain of pieces, and runs without those that are elsewhere."""

    def pieces(self, num_frames: int) -> Sequence[PieceCost]:
        """All pieces in order, for utterances of so many feature frames."""
        ...

    def keep_pieces(self, kept: Collection[int]) -> None:
        """Let go of all others."""
        ...

    def handed_shape(self, piece: int, batch: MicroBatch) -> Shape:
        """Shape of what ``piece`` gets from the one before it."""
        ...

    def evaluated_shape(self, batch: MicroBatch) -> tuple[int, int]:
        """Rows and frames of what it finds without learning."""
        ...

    def run_pieces(
        self, chosen: range, batch: MicroBatch, handed_KRTD: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What the ``chosen`` pieces make of it: to be handed on, or after the last piece the loss."""
        ...

    def evaluate_pieces(
        self, chosen: range, batch: MicroBatch, handed_KRTD: torch.Tensor | None = None
    ) -> torch.Tensor | Evaluated:
        """What they make of it without learning: to be handed on, or after the last piece what it finds."""
        ...

    def get_submodule(self, target: str) -> torch.nn.Module:
        """A piece by its name."""
        ...


@dataclass(frozen=True)
class Cut:
    """What is true of all that crosses a cut; told once, before its first message."""

    dtype: torch.dtype
    learns: bool
    """Something before the cut is trained, so that gradients go back over it."""

    def as_numbers(self) -> torch.Tensor:
        """For a message."""
        return torch.tensor([_DTYPES.index(self.dtype), int(self.learns)])

    @classmethod
    def from_numbers(cls, numbers: torch.Tensor) -> Cut:
        """From a message."""
        dtype, learns = numbers.tolist()
        return cls(_DTYPES[dtype], bool(learns))


_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Inbox:
    """Receives what is expected in its order, the next message while this one is worked on."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._expected: deque[tuple[Shape, torch.dtype]] = deque()
        self._coming: Arrival | None = None

    def expect(self, shape: Shape, dtype: torch.dtype) -> None:
        """One more message of this shape."""
        self._expected.append((shape, dtype))
        self._receive()

    def take(self) -> torch.Tensor:
        """The next message; waits for it."""
        assert self._coming is not None, "nothing is expected"
        tensor, self._coming = self._coming.wait(), None
        self._receive()
        return tensor

    def _receive(self) -> None:
        if self._coming is None and self._expected:
            self._coming = self._line.receive(*self._expected.popleft())


@dataclass
class _Open:
    """A micro-batch between its forward and its backward."""

    handed: torch.Tensor | None
    edge: GradientEdge | None
    """Where the gradient of what was handed on enters; its values are not kept. None: nothing learns."""


class Stage:
    """Runs some pieces of a model on the micro-batches of a step, in ascending order.

    On the last stage ``losses`` holds the loss of each micro-batch of the step.
    """

    def __init__(
        self,
        model: Cuttable,
        number: int,
        stages: Sequence[range],
        lines: Lines,
        *,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.number, self.pieces = number, stages[number]
        self.is_first, self.is_last = number == 0, number == len(stages) - 1
        self._model, self._device, self._precision = model, device, precision
        if not self.is_first:
            self._from_before = lines.between(number - 1, number)
            self._hidden = Inbox(self._from_before)
            self._to_before = lines.between(number, number - 1)
        if not self.is_last:
            self._to_next = lines.between(number, number + 1)
            self._gradients = Inbox(lines.between(number + 1, number))
        own = model.pieces(1)[self.pieces.start : self.pieces.stop]
        self._trained = any(
            p.requires_grad for each in own for p in model.get_submodule(each.name).parameters()
        )
        self._before: Cut | None = None
        self._told = False
        self._open: dict[int, _Open] = {}
        self.losses: dict[int, torch.Tensor] = {}

    def begin(self, micro_batches: Sequence[MicroBatch]) -> None:
        """The micro-batches of a step; their shapes are the same on every rank of the pipeline."""
        self._micro_batches = micro_batches
        self._open.clear()
        self.losses.clear()
        if self._before is not None:
            self._expect(self._before)

    def receive(self, kind: str) -> torch.Tensor | None:
        """Wait for what the next pass of a ``kind`` needs from another stage: None when it needs nothing."""
        if kind == "forward":
            return None if self.is_first else self._take_hidden()
        position = next(iter(self._open))
        return None if self.is_last or self._open[position].edge is None else self._gradients.take()

    def forward(self, position: int, handed_KRTD: torch.Tensor | None) -> None:
        """Run a micro-batch, with what :meth:`receive` gave, and hand the result on."""
        batch = self._moved(self._micro_batches[position])
        if handed_KRTD is not None:
            assert self._before is not None
            handed_KRTD.requires_grad_(self._before.learns)
        with autocast(self._precision, self._device):
            out = self._model.run_pieces(self.pieces, batch, handed_KRTD)
        edge = get_gradient_edge(out) if out.requires_grad else None
        self._open[position] = _Open(handed_KRTD, edge)
        if self.is_last:
            self.losses[position] = out.detach()
            return
        self._hand_on(out.detach())
        if edge is not None:
            self._gradients.expect(out.shape, out.dtype)

    def backward(self, position: int, gradient_KRTD: torch.Tensor | None) -> None:
        """Run a micro-batch back, with what :meth:`receive` gave; its activations are free then."""
        run = self._open.pop(position)
        if run.edge is None:
            return
        given = None if self.is_last else [gradient_KRTD]
        torch.autograd.backward([run.edge], given)
        if run.handed is not None and run.handed.requires_grad:
            assert run.handed.grad is not None
            self._to_before.send(run.handed.grad)

    def evaluate(self, batch: MicroBatch) -> Evaluated | None:
        """Run one micro-batch without learning from it; what the last stage finds."""
        self.begin([batch])
        handed_KRTD = self.receive("forward")
        with autocast(self._precision, self._device):
            found = self._model.evaluate_pieces(self.pieces, self._moved(batch), handed_KRTD)
        if isinstance(found, Evaluated):
            return found
        self._hand_on(found)
        self.finish()
        return None

    def finish(self) -> None:
        """All passes of the step are done: return when all that was sent has left."""
        if not self.is_first:
            self._to_before.flush()
        if not self.is_last:
            self._to_next.flush()

    def _hand_on(self, out_KRTD: torch.Tensor) -> None:
        if not self._told:
            self._told = True
            learns = self._trained or (self._before is not None and self._before.learns)
            self._to_next.send(Cut(out_KRTD.dtype, learns).as_numbers().to(self._device))
        self._to_next.send(out_KRTD)

    def _take_hidden(self) -> torch.Tensor:
        if self._before is None:
            numbers = self._from_before.receive((2,), torch.int64).wait()
            self._before = Cut.from_numbers(numbers)
            self._expect(self._before)
        return self._hidden.take()

    def _expect(self, cut: Cut) -> None:
        if not self.is_first:
            for batch in self._micro_batches:
                self._hidden.expect(self._model.handed_shape(self.pieces.start, batch), cut.dtype)

    def _moved(self, batch: MicroBatch) -> MicroBatch:
        """The batch on the device; of its features all but the first stage know the shape alone."""
        if self.is_first:
            return batch.to(self._device)
        without = replace(batch, features_BTF=batch.features_BTF.new_empty(0)).to(self._device)
        return replace(without, features_BTF=batch.features_BTF)
